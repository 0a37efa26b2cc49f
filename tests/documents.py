#!/usr/bin/env python3
"""Looks at README.md, the other pages beside it and docs/: links lead to files that are there, the README is short, and every
command in a code block is in tests/doc-commands, which says what runs it, or why nothing does. Prints what is wrong.

A line of tests/doc-commands is `PREFIX => TEST` or `PREFIX => not run: REASON`. PREFIX is how commands begin, without `sudo`.
TEST is a file; it has to exist. A line that no command needs is wrong as well.
"""

import glob
import os
import re
import sys

os.chdir(os.path.join(os.path.dirname(__file__), ".."))
PAGES = ["README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "ARCHITECTURE.md", *sorted(glob.glob("docs/*.md"))]
README_WORDS = 900
# In an indented block, other things than commands stand as well. These words begin one.
WORDS = ("install-record apt apt-get dnf install cp cd systemctl nginx python3 echo dpkg-reconfigure docker make receive "
         "PATH=SRC/debian/dh:$PATH").split()
problems = []


def commands(page):
    """The lines of code blocks that are commands, with their numbers."""
    fence = None
    here_document = None
    continued = False
    for number, line in enumerate(open(page, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        start = re.match(r"```(\w*)", line)
        if start:
            fence = None if fence is not None else start.group(1)
            continue
        if fence is None:
            text = line.strip()
            text = text[2:] if text.startswith("$ ") else text
            is_command = line.startswith("    ") and (text.split(" ")[0] in WORDS or text.startswith("/opt/"))
        elif fence == "console":
            text = line[2:]
            is_command = line.startswith("$ ")
        else:
            text = line.strip()
            is_command = fence == "sh" and text and not text.startswith("#")
            if here_document:
                is_command = False
                here_document = None if text == here_document else here_document
            found = re.search(r"<<-?'(\w+)'", text)
            here_document = found.group(1) if found else here_document
        was_continued, continued = continued, text.endswith("\\")
        if is_command and not was_continued:
            yield number, text.removeprefix("sudo ")


known = {}
with open("tests/doc-commands", encoding="utf-8") as file:
    for line in file:
        if line.strip() and not line.startswith("#"):
            prefix, _, runner = line.rstrip("\n").partition(" => ")
            known[prefix] = runner
            if not runner.startswith("not run: ") and not os.path.isfile(runner):
                problems.append(f"tests/doc-commands: {prefix}: there is no test {runner!r}")

used = set()
for page in PAGES:
    if not os.path.exists(page):
        continue
    for number, command in commands(page):
        found = [prefix for prefix in known if command.startswith(prefix)]
        used.update(found)
        if not found:
            problems.append(f"{page}:{number}: no test in tests/doc-commands: {command}")
    with open(page, encoding="utf-8") as file:
        text = file.read()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        if not os.path.exists(os.path.join(os.path.dirname(page), target)):
            problems.append(f"{page}: a link to {target}, which is not there")
problems += [f"tests/doc-commands: no page has '{prefix}'" for prefix in known if prefix not in used]
words = len(open("README.md", encoding="utf-8").read().split())
if words > README_WORDS:
    problems.append(f"README.md has {words} words, more than {README_WORDS}")

print("\n".join(problems), end="\n" if problems else "")
sys.exit(bool(problems))
