#!/usr/bin/env python3
"""Checks that the documents tell the truth about names.

Every path that ARCHITECTURE.md names between backticks must exist, every stop
`file::function` must be a function of that file, there must be five stops, and
the page keeps to 150 lines. In every document links to files must lead
somewhere. Exit 0 when all holds, 1 when it does not.
"""

import pathlib
import re
import sys

PAGE = "ARCHITECTURE.md"
MAX_LINES = 150
STOPS = 5

STOP = re.compile(r"^(?P<file>[\w./-]+\.rs)::(?P<item>\w+(?:::\w+)*)$")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PATH = re.compile(r"^\.?[\w.-]+(?:/[\w.-]+)+/?$|^[\w-]+\.(?:rs|md|toml|py|json|cddl)$")


def problems_of(text, root):
    """Everything on the page that is not true, as text."""
    problems = []
    lines = text.count("\n") + 1
    if lines > MAX_LINES:
        problems.append(f"{PAGE} has {lines} lines; at most {MAX_LINES} are allowed")
    stops = 0
    for number, line in enumerate(text.splitlines(), 1):
        for quoted in re.findall(r"`([^`]+)`", line):
            stop = STOP.match(quoted)
            if stop:
                stops += 1
                problem = stop_problem(root / stop["file"], stop["item"])
            elif PATH.match(quoted) and not (root / quoted).exists():
                problem = "there is no such file or folder"
            else:
                problem = None
            if problem:
                problems.append(f"{PAGE}:{number}: `{quoted}`: {problem}")
    if stops < STOPS:
        problems.append(f"{PAGE} names {stops} stops `file::function`; the way of a message has {STOPS}")
    return problems


def stop_problem(file, item):
    """Why a stop does not exist, or None."""
    if not file.is_file():
        return "there is no such file"
    source = file.read_text(encoding="utf-8")
    *owners, function = item.split("::")
    for owner in owners:
        if not re.search(rf"\b(?:struct|enum|trait|impl|mod|for)\b[^;{{]*\b{owner}\b", source):
            return f"the file has no type {owner}"
    if not re.search(rf"\bfn {function}\b", source):
        return f"the file has no function {function}"
    return None


def dead_links(page, root):
    """Every link of a page that leads nowhere, as text."""
    text = page.read_text(encoding="utf-8")
    targets = [m[1] for m in LINK.finditer(text) if not (page.parent / m[1]).exists()]
    return [f"{page.relative_to(root)}: the link to {target} leads nowhere" for target in targets]


def main(root):
    page = root / PAGE
    if not page.is_file():
        print(f"stops: {PAGE} does not exist")
        return 1
    problems = problems_of(page.read_text(encoding="utf-8"), root)
    for folder in (".", "spec", "fuzz", "sdk/python"):
        for other in sorted((root / folder).glob("*.md")):
            problems += dead_links(other, root)
    for problem in problems:
        print(f"stops: {problem}")
    if not problems:
        print(f"stops: everything that {PAGE} and the links of the other pages name exists")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(__file__).resolve().parent.parent))
