#!/usr/bin/env python3
"""Looks at README.md, the other pages beside it and docs/: links lead to files that are there, the README is short, and
every command in a code block is in tests/doc-commands, which says what runs it, or why nothing does. Prints what is wrong.

A line of tests/doc-commands is `PREFIX, PREFIX… => TEST` or `PREFIX, PREFIX… => not run: REASON`. PREFIX is how
commands begin, without `sudo`. TEST is a file; it has to exist. A prefix that no command needs is wrong as well.
"""

import pathlib
import re
import sys

TREE = pathlib.Path(__file__).parent.parent
PAGES = "README.md CONTRIBUTING.md RELEASING.md SECURITY.md ARCHITECTURE.md docs/*.md"
README_WORDS = 900
# In an indented block, other things than commands stand as well. These words begin one.
WORDS = """install-record apt apt-get dnf install cp cd systemctl nginx python3 echo dpkg-reconfigure docker make
    receive PATH=SRC/debian/dh:$PATH""".split()


def commands(text):
    """The commands in code blocks, without `sudo`, the lines that they continue on and their here-documents."""
    text = re.sub(r"(<<-?'(\w+)'.*\n)(?:.*\n)*? *\2\n", r"\1", text.replace("\\\n", ""))
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    for kind, block in fence.findall(text):
        # Behind `#!` is a file of somebody's, to be read.
        for line in map(str.strip, block.split("#!")[0].splitlines()):
            if kind == "console" and line.startswith("$ ") or kind == "sh" and line and line[0] != "#":
                yield line.removeprefix("$ ").removeprefix("sudo ")
    for line in re.findall(r"^    (.*)", fence.sub("", text), re.MULTILINE):
        line = line.strip().removeprefix("$ ")
        if line.split(" ")[0] in WORDS or line.startswith("/opt/"):
            yield line.removeprefix("sudo ")


known = [line.split(" => ", 1) for line in (TREE / "tests/doc-commands").read_text().splitlines() if line[0] != "#"]
known = {prefix: runner for prefixes, runner in known for prefix in prefixes.split(", ")}
used, problems = set(), []
for page in (page for names in PAGES.split() for page in sorted(TREE.glob(names))):
    name, text = page.relative_to(TREE), page.read_text()
    for command in commands(text):
        found = {prefix for prefix in known if command.startswith(prefix)}
        used |= found
        if not found:
            problems.append(f"{name}: no test in tests/doc-commands: {command}")
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    problems += [f"{name}: a link to {to}, which is not there" for to in targets if not (page.parent / to).exists()]
for prefix, runner in known.items():
    if not runner.startswith("not run: ") and not (TREE / runner).is_file():
        problems.append(f"tests/doc-commands: {prefix}: there is no test {runner!r}")
    if prefix not in used:
        problems.append(f"tests/doc-commands: no page has '{prefix}'")
words = len((TREE / "README.md").read_text().split())
if words > README_WORDS:
    problems.append(f"README.md has {words} words, more than {README_WORDS}")
print("\n".join(problems), end="\n" if problems else "")
sys.exit(bool(problems))
