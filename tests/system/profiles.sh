#!/bin/bash
# The format of profiles: a real validator, by profiles/profile.schema.json, judges every profile, good and broken, as
# `install-record check` does, and docs/profiles.md tells the same (profiles/compare.py). And what the README runs is run.
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/../.." || exit 1

compare() {
	need python3
	python3 -c 'import jsonschema; jsonschema.Draft202012Validator' 2>/dev/null ||
		skip 'no JSON Schema 2020-12 validator (python3-jsonschema)'
	python3 tests/system/profiles/compare.py
}

# Each `install-record ...` in the README's table of profiles makes a record, where the profile finds what it needs.
readme() {
	local machine=$case_dir/tree line count=0
	mkdir -p "$machine"/{etc/memgraph,var/lib/memgraph}
	echo 'PRETTY_NAME="Test 1"' >"$machine/etc/os-release"
	echo '--telemetry-enabled=true' >"$machine/etc/memgraph/memgraph.conf"
	echo '{"strapi":{"uuid":"7b581c0d-89b7-479e-b379-a76ab90b8754"}}' >"$machine/package.json"
	while IFS= read -r line; do
		count=$((count + 1))
		# The line is words and quotes as in a shell.
		(cd "$machine" && eval "set -- ${line#install-record}" && HOME=/root "$BINARY" show --root "$machine" "$@" </dev/null) |
			grep '^[[{]' || fail "$line"
	done < <(sed -n 's/^| [a-z]*\( (default)\)\? | `\(install-record .*\)` |$/\2/p' README.md)
	expect 'lines' 5 "$count"
}

run_case 'schema, page and program: keys, listed values, good profiles and broken ones' 240 compare
run_case "every run in the README's table of profiles" 30 readme
finish
