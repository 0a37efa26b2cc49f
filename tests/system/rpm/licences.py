"""Compares a spec's licence expression with those of the crates that are linked into the binary.

Usage: cargo metadata ... | licences.py "EXPRESSION". An expression is a set of terms joined by AND; a term of
alternatives is written in any order. Build-time crates (build scripts, procedural macros) are in no binary.
"""

import json
import re
import sys


def terms(expression):
    """The terms of an expression, each a sorted tuple of its alternatives."""
    expression = expression.replace("/", " OR ").strip()
    found = set()
    # Terms in parentheses first; what is left has either no AND or no OR.
    for inner in re.findall(r"\(([^()]*)\)", expression):
        found.add(tuple(sorted(re.split(r" OR ", inner))))
    rest = re.sub(r"\([^()]*\)", "", expression)
    for part in re.split(r"\bAND\b", rest):
        if part.strip():
            found.add(tuple(sorted(re.split(r"\s+OR\s+", part.strip()))))
    return found


def linked(metadata):
    """The packages that are linked in: reached without a build dependency or a procedural macro."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    seen, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        name = todo.pop()
        is_macro = any("proc-macro" in target["kind"] for target in packages[name]["targets"])
        if name in seen or is_macro:
            continue
        seen.add(name)
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return [packages[name] for name in seen]


declared = terms(sys.argv[1])
# Rust's standard library and musl.
needed = {("Apache-2.0", "MIT"), ("MIT",)}
for package in linked(json.load(sys.stdin)):
    for term in terms(package["license"]):
        needed.add(term)
        if term not in declared:
            print(f"{package['name']} {package['version']}: {' OR '.join(term)} is not in the spec")
for term in declared - needed:
    print(f"{' OR '.join(term)} is in the spec and in no crate")
sys.exit(declared != needed)
