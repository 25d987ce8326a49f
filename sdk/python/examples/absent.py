"""A message to an agent that is not there waits for it, sealed, in its mailbox.

    WAYMESH_INVITE="$(waymesh invite --auto-approve --reusable)" python examples/absent.py
"""

import asyncio
import tempfile

from waymesh import Agent

scratch = tempfile.TemporaryDirectory()


def agent(name: str) -> Agent:
    return Agent(name, data_dir=f"{scratch.name}/{name}")


async def main() -> None:
    async with agent("night-owl"):
        print("night-owl was here and has gone to bed")

    async with agent("early-bird") as early:
        states = early.events("state")
        sent = await early.send("night-owl", "good morning", wait="stored", ttl=86_400)
        print(f"early-bird: {sent.state}")  # from here on it may be gone, too

        async with agent("night-owl") as owl:
            async for message in owl.messages():
                print(f"night-owl: {message.sender} says {message.data}")
                await message.ack()
                break

            async for event in states:
                if event.sent and event.sent.message_id == sent.message_id and event.sent.is_final:
                    print(f"early-bird: {event.sent.state}")
                    break


asyncio.run(main())
