"""Two agents in one program: one offers skills, the other calls them.

    WAYMESH_INVITE="$(waymesh invite --auto-approve --reusable)" python examples/echo.py
"""

import asyncio
import tempfile

from waymesh import Agent, InvalidArguments

scratch = tempfile.TemporaryDirectory()

server = Agent("echo-server", data_dir=f"{scratch.name}/server")
caller = Agent("echo-caller", data_dir=f"{scratch.name}/caller")


@server.skill(idempotent=True)
async def shout(text: str, times: int = 1) -> str:
    """Says a text louder."""
    return " ".join([text.upper() + "!"] * times)


async def main() -> None:
    async with server, caller:
        print(await caller.call("echo-server", "shout", {"text": "hello", "times": 2}))
        try:
            await caller.call("echo-server", "shout", {"text": 5})
        except InvalidArguments as error:
            print(f"refused: {error}")
        pong = await caller.ping("echo-server")
        print(f"{pong.rtt_ms:.2f} ms over {pong.path}")


asyncio.run(main())
