# shellcheck shell=bash
# One line a case, as tests/run counts them. A case is a function; `run_case NAME SECONDS FUNCTION` runs it in a subshell, with
# which its variables end, and prints "ok", "FAIL" or "SKIP" and the time it took. `finish` prints the closing line and exits.
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
	local name=$1 limit=$2 status=0 started=${EPOCHREALTIME/./} state child
	shift 2
	case_dir=$(mktemp -d) || exit 1
	share=$case_dir/share
	export case_dir share
	mkdir "$share"
	# A process group of its own, so that the limit ends all of it.
	set -m
	(set -e && "$@") >"$case_dir/log" 2>&1 &
	child=$!
	set +m
	timeout "$limit" tail -s 0.05 -f /dev/null --pid="$child" || {
		echo "     over its limit of $limit s" >>"$case_dir/log"
		kill -KILL -- "-$child"
	}
	wait "$child" 2>/dev/null || status=$?
	case $status in
		0) state=ok passed=$((passed + 1)) ;;
		77) state=SKIP skipped=$((skipped + 1)) name+=": $(cat "$case_dir/skip")" ;;
		*) state=FAIL failed=$((failed + 1)) name+=" (status $status)" ;;
	esac
	[ $state != SKIP ] || [ "$CHECK_MODE" = auto ] || failed=$((failed + 1))
	printf '%-4s %6.2f s  %s\n' $state $((${EPOCHREALTIME/./} - started))e-6 "$name"
	[ $state != FAIL ] || sed 's/^/     | /' "$case_dir/log" | tail -n 60
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
