#!/bin/bash
# What is looked at without being run: scripts, spelling, documents, and what comes from other people's crates (deny.toml).
# Prints ok, FAIL or SKIP, one line a check, and closes with `N passed, N failed, N skipped`, as tests/system do.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0

# check NAME COMMAND...
check() {
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok    $name"
	else
		failed=$((failed + 1))
		echo "FAIL  $name"
	fi
}

# check_with TOOL NAME COMMAND...: where there is that tool.
check_with() {
	local tool=$1
	shift
	if command -v "$tool" >/dev/null; then
		check "$@"
	else
		skip "$1" "$tool is not installed"
	fi
}

# skip NAME WHY
skip() {
	skipped=$((skipped + 1))
	echo "SKIP  $1: $2"
	[ "${CHECK_MODE:-auto}" = auto ] || failed=$((failed + 1))
}

# Every file of the source tree, NUL-terminated: what git knows or would take, or all of it where there is no git.
files() {
	git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
		find . \( -name target -o -name dist -o -name vendor -o -name .git \) -prune -o -type f -print0
}

# The shell scripts among them: by their first line, or parts of a script, which name their shell for shellcheck.
shell_scripts() {
	local all file first scripts=()
	mapfile -d '' -t all < <(files)
	for file in "${all[@]}"; do
		if [ -f "$file" ] && [ ! -L "$file" ] && IFS= read -r -n 100 first 2>/dev/null <"$file" &&
			[[ $first =~ ^'#!'.*[/\ ](ba|da|k)?sh($|\ ) || $first == '# shellcheck shell='* ]]; then
			scripts+=("$file")
		fi
	done
	[ "${#scripts[@]}" -gt 0 ] && shellcheck -x -P SCRIPTDIR "${scripts[@]}"
}

# crate and KeyPair are Rust's words; staus is what a test mistypes.
spelling() {
	local all
	mapfile -d '' -t all < <(files | grep -zvE '(^|/)(Cargo\.lock|copyright)$|^(\./)?(fuzz/corpus|tests/(cpuinfo|roots)|debian/po)/|requirements[^/]*\.txt$')
	[ "${#all[@]}" -gt 0 ] && codespell -q 7 -L crate,crates,keypair,bu,staus "${all[@]}"
}

# Every warning of groff is printed; there must be none.
manual() {
	local said
	said=$(groff -man -Tutf8 -ww -z man/*.1 2>&1)
	[ -z "$said" ] || ! echo "$said"
}

check_with shellcheck 'shell scripts' shell_scripts
check_with codespell 'spelling' spelling
check 'documents (commands, links, length)' tests/documents.py
check_with groff 'manual page' manual
check_with cargo-deny 'crates (licences, duplicates, sources)' cargo deny --offline check bans licenses sources
# The advisory database is cloned from GitHub; what is on disk already is not, as it says nothing about today.
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
	check 'crates (advisories)' cargo deny check advisories
else
	skip 'crates (advisories)' 'the database (github.com/RustSec/advisory-db) cannot be fetched'
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
