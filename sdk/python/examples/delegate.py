"""A coordinator finds workers by their skill and shares work among them.

    WAYMESH_INVITE="$(waymesh invite --auto-approve --reusable)" python examples/delegate.py
"""

import asyncio
import contextlib
import tempfile
from collections import Counter

from waymesh import Agent

scratch = tempfile.TemporaryDirectory()
TEXT = "to be or not to be that is the question whether it is nobler to be".split()


def agent(name: str) -> Agent:
    return Agent(name, data_dir=f"{scratch.name}/{name}")


async def main() -> None:
    async with contextlib.AsyncExitStack() as running:
        for number in range(3):
            worker = agent(f"tally-{number}")
            worker.skill("tally", idempotent=True)(lambda words, /: Counter(words))
            await running.enter_async_context(worker)
        boss = await running.enter_async_context(agent("boss"))

        workers = [found.name for found in await boss.find(skill="tally") if found.online]
        parts = [TEXT[i :: len(workers)] for i in range(len(workers))]
        calls = (boss.call(name, "tally", part) for name, part in zip(workers, parts))
        total = sum((Counter(part) for part in await asyncio.gather(*calls)), Counter())
        print(f"{len(workers)} workers counted {total.total()} words: {total.most_common(3)}")


asyncio.run(main())
