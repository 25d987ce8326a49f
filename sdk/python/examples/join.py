"""An agent joins a mesh with an invite, and is a member from then on.

    WAYMESH_INVITE="$(waymesh invite)" python examples/join.py

Without `--auto-approve` an admin has to approve what the agent prints.
"""

import asyncio
import os
import tempfile

from waymesh import Agent, Event

invite = os.environ.pop("WAYMESH_INVITE")


async def main() -> None:
    with tempfile.TemporaryDirectory() as data_dir:
        agent = Agent("newcomer", invite=invite, data_dir=data_dir, start_timeout=300)

        @agent.on("pending")
        def ask(event: Event) -> None:
            assert event.pending is not None
            request, fingerprint = event.pending.request, event.pending.fingerprint
            print(f"approve me with: waymesh approve {request} --fingerprint {fingerprint}")

        async with agent:
            joined = await agent.info()
            print(f"{joined.name} is in the mesh {joined.mesh} until {joined.certificate_expires}")

        # What proves it is in the data directory now: no invite is needed again.
        async with Agent("newcomer", data_dir=data_dir) as agent:
            assert (await agent.info()).mesh == joined.mesh


asyncio.run(main())
