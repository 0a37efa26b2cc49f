#!/bin/bash
# The format of profiles: its schema (profiles/profile.schema.json), its page (docs/profiles.md) and the program must
# not drift apart. A real validator judges every profile, good and broken, and `install-record check` judges the same.
# Started by tests/run; see lib.sh for what it expects. profiles/compare.py has the cases.
# run_case calls the functions.
# shellcheck disable=SC1091,SC2317
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/../.." || exit 1

compare() {
	need python3
	python3 -c 'import jsonschema; jsonschema.Draft202012Validator' 2>/dev/null ||
		skip 'no JSON Schema 2020-12 validator (python3-jsonschema)'
	python3 tests/system/profiles/compare.py "$1"
}

run_case 'all profiles of the source tree are good for schema and program' 60 compare good
run_case 'every key is known to both schema and program' 60 compare keys
run_case 'every listed value is taken by the program' 60 compare values
run_case 'broken profiles are refused by both' 120 compare broken
run_case 'what only the program can refuse' 60 compare beyond
run_case 'docs/profiles.md has every key, and only examples that work' 60 compare page
finish
