"""Holds profiles/profile.schema.json, docs/profiles.md and `install-record check` (BINARY) against each other."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema

SCHEMA = json.loads(Path("profiles/profile.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# A good profile in which every section is there.
BASE = Path("tests/profiles/lumenq.json").read_text()
GONE = object()
problems = []


def expect(what, is_so, more=""):
    if not is_so:
        problems.append(f"{what}: {more}")


def judged(what, text, by_schema, by_program):
    """What the program says about a profile, which is as good as that for the schema and for the program."""
    errors = [error.message for error in VALIDATOR.iter_errors(json.loads(text))]
    expect(f"{what}, schema", bool(errors) != by_schema, errors)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        ended = subprocess.run([os.environ["BINARY"], "check", file.name], capture_output=True, text=True, timeout=20)
    said = (ended.stdout + ended.stderr).strip()
    expect(f"{what}, program", ended.returncode == (0 if by_program else 2), f"{ended.returncode}: {said}")
    return said


def objects(node):
    """Every object of the schema."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else []:
        yield from objects(inner)


def changed(place, value):
    """The good profile with this value at this place; GONE takes the place out."""
    part = profile = json.loads(BASE)
    *way, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    for step in way:
        part = part[step] if isinstance(part, list) else part.setdefault(step, {})
    if isinstance(part, list):
        part[last:last + 1] = [value]
    else:
        part[last] = value
    if value is GONE:
        del part[last]
    return json.dumps(profile)


def good():
    VALIDATOR.check_schema(SCHEMA)
    files = {*Path().glob("profiles/*.json"), *Path().glob("tests/profiles/*.json")} - {Path("profiles/profile.schema.json")}
    expect("profiles", len(files) >= 6, files)
    for path in files:
        judged(path, path.read_text(), True, True)


def places(node, place=""):
    """Where in a profile each closed object and each list of words is that the schema has."""
    node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    if "enum" in node or node.get("additionalProperties") is False:
        yield place, node
    inner = node.get("properties", {}) | ({"0": node["items"]} if "items" in node else {})
    if isinstance(node.get("additionalProperties"), dict):
        inner = {"mine": node["additionalProperties"]}
    for name, part in inner.items():
        yield from places(part, f"{place}{name}/")


def keys():
    # Told about one that it does not know, the program lists those that it knows.
    for place, node in places(SCHEMA):
        broken = changed(place[:-1], "zzz") if "enum" in node else changed(f"{place}zzz", {})
        said = judged(place, broken, False, False)
        found = re.search(r": unknown (?:field|variant) `zzz`, expected (.*)", said)
        known = set(re.findall("`(.+?)`", found[1])) if found else said
        listed = set(node.get("enum", node.get("properties")))
        # But for names of options and IDs: see the cases of an unknown one of each.
        is_named = place in ("options/", "identity/")
        expect(place or "top", known == listed or is_named, f"program {known}, schema {listed}")
    closed = {id(node) for node in objects(SCHEMA) if "enum" in node or node.get("additionalProperties") is False}
    expect("what the schema closes", closed == {id(node) for _, node in places(SCHEMA)})


# What cannot stand in these places: places, and a value.
BROKEN = [
    # It has to be there.
    ("name, consent, endpoint, consent/files/0/gflag, consent/files/0/path, identity/project.id/file", GONE),
    # No such key or name; or two kinds of record; or what is looked at before consent.
    ("bodies, options/colour, set/a b, body, events, options/project", {}),
    # Another type.
    ("name, $schema, about, headers/X-Y, consent/variables, consent/files/2/written, debug, set/channel", 7),
    ("options/product-version/required, identity/project.id/product_made, identity/project.id/public", 7),
    ("set/queues/names", ["a"]),
    # Another form.
    ("name, identity/project.id/key", "a/b:c"),
    ("name", "x" * 65),
    ("endpoint", "ftp://mine.example/"),
    ("endpoint", "https:///x"),
    ("options/instance-id/default, identity/project.id/format, once, set/queues/form", "x"),
    ("consent/variables/0, consent/present/0", "1OFF"),
    ("consent/files/0/path, identity/instance.id/also", "{tmp}/x"),
    ("consent/files/0/path", "{home}/../x"),
    ("consent/files/0/gflag", "send=false"),
    ("consent/files/1/absent", "/a~2b"),
    ("endpoint_path", "$X"),
    ("success/status", "200"),
    ("success/absent", "x"),
    ("identity/machine.id", {"file": "/x"}),
    ("default_events", "start"),
]


def broken():
    judged("the one that is not broken", BASE, True, True)
    for place, value in ((place, value) for places, value in BROKEN for place in places.split(", ")):
        what = f"{place} {value}"
        said = judged(what, changed(place, value), False, False)
        # One line, with the place, which for a value that is wrong is the one that was changed.
        is_named = place.split("/")[0] in said.split(": ", 2)[2] or "body:" in said
        expect(f"{what}, place", len(said.splitlines()) == 1 and is_named, said)
    # What only the program can tell; more of it is in src/profile.rs and tests/roots/expected.
    said = judged("large", BASE + " " * (64 << 10), True, False)
    expect("large", "larger than 65536 bytes" in said, said)


def page():
    text = Path("docs/profiles.md").read_text()
    for name in sorted({name for node in objects(SCHEMA) for name in node.get("properties", {})}):
        expect("a key that the page lacks", f"`{name}`" in text or f'"{name}"' in text, name)
    blocks = re.findall(r"```json\n(.*?)```", text, re.S)
    examples = [block for block in blocks if '"endpoint"' in block and '"name"' in block]
    expect("whole profiles on the page", len(examples) >= 1, blocks)
    for example in examples:
        judged(example, example, True, True)


for case in (good, keys, broken, page):
    case()
sys.exit("\n".join(problems) or None)
