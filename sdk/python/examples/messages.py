"""Messages without an answer: the sender learns when each has been taken.

    WAYMESH_INVITE="$(waymesh invite --auto-approve --reusable)" python examples/messages.py
"""

import asyncio
import tempfile

from waymesh import Agent

scratch = tempfile.TemporaryDirectory()

reader = Agent("inbox-reader", data_dir=f"{scratch.name}/reader")
writer = Agent("inbox-writer", data_dir=f"{scratch.name}/writer")


async def read() -> None:
    async for message in reader.messages():
        print(f"{message.sender} says {message.data} over {message.path}")
        if message.data == {"done": True}:
            await message.ack()  # a loop that goes on acknowledges by itself
            return


async def main() -> None:
    async with reader, writer:
        reading = asyncio.create_task(read())
        for number in range(3):
            await writer.send("inbox-reader", {"number": number})
        sent = await writer.send("inbox-reader", {"done": True}, wait="delivered")
        print(f"the last one is {sent.state}")
        await reading


asyncio.run(main())
