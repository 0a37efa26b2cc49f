# shellcheck shell=bash
# One line a case, as tests/run counts them. A case is a function; `run_case NAME SECONDS FUNCTION` runs it in a subshell with a
# time limit, and prints "ok", "FAIL" or "SKIP" and the time it took. `finish` prints the closing line and exits.
# CHECK_MODE is auto: what cannot run here is skipped, loudly; or require: a skip is a failure.

set -u
: "${CHECK_MODE:=auto}"
passed=0 failed=0 skipped=0

# skip WHY: ends a case as skipped.
skip() {
	echo "$*" >"$case_dir/skip"
	exit 77
}

# run_case NAME SECONDS FUNCTION [ARGUMENT...]
run_case() {
	local name=$1 limit=$2 status=0 started took
	shift 2
	case_dir=$(mktemp -d) || exit 1
	share=$case_dir/share
	export case_dir share
	mkdir "$share"
	started=$(date +%s.%N)
	# A process group of its own, so that the limit ends all of it.
	set -m
	(set -e && "$@") >"$case_dir/log" 2>&1 &
	local child=$!
	set +m
	timeout "$limit" tail -s 0.05 -f /dev/null --pid="$child" || {
		echo "     over its limit of $limit s" >>"$case_dir/log"
		kill -KILL -- "-$child"
	}
	wait "$child" 2>/dev/null || status=$?
	took=$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { printf "%6.2f s", b - a }')
	case $status in
		0)
			passed=$((passed + 1))
			echo "ok   $took  $name"
			;;
		77)
			skipped=$((skipped + 1))
			echo "SKIP $took  $name: $(cat "$case_dir/skip")"
			[ "$CHECK_MODE" = auto ] || failed=$((failed + 1))
			;;
		*)
			failed=$((failed + 1))
			echo "FAIL $took  $name (status $status)"
			sed 's/^/     | /' "$case_dir/log" | tail -n 60
			;;
	esac
	rm -rf "$case_dir"
}

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
	exit
}

# need COMMAND...: skips the case where one of them is missing.
need() {
	local command
	for command; do
		command -v "$command" >/dev/null || skip "$command is not installed"
	done
}
