# shellcheck shell=bash
# What the tests on real systems share: bootstrapped roots, private namespaces, a receiver, and one line a case.
#   BINARY, RECEIVER  the static install-record under test and the static TLS receiver
#   CACHE             a directory for bootstrapped roots that outlives the run

# shellcheck source=tests/cases.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cases.sh"
export BINARY="${BINARY:?the binary under test}" RECEIVER="${RECEIVER:?the receiver}"
: "${CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/install-record-tests}"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export system=$tree/tests/system
# shellcheck source=tests/system/ask.sh
. "$system/ask.sh"

# No opt-out, proxy or vendor variable of the caller may decide a test.
# shellcheck disable=SC2046 # words
unset $(compgen -e | grep -xiE 'PERCONA_.*|DO_NOT_TRACK|.*_PROXY|SSL_CERT_.*')

# $work lives as long as the run. What is in $work/share is at hand in every system.
work=$(mktemp -d) || exit 1
# A subshell that is killed early enough runs it too.
trap '[ "$BASHPID" != $$ ] || rm -rf "${work:?}"' EXIT
mkdir "$work/share"
cp "$system/ask.sh" "$work/share/"
cp "$BINARY" "$work/share/install-record"
# Making packages leaves another program in the place of this one.
# shellcheck disable=SC2034
shipped=$(sha256sum <"$BINARY")

# need_namespaces: skips the case where private namespaces with an overlay cannot be had (tried, not guessed).
need_namespaces() {
	need unshare ip
	mkdir -p "$case_dir/try"
	in_namespaces "copy_of /etc '$case_dir/try'" 2>/dev/null ||
		skip "no private namespaces here (needs root or user namespaces with overlay)"
}

# root_of SUITE[+PACKAGE...]: prints the path of a bootstrapped Debian root, made once and kept in CACHE.
root_of() {
	local suite=${1%%+*} root=$CACHE/$1 packages=
	[ "$suite" = "$1" ] || packages=$(tr + , <<<"${1#*+}")
	need mmdebstrap
	mkdir -p "$CACHE"
	(
		flock 9
		for _ in 1 2 3; do
			[ ! -e "$root.done" ] || exit 0
			rm -rf "$root"
			# The mirror is the one that this machine uses itself.
			mmdebstrap --quiet --variant=minbase ${packages:+--include="$packages"} "$suite" "$root" "$(mirror)" &&
				touch "$root.done"
		done
		[ -e "$root.done" ]
	) 9>"$root.lock" >&2 || skip "cannot bootstrap $suite"
	echo "$root"
}

# make_root ROOT: the bootstrap is no other case's time.
make_root() {
	need_namespaces
	root_of "$1" >/dev/null
}

mirror() {
	apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m 1 '/debian/*$' || echo http://deb.debian.org/debian
}

# package_deb DEB DIR NAME: makes DEB of what is in DIR, with a postinst from stdin. make_product LINE...: a Debian, and the
# package `product` for it, with the binary under test and a postinst of these lines: /share/product.deb.
package_deb() {
	need dpkg-deb
	mkdir -p "$2/DEBIAN"
	printf '%s\n' "Package: $3" 'Version: 8.0.36-28' 'Architecture: all' 'Maintainer: Nobody <nobody@example.org>' \
		'Description: a product that reports its installation' >"$2/DEBIAN/control"
	cat >"$2/DEBIAN/postinst"
	chmod 0755 "$2/DEBIAN/postinst"
	dpkg-deb --root-owner-group --build "$2" "$1" >/dev/null
}
make_product() {
	make_root bookworm+sudo
	install -D "$BINARY" "$work/product/usr/bin/install-record"
	printf '%s\n' '#!/bin/sh' "$@" | package_deb "$work/share/product.deb" "$work/product" product
}

# block FILE PAGE: prints the fenced block of docs/PAGE that a line beginning with `FILE` and ending in a colon announces.
block() {
	awk -v file="\`$1\`" 'is_found && /^```/ { if (is_inside) exit; is_inside = 1; next } is_inside
		index($0, file) == 1 && /:$/ { is_found = 1 }' "$tree/docs/$2" | grep '' || fail "docs/$2 has no block for $1"
}

# versions: how an rpm and a deb write one version, and what is sent: the rows of docs/rpm.md.
versions() { sed -n '/^| rpm | deb |/,/^$/s/^| \([^ ]*[0-9][^ ]*\) | \([^ ]*\) | \([^ ]*\) |$/\1 \2 \3/p' "$tree/docs/rpm.md"; }

# call_home FORM FAMILY VERSION: the lines that Percona's builders write into a postinst or a %post, with our shim in the
# place of their script (docs/percona.md).
# shellcheck disable=SC2034 # for the scripts
CALL_HOME_FORMS='bash sh mktemp stdin sourced'
call_home() {
	local arguments="-f \"$2\" -v $3 -d \"PACKAGE\"" file=/tmp/call-home.sh
	[ "$1" != mktemp ] || file='$tfn'
	echo 'tfn=$(mktemp)'
	case $1 in
		stdin) echo "bash -s -- $arguments <<'CALLHOME' &>/dev/null || :" ;;
		*) echo "cat <<'CALLHOME' > $file" ;;
	esac
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

# in_namespaces SCRIPT: runs SCRIPT (for bash) in private namespaces, with a loopback interface only. Nothing outlives the call.
in_namespaces() {
	unshare --mount --pid --uts --ipc --net --fork --kill-child bash -euc "
		. '$system/ask.sh'
		mount --make-rprivate /
		hostname testhost
		ip link set lo up
		$1"
}

# in_system ROOT SCRIPT: runs SCRIPT (for bash) as root of a throwaway copy of ROOT, which is a path or what root_of takes.
# Process 1 lives in that copy and is called init, as on a host (PROCESS_1=/bin/bash: it is none, as in a container).
# $case_dir/share is /share inside: what is written there stays. A receiver listens on port 8443 for localhost and
# check.percona.com; its CA is in /share/receiver/ca.pem.
in_system() {
	local root=$1
	need_namespaces
	[[ $root == /* ]] || root=$(root_of "$root") || exit
	mkdir -p "$share/receiver" "$case_dir/mnt"
	cp -r "$work/share/." "$share/"
	cp "$RECEIVER" "$share/server"
	printf '%s\n' "$2" >"$share/script"
	ROOT=$root PROCESS_1=${PROCESS_1:-/run/init} in_namespaces '
		copy_of "$ROOT" "$case_dir/mnt"
		cd "$case_dir/mnt"
		mount -t proc proc root/proc
		mount -t tmpfs none root/run
		mount -t tmpfs none root/dev
		for node in null zero full random urandom tty; do
			touch root/dev/$node
			mount --bind /dev/$node root/dev/$node
		done
		ln -s /proc/self/fd root/dev/fd
		mkdir -p root/share root/dev/shm
		mount --bind "$share" root/share
		echo "127.0.0.1 localhost check.percona.com testhost" >root/etc/hosts
		: >root/etc/resolv.conf
		receive root/share/receiver --port 8443 --san check.percona.com
		ln -s /bin/bash root/run/init
		export RECEIVER=/share/server share=/share
		exec chroot root "$PROCESS_1" -c "cd /; exec </dev/null; set -eu; . /share/ask.sh; . /share/script; exit \$?"
	'
}

# boots ROOT START SCRIPT: the same in a service of a copy of ROOT that nspawn boots (--boot) or does not (/share/probe).
boots() {
	need_namespaces
	need systemd-nspawn
	root=$(root_of "$1") || exit
	cp -r "$work/share/." "$share/"
	printf '%s\n' '#!/bin/bash' 'exec >/share/log 2>&1 </dev/null' 'set -eu' 'export share=/share' '. /share/ask.sh' "$3" \
		'touch /share/good' 'sync' >"$share/probe"
	chmod +x "$share/probe"
	ROOT=$root START=$2 GROUP=install-record-test.$$ in_namespaces '
		mount -t proc proc /proc
		receive "$share/receiver" --port 8443 --san check.percona.com
		bash "$system/boot"' || :
	find /sys/fs/cgroup -depth -type d -path "*/install-record-test.$$*" -exec rmdir {} \; 2>/dev/null || :
	[ -e "$share/log" ] || skip "nspawn cannot start a system here"
	cat "$share/log"
	present "$share/good"
}
