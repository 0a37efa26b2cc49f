#!/bin/bash
# What is looked at without being run: scripts, spelling, documents, and what comes from other people's crates (deny.toml).
. "$(dirname "$0")/cases.sh"
cd "$(dirname "$0")/.." || exit 1

# Every file of the source tree, NUL-terminated: what git knows or would take, or all of it where there is no git.
# shellcheck disable=SC2185
files() {
	{ git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
		find . \( -name target -o -name dist -o -name vendor -o -name .git \) -prune -o -print0; } |
		find -files0-from - -prune -type f -print0 2>/dev/null
}

# The shell scripts among them: by their first line, or parts of a script, which name their shell for shellcheck.
shell_scripts() {
	need shellcheck
	files | xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da|k)?sh($| )|^# shellcheck shell=/ { printf "%s%c", FILENAME, 0 }
		{ nextfile }' | xargs -0 shellcheck -x -P SCRIPTDIR
}

# crate and KeyPair are Rust's words; staus is what a test mistypes.
spelling() {
	need codespell
	files | grep -zvE '(^|/)(Cargo\.lock|copyright)$|^(\./)?(fuzz/corpus|tests/(cpuinfo|roots)|debian/po)/|requirements[^/]*\.txt$' |
		xargs -0 codespell -q 7 -L crate,crates,keypair,bu,staus
}

# Every warning of groff is printed; there must be none.
manual() {
	need groff
	local said
	said=$(groff -man -Tutf8 -ww -z man/*.1 2>&1)
	[ -z "$said" ] || ! echo "$said"
}

crates() {
	need cargo-deny
	cargo deny --offline check bans licenses sources
}

# The advisory database is cloned from GitHub; what is on disk already is not, as it says nothing about today.
advisories() {
	timeout 60 cargo deny fetch db >/dev/null 2>&1 ||
		skip 'the database (github.com/RustSec/advisory-db) cannot be fetched'
	cargo deny check advisories
}

run_case 'shell scripts' 300 shell_scripts
run_case 'spelling' 60 spelling
run_case 'documents (commands, links, length)' 60 tests/documents.py
run_case 'manual page' 60 manual
run_case 'crates (licences, duplicates, sources)' 60 crates
run_case 'crates (advisories)' 120 advisories
finish
