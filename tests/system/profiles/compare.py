"""Holds profiles/profile.schema.json, docs/profiles.md and `install-record check` against each other.

Run from the top of the source tree by tests/system/profiles.sh, with BINARY set: compare.py CASE.
"""

import copy
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


def changed(profile, *changes):
    """A copy in which each (place, value) is changed; GONE takes the place out."""
    profile = copy.deepcopy(profile)
    for place, value in changes:
        *way, last = place
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


def files():
    sources = [path for path in Path("profiles").glob("*.json") if not path.name.endswith(".schema.json")]
    return sorted([*sources, *Path("tests/profiles").glob("*.json")])


def good():
    VALIDATOR.check_schema(SCHEMA)
    expect("profiles", len(files()) >= 6, files())
    for path in files():
        errors = [error.message for error in VALIDATOR.iter_errors(json.loads(path.read_text()))]
        expect(f"{path}, schema", not errors, errors)
        status, said = check(path.read_text())
        expect(f"{path}, program", status == 0, said)


def definition(name):
    return SCHEMA["$defs"][name]


def keys():
    top = SCHEMA["properties"]
    options = top["options"]["properties"]
    places = [
        ((), SCHEMA),
        (("consent",), top["consent"]),
        (("consent", "files", 0), definition("file_rule")),
        (("endpoint_variables",), top["endpoint_variables"]),
        (("success",), top["success"]),
        (("consent", "default_off"), top["consent"]["properties"]["default_off"]),
                (("identity", "project.id"), definition("id_rule")),
        (("set", "channel"), top["set"]["additionalProperties"]),
    ]
    for name, node in options.items():
        node = definition(node["$ref"].removeprefix("#/$defs/")) if "$ref" in node else node
        places.append((("options", name), node))
    for place, node in places:
        way = [(place, {})] if place[:1] == ("options",) or place[1:] == ("default_off",) else []
        _, said = check(changed(base(), *way, ((*place, "zzz"), {})))
        found = re.search(r"zzz: unknown field `zzz`, expected (.*)", said)
        known = set(re.findall("`(.+?)`", found[1])) if found else said
        expect(".".join(map(str, place)) or "top", known == set(node["properties"]),
               f"program {known}, schema {set(node['properties'])}")

    # A section that is added to the schema has to be added above.
    def closed(node):
        if isinstance(node, dict):
            if node.get("additionalProperties") is False:
                yield id(node)
            node = list(node.values())
        for inner in node if isinstance(node, list) else []:
            yield from closed(inner)

    probed = {id(node) for _, node in places}
    # Whose keys are names of options, IDs and ways: see the cases of an unknown one of each.
    named = {id(top["options"]), id(top["identity"]), id(top["success"]["properties"]["any"]["items"])}
    expect("closed objects of the schema", set(closed(SCHEMA)) == probed | named)


def values():
    rule = definition("id_rule")["properties"]
    given = SCHEMA["properties"]["set"]["additionalProperties"]["properties"]
    for place, node in [
        (("once",), SCHEMA["properties"]["once"]),
        (("identity", "project.id", "format"), rule["format"]),
        (("identity", "project.id", "mode"), rule["mode"]),
        (("set", "queues", "form"), given["form"]),
    ]:
        for value in node["enum"]:
            status, said = check(changed(base(), (place, value)))
            expect(f"{place} {value}", status == 0, said)
        # The program lists what it knows: none may be missing in the schema.
        status, said = check(changed(base(), (place, "zzz")))
        found = re.search(r": unknown variant `zzz`, expected (.*)$", said)
        expect(f"{place} names all", found and re.findall("`(.+?)`", found[1]) == node["enum"], said)


BROKEN = [
    ("no name", [(("name",), GONE)]),
    ("no consent", [(("consent",), GONE)]),
    ("no endpoint", [(("endpoint",), GONE)]),
    ("no record", [(("events",), GONE), (("default_events",), GONE)]),
    ("two kinds of record", [(("body",), {})]),
    ("no events", [(("events",), {})]),
    ("a default without events", [(("default_events",), ["start"]), (("events",), GONE), (("set",), GONE), (("headers", "X-LumenQ-Channel"), GONE), (("body",), {"a": ["$project.id", "$instance.id"]})]),
    ("a name with a slash", [(("name",), "a/b")]),
    ("a hidden name", [(("name",), ".mine")]),
    ("a long name", [(("name",), "x" * 65)]),
    ("a name that is a number", [(("name",), 7)]),
    ("an about that is no text", [(("about",), ["x"])]),
    ("a $schema that is no text", [(("$schema",), 7)]),
    ("a key with a slip", [(("bodies",), {})]),
    ("consent as a list", [(("consent",), [])]),
    ("success as a list", [(("success",), [])]),
    ("variables of the endpoint as a list", [(("endpoint_variables",), [])]),
    ("a variable that is a text", [(("consent", "variables"), "MINE_OFF")]),
    ("a variable with a dash", [(("consent", "variables", 0), "MINE-OFF")]),
    ("a variable with a digit first", [(("consent", "present", 0), "1OFF")]),
    ("an empty variable", [(("consent", "present", 0), "")]),
    ("a file without a rule", [(("consent", "files", 0, "gflag"), GONE)]),
    ("a file with two rules", [(("consent", "files", 0, "true"), "/x")]),
    ("a rule without a file", [(("consent", "files", 0, "path"), GONE)]),
    ("a flag with its dashes", [(("consent", "files", 0, "gflag"), "--send-records")]),
    ("a flag with a value", [(("consent", "files", 0, "gflag"), "send=false")]),
    ("a pointer without its slash", [(("consent", "files", 1, "absent"), "records")]),
    ("a pointer with a wrong escape", [(("consent", "files", 1, "absent"), "/a~2b")]),
    ("an absence that is written", [(("consent", "files", 1, "written"), True)]),
    ("written as a text", [(("consent", "files", 2, "written"), "yes")]),
    ("a relative path", [(("consent", "files", 0, "path"), "etc/mine.flags")]),
    ("a path that goes up", [(("consent", "files", 0, "path"), "{home}/../x")]),
    ("a path of a directory", [(("consent", "files", 0, "path"), "{home}/x/")]),
    ("an unknown place", [(("consent", "files", 0, "path"), "{tmp}/x")]),
    ("a place alone", [(("consent", "files", 0, "path"), "{home}")]),
    ("an endpoint by ftp", [(("endpoint",), "ftp://mine.example/")]),
    ("an endpoint without a host", [(("endpoint",), "https:///x")]),
    ("an endpoint without a scheme", [(("endpoint",), "mine.example")]),
    ("a path's variable with a $", [(("endpoint_variables", "path"), "$X")]),
    ("a header with a blank", [(("headers", "X Y"), "z")]),
    ("a header of the transport", [(("headers", "Content-length"), "7")]),
    ("a header that is a number", [(("headers", "X-Y"), 7)]),
    ("success by a 302", [(("success", "status"), 302)]),
    ("success by a text", [(("success", "status"), "200")]),
    ("success by two rules in one", [(("success", "any", 0, "absent"), "/x")]),
    ("success by an unknown rule", [(("success", "any", 0), {"zzz": "/x"})]),
    ("success by no rule", [(("success", "any", 0), {})]),
    ("an unknown option", [(("options", "colour"), {})]),
    ("an option that consent comes before", [(("options", "project"), {})]),
    ("required as a text", [(("options", "product-version", "required"), "true")]),
    ("an unknown ID", [(("identity", "machine.id"), {"file": "/x"})]),
    ("an ID without a file", [(("identity", "project.id", "file"), GONE)]),
    ("an ID in two places", [(("identity", "project.id", "key"), "id"), (("identity", "project.id", "pointer"), "/id")]),
    ("an ID with a colon in its key", [(("identity", "project.id", "key"), "a:b")]),
    ("other lines without a line", [(("identity", "project.id", "reserved"), ["x"])]),
    ("an unknown format", [(("identity", "project.id", "format"), "ulid")]),
    ("another mode", [(("identity", "project.id", "mode"), "0666")]),
    ("a mode as a number", [(("identity", "project.id", "mode"), 644)]),
    ("made as a text", [(("identity", "project.id", "made"), "no")]),
    ("one other file as a text", [(("identity", "instance.id", "also"), "/x")]),
    ("once a day", [(("once",), "daily")]),
    ("debug as a text", [(("debug",), "X")]),
    ("a given key with a blank", [(("set", "a b"), {})]),
    ("a given key as a text", [(("set", "channel"), "stable")]),
    ("an unknown form", [(("set", "queues", "form"), "integer")]),
    ("names of no counters", [(("set", "queues", "names"), ["a"])]),
    ("a default of the wrong form", [(("set", "queues", "default"), "twelve")]),
    ("a default that is no plain word", [(("set", "edition", "default"), "COMMUNITY")]),
    ("counters that are no numbers", [(("set", "plugins", "default"), {"amqp": -1})]),
    ("a required value with a default", [(("set", "channel", "required"), True)]),
    ("an event that is a number", [(("events", "7"), {})]),
    ("an event with a blank", [(("events", "a b"), {})]),
    ("an empty event", [(("events", ""), {})]),
    ("a default event that is no list", [(("default_events",), "start")]),
]


def broken():
    expect("the one that is not broken", check(base())[0] == 0 and VALIDATOR.is_valid(base()))
    for what, changes in BROKEN:
        profile = changed(base(), *changes)
        expect(f"{what}, schema", not VALIDATOR.is_valid(profile))
        status, said = check(profile)
        expect(f"{what}, program", status == 2 and len(said.splitlines()) == 1, f"{status}: {said}")
        # The place, which for a value that is wrong is the one that was changed.
        expect(f"{what}, place", any(place[0] in said.split(": ", 2)[2] for place, _ in changes) or "body:" in said, said)


BEYOND = [
    ("an unknown fact", [(("events", "start", "x"), "$host.name")], "events.start.x: 'host.name' is no fact; known are record.uuid"),
    ("an unknown fact in a text", [(("headers", "X-Y"), "${user}")], "headers.X-Y: 'user' is no fact"),
    ("a brace that stays open", [(("events", "start", "x"), "${os.id")], "events.start.x: '{os.id' is no fact"),
    ("an optional key that is always known", [(("events", "start", "x?"), "y")], "events.start.x?: a key that ends in ?"),
    ("a key with and without its mark", [(("events", "start", "release?"), "$os.id")], "events.start: has a key twice"),
    ("an ID that is kept nowhere", [(("identity", "instance.id"), GONE)], "identity.instance.id: missing"),
    ("a value that no template names", [(("set", "colour"), {})], "set.colour: no template names $set.colour"),
    ("a default event that is none", [(("default_events",), ["stop"])], "default_events: there is no event 'stop'"),
    ("http to another machine", [(("endpoint",), "http://mine.example/")], "neither https nor http to a loopback address"),
    ("a user in the endpoint", [(("endpoint",), "https://me@mine.example/")], "neither https nor http to a loopback address"),
    ("a record that is too large", [(("events", "start", "x"), ["y" * 250] * 20)], "a template has at most 4096"),
]


def beyond():
    for what, changes, message in BEYOND:
        profile = changed(base(), *changes)
        expect(f"{what}: now the schema can tell", VALIDATOR.is_valid(profile))
        status, said = check(profile)
        expect(what, status == 2 and message in said, f"{status}: {said}")
    for what, text, message in [
        ("a key that is there twice", '{"name":"a","name":"b"}', "duplicate field `name`"),
        ("no JSON", "{", "EOF while parsing"),
        ("a file that is too large", json.dumps(base()) + " " * (64 << 10), "larger than 65536 bytes"),
    ]:
        status, said = check(text)
        expect(what, status == 2 and message in said, f"{status}: {said}")


def page():
    text = PAGE.read_text()

    def names(node):
        if isinstance(node, dict):
            yield from node.get("properties", {})
            node = list(node.values())
        for inner in node if isinstance(node, list) else []:
            yield from names(inner)

    for name in sorted(set(names(SCHEMA))):
        expect("a key that the page lacks", f"`{name}`" in text or f'"{name}"' in text, name)
    examples = [example for example in re.findall(r"```json\n(.*?)```", text, re.S) if '"endpoint"' in example and '"name"' in example]
    expect("whole profiles on the page", len(examples) >= 1, len(examples))
    for example in examples:
        profile = json.loads(example)
        errors = [error.message for error in VALIDATOR.iter_errors(profile)]
        expect(f"{profile['name']}, schema", not errors, errors)
        status, said = check(profile)
        expect(f"{profile['name']}, program", status == 0, said)
    # A part of a profile: right in its place of a good one.
    parts = [part for part in re.findall(r"```json\n(.*?)```", text, re.S) if part not in examples]
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
        errors = [error.message for error in VALIDATOR.iter_errors(profile)]
        expect(f"{part}, schema", not errors, errors)
        status, said = check(profile)
        expect(f"{part}, program", status == 0, said)


{case.__name__: case for case in (good, keys, values, broken, beyond, page)}[sys.argv[1]]()
for problem in problems:
    print(problem)
sys.exit(1 if problems else 0)
