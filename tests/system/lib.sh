# shellcheck shell=bash
# What the tests on real systems share: bootstrapped roots, private namespaces, a receiver, and one line a case.
# Sourced by tests/system/*.sh, which tests/run starts with BINARY, RECEIVER, CHECK_MODE and CACHE set:
#   BINARY, RECEIVER  the static install-record under test and the static TLS receiver
#   CHECK_MODE        auto: what cannot run here is skipped, loudly; require: a skip is a failure
#   CACHE             a directory for bootstrapped roots that outlives the run
# A case is a function; `run_case NAME SECONDS FUNCTION` runs it in a subshell with a time limit and prints
# "ok", "FAIL" or "SKIP" and the time it took. `finish` prints the closing line and exits.

set -u
: "${BINARY:?the binary under test}" "${RECEIVER:?the receiver}"
: "${CHECK_MODE:=auto}" "${CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/install-record-tests}"
passed=0 failed=0 skipped=0
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# No opt-out, proxy or vendor variable of the caller may decide a test.
for name in $(compgen -e); do
	case $name in
		PERCONA_* | DO_NOT_TRACK | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | [AaNn][LlOo]*_[Pp][Rr][Oo][Xx][Yy] | SSL_CERT_*) unset "$name" ;;
	esac
done

# fail WHY: ends a case as failed.
fail() {
	echo "     $*" >&2
	exit 1
}

# skip WHY: ends a case as skipped.
skip() {
	echo "$*" >"$case_dir/skip"
	exit 77
}

# expect WHAT EXPECTED ACTUAL
expect() {
	[ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# run_case NAME SECONDS FUNCTION [ARGUMENT...]
run_case() {
	local name=$1 limit=$2 status=0 started ended
	shift 2
	case_dir=$(mktemp -d) || exit 1
	export case_dir
	started=$(date +%s.%N)
	# A process group of its own, so that the limit ends all of it.
	set -m
	(
		set -e
		"$@"
	) >"$case_dir/log" 2>&1 &
	local child=$!
	# Likewise the watch and its sleep, which would otherwise hold our stdout open long after the last case. Killed, it
	# must not clean up after the whole script.
	(trap - EXIT && sleep "$limit" && echo "     over its limit of $limit s" >>"$case_dir/log" && kill -KILL -- "-$child") &
	local watch=$!
	set +m
	wait "$child" 2>/dev/null || status=$?
	kill -- "-$watch" 2>/dev/null
	wait "$watch" 2>/dev/null
	ended=$(date +%s.%N)
	local took
	took=$(awk -v a="$started" -v b="$ended" 'BEGIN { printf "%6.2f s", b - a }')
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

# need_namespaces: skips the case where private namespaces with an overlay cannot be had (tried, not guessed).
need_namespaces() {
	need unshare ip
	mkdir -p "$case_dir/try"
	unshare --mount --pid --uts --ipc --net --fork --kill-child bash -c \
		"mount --make-rprivate / && mount -t tmpfs none '$case_dir/try' && cd '$case_dir/try' && mkdir u w m &&
		 mount -t overlay none -o lowerdir=/etc,upperdir=u,workdir=w m" 2>/dev/null ||
		skip "no private namespaces here (needs root or user namespaces with overlay)"
}

# root_of SUITE [PACKAGE,...]: prints the path of a bootstrapped Debian root, made once and kept in CACHE.
root_of() {
	local suite=$1 packages=${2:-} root
	need mmdebstrap
	root=$CACHE/$suite${packages:++$(echo "$packages" | tr , +)}
	mkdir -p "$CACHE"
	(
		# Others may want the same root at the same time.
		flock 9
		try=0
		while [ ! -e "$root.done" ]; do
			try=$((try + 1))
			[ "$try" -le 3 ] || exit 1
			rm -rf "$root"
			# The mirror is the one that this machine uses itself.
			mmdebstrap --quiet --variant=minbase ${packages:+--include="$packages"} "$suite" "$root" "$(mirror)" &&
				touch "$root.done"
		done
	) 9>"$root.lock" >&2 || skip "cannot bootstrap $suite"
	echo "$root"
}

# mirror: prints the first Debian mirror of this machine's own apt configuration.
mirror() {
	local found
	found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
		sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) .*/\2/p' | head -n 1)
	[ -n "$found" ] || found=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | head -n 1)
	echo "${found:-http://deb.debian.org/debian}"
}

# product_deb DIR DEB: makes DEB, in DIR: a package `product` with the binary under test in it, its postinst from stdin.
product_deb() {
	local tree=$1 deb=$2
	need dpkg-deb
	mkdir -p "$tree/DEBIAN" "$tree/usr/bin"
	cp "$BINARY" "$tree/usr/bin/install-record"
	cat >"$tree/DEBIAN/control" <<-'END'
		Package: product
		Version: 8.0.36-28
		Architecture: all
		Maintainer: Nobody <nobody@example.org>
		Description: a product that reports its installation
	END
	cat >"$tree/DEBIAN/postinst"
	chmod 0755 "$tree/DEBIAN/postinst"
	dpkg-deb --root-owner-group --build "$tree" "$deb" >/dev/null
}

# block FILE PAGE: prints the fenced block of docs/PAGE that a line beginning with `FILE` and ending in a colon announces.
block() {
	awk -v file="\`$1\`" 'is_found && /^```/ { if (is_inside) exit; is_inside = 1; next } is_inside
		index($0, file) == 1 && /:$/ { is_found = 1 }' "$tree/docs/$2" | grep '' || fail "docs/$2 has no block for $1"
}

# call_home FORM FAMILY VERSION: the lines that Percona's builders write into a postinst or a %post, with our shim in the
# place of their script (docs/percona.md), in one of CALL_HOME_FORMS.
# shellcheck disable=SC2034 # for the scripts
CALL_HOME_FORMS='bash sh mktemp stdin sourced'
# shellcheck disable=SC2016 # expanded by the scriptlet
call_home() {
	local arguments="-f \"$2\" -v $3 -d \"PACKAGE\"" file=/tmp/call-home.sh
	[ "$1" != mktemp ] || file='$tfn'
	echo 'tfn=$(mktemp)'
	if [ "$1" = stdin ]; then
		echo "bash -s -- $arguments <<'CALLHOME' &>/dev/null || :"
	else
		echo "cat <<'CALLHOME' > $file"
	fi
	cat "$tree/call-home.sh"
	echo CALLHOME
	case $1 in
		bash | mktemp) echo "bash +x $file $arguments &>/dev/null || :" ;;
		sh) echo "sh $file $arguments &>/dev/null || :" ;;
		sourced) echo "set -- $arguments; . $file &>/dev/null || :" ;;
	esac
	printf '%s /usr/local/percona/telemetry_uuid &>/dev/null || :\n' 'chgrp percona-telemetry' 'chmod 664'
	printf '%s\n' 'rm -f /tmp/call-home.sh $tfn' "echo the end of $1"
}

# in_system ROOT SCRIPT: runs SCRIPT (text, for bash) as root of a throwaway copy of ROOT, in private mount, PID, UTS,
# IPC and network namespaces, with only a loopback interface. Process 1 lives in that copy and is called init, as on a host
# (PROCESS_1=/bin/bash: it is none, as in a container), and nothing outlives the call. $case_dir/share is /share inside: put what is needed there; what is written there stays.
# A receiver listens on port 8443 for localhost and check.percona.com, which is where the name leads; its CA is in
# /share/receiver/ca.pem, what it got in /share/receiver/requests.jsonl. RECEIVER_OPTIONS changes how it behaves;
# RECEIVER_OPTIONS=none means that nobody listens.
in_system() {
	local root=$1 script=$2
	[ -d "${root:?}" ] || fail "no root '$root'"
	mkdir -p "$case_dir/share/receiver" "$case_dir/mnt"
	printf '%s\n' "$script" >"$case_dir/share/script"
	# shellcheck disable=SC2016 # expanded by the inner shell
	ROOT=$root CASE=$case_dir RECEIVER=$RECEIVER RECEIVER_OPTIONS=${RECEIVER_OPTIONS:-} \
		PROCESS_1=${PROCESS_1:-/run/init} unshare --mount --pid --uts --ipc --net --fork --kill-child bash -euc '
		mount --make-rprivate /
		hostname testhost
		mount -t tmpfs none "$CASE/mnt"
		cd "$CASE/mnt"
		mkdir upper work root
		mount -t overlay none -o "lowerdir=$ROOT,upperdir=upper,workdir=work" root
		mount -t proc proc root/proc
		mount -t tmpfs none root/run
		mount -t tmpfs none root/dev
		for node in null zero full random urandom tty; do
			touch root/dev/$node
			mount --bind /dev/$node root/dev/$node
		done
		ln -s /proc/self/fd root/dev/fd
		mkdir -p root/share root/dev/shm
		mount --bind "$CASE/share" root/share
		echo "127.0.0.1 localhost check.percona.com testhost" >root/etc/hosts
		: >root/etc/resolv.conf
		ip link set lo up
		if [ "$RECEIVER_OPTIONS" != none ]; then
			cp "$RECEIVER" root/share/receiver/receiver
			# shellcheck disable=SC2086
			root/share/receiver/receiver --dir root/share/receiver --port 8443 --san check.percona.com $RECEIVER_OPTIONS &
			for _ in $(seq 200); do
				[ -e root/share/receiver/port ] && break
				sleep 0.05
			done
			[ -e root/share/receiver/port ]
		fi
		ln -s /bin/bash root/run/init
		exec chroot root "$PROCESS_1" -c "cd /; exec </dev/null; . /share/script; exit \$?"
	'
}

# lines FILE: how many, 0 where there is none. requests, connections: what the receiver of in_system got.
lines() { sed -n '$=' "$1" 2>/dev/null | grep . || echo 0; }
requests() { lines "$case_dir/share/receiver/requests.jsonl"; }
connections() { lines "$case_dir/share/receiver/connections"; }

# body N: prints the exact body of the N-th request.
body() {
	cat "$case_dir/share/receiver/body-$1"
}
