#!/bin/bash
# What is looked at without being run: every shell script, and what comes from other people's crates (deny.toml).
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
