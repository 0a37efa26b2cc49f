"""Holds profiles/profile.schema.json, docs/profiles.md and `install-record check` against each other.

Run from the top of the source tree by tests/system/profiles.sh, with BINARY set.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema

SCHEMA = json.loads(Path("profiles/profile.schema.json").read_text())
PAGE = Path("docs/profiles.md")
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GONE = object()
problems = []


def check(profile):
    """The status of `install-record check` and all that it says."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "mine.json")
        path.write_text(profile if isinstance(profile, str) else json.dumps(profile))
        ended = subprocess.run([os.environ["BINARY"], "check", path], capture_output=True, text=True, timeout=20)
        return ended.returncode, (ended.stdout + ended.stderr).strip()


def expect(what, is_so, more=""):
    if not is_so:
        problems.append(f"{what}: {more}")


def objects(node):
    """Every object of the schema."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else []:
        yield from objects(inner)


def changed(changes):
    """The good profile, where {place: value} is changed; GONE takes the place out."""
    profile = base()
    for place, value in changes.items():
        *way, last = [int(step) if step.isdigit() else step for step in place.split("/")]
        part = profile
        for step in way:
            part = part[step]
        if value is GONE:
            del part[last]
        elif isinstance(part, list) and last == len(part):
            part.append(value)
        else:
            part[last] = value
    return profile


def base():
    """A good profile in which every section is there."""
    return json.loads(Path("tests/profiles/lumenq.json").read_text())


def good():
    VALIDATOR.check_schema(SCHEMA)
    files = {*Path().glob("profiles/*.json"), *Path().glob("tests/profiles/*.json")} - {Path("profiles/profile.schema.json")}
    expect("profiles", len(files) >= 6, files)
    for path in files:
        is_good(path, path.read_text())


def definition(name):
    return SCHEMA["$defs"][name]


def keys():
    top = SCHEMA["properties"]
    places = {
        "": SCHEMA,
        "consent/": top["consent"],
        "consent/files/0/": definition("file_rule"),
        "endpoint_variables/": top["endpoint_variables"],
        "success/": top["success"],
        "consent/default_off/": top["consent"]["properties"]["default_off"],
        "identity/project.id/": definition("id_rule"),
        "set/channel/": top["set"]["additionalProperties"],
    }
    for name, node in top["options"]["properties"].items():
        places[f"options/{name}/"] = definition(node["$ref"].removeprefix("#/$defs/")) if "$ref" in node else node
    given = top["set"]["additionalProperties"]["properties"]
    rule = definition("id_rule")["properties"]
    values = {"once": top["once"], "identity/project.id/format": rule["format"], "identity/project.id/mode": rule["mode"],
              "set/queues/form": given["form"]}
    # Told about one that it does not know, the program lists those that it knows.
    for place, node in (places | values).items():
        made = {place[:-1]: {}} if place.startswith("options/") or place.endswith("default_off/") else {}
        _, said = check(changed({**made, **({place: "zzz"} if "enum" in node else {f"{place}zzz": {}})}))
        found = re.search(r": unknown (?:field|variant) `zzz`, expected (.*)", said)
        known = set(re.findall("`(.+?)`", found[1])) if found else said
        listed = set(node.get("enum", node.get("properties")))
        expect(place or "top", known == listed, f"program {known}, schema {listed}")

    # A section that is added to the schema has to be added above; but for those whose keys are names of options, IDs and ways:
    # see the cases of an unknown one of each.
    named = [top["options"], top["identity"], top["success"]["properties"]["any"]["items"]]
    closed = {id(node) for node in objects(SCHEMA) if node.get("additionalProperties") is False}
    expect("closed objects of the schema", closed == {id(node) for node in [*places.values(), *named]})


# What cannot stand in a place.
BROKEN = {
    "name": [GONE, "a/b", ".mine", "x" * 65, 7],
    "consent": [GONE, []],
    "endpoint": [GONE, "ftp://mine.example/", "https:///x", "mine.example"],
    "about": [["x"]],
    "$schema": [7],
    "bodies": [{}],
    # Two kinds of record.
    "body": [{}],
    "events": [{}],
    "success": [[]],
    "endpoint_variables": [[]],
    "consent/variables": ["MINE_OFF"],
    "consent/variables/0": ["MINE-OFF"],
    "consent/present/0": ["1OFF", ""],
    "consent/files/0/gflag": [GONE, "--send-records", "send=false"],
    # A second rule.
    "consent/files/0/true": ["/x"],
    "consent/files/0/path": [GONE, "etc/mine.flags", "{home}/../x", "{home}/x/", "{tmp}/x", "{home}"],
    "consent/files/1/absent": ["records", "/a~2b"],
    "consent/files/1/written": [True],
    "consent/files/2/written": ["yes"],
    "endpoint_variables/path": ["$X"],
    "headers/X Y": ["z"],
    "headers/Content-length": ["7"],
    "headers/X-Y": [7],
    "success/status": [302, "200"],
    "success/any/0/absent": ["/x"],
    "success/any/0": [{"zzz": "/x"}, {}],
    "options/colour": [{}],
    # Consent comes before it.
    "options/project": [{}],
    "options/product-version/required": ["true"],
    "identity/machine.id": [{"file": "/x"}],
    "identity/project.id/file": [GONE],
    "identity/project.id/key": ["a:b"],
    "identity/project.id/reserved": [["x"]],
    "identity/project.id/format": ["ulid"],
    "identity/project.id/mode": ["0666", 644],
    "identity/project.id/made": ["no"],
    "identity/instance.id/also": ["/x"],
    "once": ["daily"],
    "debug": ["X"],
    "set/a b": [{}],
    "set/channel": ["stable"],
    "set/queues/form": ["integer"],
    "set/queues/names": [["a"]],
    "set/queues/default": ["twelve"],
    "set/edition/default": ["COMMUNITY"],
    "set/plugins/default": [{"amqp": -1}],
    # It has a default.
    "set/channel/required": [True],
    "events/7": [{}],
    "events/a b": [{}],
    "events/": [{}],
    "default_events": ["start"],
}
BROKEN_TOGETHER = [
    {"events": GONE, "default_events": GONE},
    {"default_events": ["start"], "events": GONE, "set": GONE, "headers/X-LumenQ-Channel": GONE, "body": {"a": ["$project.id", "$instance.id"]}},
    {"identity/project.id/key": "id", "identity/project.id/pointer": "/id"},
]


def broken():
    expect("the one that is not broken", check(base())[0] == 0 and VALIDATOR.is_valid(base()))
    for changes in [{place: value} for place, values in BROKEN.items() for value in values] + BROKEN_TOGETHER:
        profile = changed(changes)
        expect(f"{changes}, schema", not VALIDATOR.is_valid(profile))
        status, said = check(profile)
        expect(f"{changes}, program", status == 2 and len(said.splitlines()) == 1, f"{status}: {said}")
        # The place, which for a value that is wrong is the one that was changed.
        is_named = any(place.split("/")[0] in said.split(": ", 2)[2] for place in changes)
        expect(f"{changes}, place", is_named or "body:" in said, said)
    # What only the program can tell; more of it is in src/profile.rs and src/template.rs.
    for text, message in [
        (json.dumps(changed({"headers/X-Y": "${user}"})), "headers.X-Y: 'user' is no fact"),
        (json.dumps(base()) + " " * (64 << 10), "larger than 65536 bytes"),
    ]:
        expect(f"{message}: now the schema can tell", VALIDATOR.is_valid(json.loads(text)))
        status, said = check(text)
        expect(message, status == 2 and message in said, f"{status}: {said}")


def is_good(what, text):
    errors = [error.message for error in VALIDATOR.iter_errors(json.loads(text))]
    expect(f"{what}, schema", not errors, errors)
    status, said = check(text)
    expect(f"{what}, program", status == 0, said)


def page():
    text = PAGE.read_text()

    names = {name for node in objects(SCHEMA) for name in node.get("properties", {})}
    for name in sorted(names):
        expect("a key that the page lacks", f"`{name}`" in text or f'"{name}"' in text, name)
    blocks = re.findall(r"```json\n(.*?)```", text, re.S)
    examples = [block for block in blocks if '"endpoint"' in block and '"name"' in block]
    expect("whole profiles on the page", len(examples) >= 1, len(examples))
    for example in examples:
        is_good(example, example)
    # A part of a profile: right in its place of a good one.
    parts = [block for block in blocks if block not in examples]
    expect("parts on the page", len(parts) >= 5, len(parts))
    for part in parts:
        members = json.loads("{" + part + "}")
        profile = {**base(), **members}
        if "body" in members:
            for key in ("events", "default_events", "set"):
                del profile[key]
        elif "events" not in members:
            # What is given or kept has to be named.
            named = [f"${fact}" for fact in profile["identity"]] + [f"$set.{key}" for key in profile["set"]]
            profile["events"] = {"start": named}
        is_good(part, json.dumps(profile))


for case in (good, keys, broken, page):
    case()
sys.exit("\n".join(problems) or None)
