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


def check(text):
    """The status of `install-record check` and all that it says."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "mine.json")
        path.write_text(text)
        ended = subprocess.run([os.environ["BINARY"], "check", path], capture_output=True, text=True, timeout=20)
        return ended.returncode, (ended.stdout + ended.stderr).strip()


def judged(what, text, by_schema, by_program):
    """What the program says about a profile, which is as good as that for the schema and for the program."""
    errors = [error.message for error in VALIDATOR.iter_errors(json.loads(text))]
    expect(f"{what}, schema", bool(errors) != by_schema, errors)
    status, said = check(text)
    expect(f"{what}, program", status == (0 if by_program else 2), f"{status}: {said}")
    return said


def objects(node):
    """Every object of the schema."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else []:
        yield from objects(inner)


def changed(changes):
    """The good profile, where {place: value} is changed; GONE takes the place out."""
    profile = json.loads(BASE)
    for place, value in changes.items():
        *way, last = [int(step) if step.isdigit() else step for step in place.split("/")]
        part = profile
        for step in way:
            part = part[step] if isinstance(part, list) else part.setdefault(step, {})
        if value is GONE:
            del part[last]
        elif isinstance(part, list) and last == len(part):
            part.append(value)
        else:
            part[last] = value
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
        _, said = check(changed({place[:-1]: "zzz"} if "enum" in node else {f"{place}zzz": {}}))
        found = re.search(r": unknown (?:field|variant) `zzz`, expected (.*)", said)
        known = set(re.findall("`(.+?)`", found[1])) if found else said
        listed = set(node.get("enum", node.get("properties")))
        # But for names of options and IDs: see the cases of an unknown one of each.
        is_named = place in ("options/", "identity/")
        expect(place or "top", known == listed or is_named, f"program {known}, schema {listed}")
    closed = {id(node) for node in objects(SCHEMA) if "enum" in node or node.get("additionalProperties") is False}
    expect("what the schema closes", closed == {id(node) for _, node in places(SCHEMA)})


# What cannot stand in these places.
BROKEN = [
    # It has to be there.
    ("name, consent, endpoint, consent/files/0/gflag, consent/files/0/path, identity/project.id/file", [GONE]),
    # No such key or name; or two kinds of record; or what is looked at before consent.
    ("bodies, options/colour, set/a b, body, events, options/project", [{}]),
    # Another type.
    ("name, $schema, headers/X-Y", [7]),
    ("about", [["x"]]),
    ("consent/variables", ["MINE_OFF"]),
    ("consent/files/2/written", ["yes"]),
    ("options/product-version/required", ["true"]),
    ("identity/project.id/product_made, identity/project.id/public", ["no"]),
    ("set/channel", ["stable"]),
    ("set/queues/names", [["a"]]),
    ("debug", ["X"]),
    # Another form.
    ("name", ["a/b", ".mine", "x" * 65]),
    ("endpoint", ["ftp://mine.example/", "https:///x", "mine.example"]),
    ("options/instance-id/default", ["x"]),
    ("consent/variables/0", ["MINE-OFF"]),
    ("consent/present/0", ["1OFF", ""]),
    ("consent/files/0/gflag", ["--send-records", "send=false"]),
    ("consent/files/0/path", ["etc/mine.flags", "{home}/../x", "{home}/x/", "{tmp}/x", "{home}"]),
    ("consent/files/1/absent", ["records", "/a~2b"]),
    ("endpoint_path", ["$X"]),
    ("success/status", ["200"]),
    ("success/absent", ["x"]),
    ("identity/machine.id", [{"file": "/x"}]),
    ("identity/project.id/key", ["a:b"]),
    ("identity/project.id/format", ["ulid"]),
    ("identity/instance.id/also", ["/x"]),
    ("once", ["daily"]),
    ("set/queues/form", ["integer"]),
    ("default_events", ["start"]),
]
# What the schema shows to an author. The program passes it over, as it does nothing, or says so when a record is made.
HARMLESS = [
    ("consent, success", [[]]),
    ("events/7, events/a b, events/", [{}]),
    ("headers/X Y, headers/Content-length", ["7"]),
    ("consent/files/0/true", ["/x"]),
    ("consent/files/1/written, set/channel/required", [True]),
    ("identity/project.id/reserved", [["x"]]),
    ("success/status", [302]),
    ("options/url/default, options/state-file/default, options/pid/default", ["7"]),
    ("set/queues/default", ["twelve"]),
    ("set/edition/default", ["COMMUNITY"]),
    ("set/plugins/default", [{"amqp": -1}]),
]
BROKEN_TOGETHER = [
    {"events": GONE, "default_events": GONE},
    {"identity/project.id/key": "id", "identity/project.id/pointer": "/id"},
]


def alone(table):
    return [{place: value} for places, values in table for place in places.split(", ") for value in values]


def broken():
    judged("the one that is not broken", BASE, True, True)
    for changes in alone(HARMLESS):
        judged(changes, changed(changes), False, True)
    for changes in alone(BROKEN) + BROKEN_TOGETHER:
        said = judged(changes, changed(changes), False, False)
        # One line, with the place, which for a value that is wrong is the one that was changed.
        is_named = any(place.split("/")[0] in said.split(": ", 2)[2] for place in changes)
        expect(f"{changes}, place", len(said.splitlines()) == 1 and (is_named or "body:" in said), said)
    # What only the program can tell; more of it is in src/profile.rs and src/template.rs.
    for text, message in [
        (changed({"headers/X-Y": "${user}"}), "headers.X-Y: 'user' is no fact"),
        (BASE + " " * (64 << 10), "larger than 65536 bytes"),
    ]:
        said = judged(message, text, True, False)
        expect(message, message in said, said)


def page():
    text = Path("docs/profiles.md").read_text()
    for name in sorted({name for node in objects(SCHEMA) for name in node.get("properties", {})}):
        expect("a key that the page lacks", f"`{name}`" in text or f'"{name}"' in text, name)
    blocks = re.findall(r"```json\n(.*?)```", text, re.S)
    examples = [block for block in blocks if '"endpoint"' in block and '"name"' in block]
    # The others are parts of a profile: right in their places of a good one.
    parts = [block for block in blocks if block not in examples]
    expect("whole profiles and parts on the page", len(examples) >= 1 and len(parts) >= 5, blocks)
    for part in parts:
        members = json.loads("{" + part + "}")
        profile = json.loads(BASE) | members
        if "body" in members:
            for key in ("events", "default_events", "set"):
                del profile[key]
        elif "events" not in members:
            # What is given or kept has to be named.
            named = [f"${fact}" for fact in profile["identity"]] + [f"$set.{key}" for key in profile["set"]]
            profile["events"] = {"start": named}
        examples.append(json.dumps(profile))
    for example in examples:
        judged(example, example, True, True)


for case in (good, keys, broken, page):
    case()
sys.exit("\n".join(problems) or None)
