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
scripts() {
	local file first
	while IFS= read -r -d '' file; do
		if [ ! -f "$file" ] || [ -L "$file" ]; then
			continue
		fi
		IFS= read -r -n 100 first 2>/dev/null <"$file" || continue
		[[ $first =~ ^'#!'.*[/\ ](ba|da|k)?sh($|\ ) || $first == '# shellcheck shell='* ]] && printf '%s\0' "$file"
	done < <(files)
}

shell_scripts() {
	local all
	mapfile -d '' -t all < <(scripts)
	[ "${#all[@]}" -gt 0 ] && shellcheck -x -P SCRIPTDIR "${all[@]}"
}

if command -v shellcheck >/dev/null; then
	check 'shell scripts' shell_scripts
else
	skip 'shell scripts' 'shellcheck is not installed'
fi

# crate and KeyPair are Rust's words; staus is what a test mistypes.
spelling() {
	local all
	mapfile -d '' -t all < <(files | grep -zvE '(^|/)(Cargo\.lock|copyright)$|^(\./)?(fuzz/corpus|tests/(cpuinfo|roots)|debian/po)/|requirements[^/]*\.txt$')
	[ "${#all[@]}" -gt 0 ] && codespell -q 7 -L crate,crates,keypair,bu,staus "${all[@]}"
}

if command -v codespell >/dev/null; then
	check 'spelling' spelling
else
	skip 'spelling' 'codespell is not installed'
fi

check 'documents (commands, links, length)' tests/documents.py

# Every warning of groff is printed; there must be none.
manual() {
	local said
	said=$(groff -man -Tutf8 -ww -z man/*.1 2>&1)
	[ -z "$said" ] || {
		echo "$said"
		return 1
	}
}

if command -v groff >/dev/null; then
	check 'manual page' manual
else
	skip 'manual page' 'groff is not installed'
fi

if cargo deny --version >/dev/null 2>&1; then
	check 'crates (licences, duplicates, sources)' cargo deny --offline check bans licenses sources
	# The advisory database is cloned from GitHub; what is on disk already is not, as it says nothing about today.
	if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
		check 'crates (advisories)' cargo deny check advisories
	else
		skip 'crates (advisories)' 'the database (github.com/RustSec/advisory-db) cannot be fetched'
	fi
else
	skip 'crates' 'cargo-deny is not installed'
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
