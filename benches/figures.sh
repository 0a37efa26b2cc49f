# shellcheck shell=bash
# The figures that are exact, and what a run is measured on, for benches/run and benches/baseline: a machine in a directory,
# a receiver on loopback, the user-space instructions of a run on them.
#
# To count the same on every machine, what a run can see is the same: its environment is empty but for what the run is about,
# its paths have the same lengths, and the machine with its /proc is the directory given as --root. What is left, the
# keys of a TLS connection, moves the instructions of a send by 0.1 %.
#
#   prepare BINARY RECEIVER      makes $work, starts the receiver; `cleanup` ends both
#   count NAME                   the instructions of the run of that name, see `ours`
#   crates                       how many are in the program beside our own

benches=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
export LC_ALL=C
# What only some runs need: a bundle of this system's authorities, and what leaves the network behind.
all='' no_network=()

prepare() {
	# Not in $TMPDIR, whose length differs. The courier is nobody where we are root, and must get in.
	work=$(mktemp -d /tmp/install-record-bench.XXXXXX)
	chmod 755 "$work"
	cp "$1" "$work/install-record"
	binary=$work/install-record
	machine fresh
	machine off
	mkdir -p "$work/off/etc/install-record"
	: >"$work/off/etc/install-record/off"
	machine reported

	"$2" --dir "$work/receiver" &
	server=$!
	for _ in $(seq 100); do
		[ -e "$work/receiver/port" ] && break
		sleep 0.1
	done
	url=https://127.0.0.1:$(cat "$work/receiver/port")/v1/telemetry/GenericReport
	one=$work/receiver/ca.pem
	record=(-f PRODUCT_FAMILY_PS -v 8.0.36-28)
	product=("${record[@]}" -c 10 -t 60 -u "$url")
	# Reported, once and for all.
	env -i SSL_CERT_FILE="$one" "$binary" send --quiet --root "$work/reported" "${product[@]}"
	find_valgrind
}

# clock: makes $work/measure, which runs a command and prints what it cost.
clock() { "${CC:-cc}" -O2 -static -Wall -o "$work/measure" "$benches/measure.c"; }

# all_authorities: makes $all, a bundle of this system's authorities and the receiver's; $authorities: how many.
all_authorities() {
	local bundle
	all=$work/all.pem
	authorities=0
	for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
		if [ -r "$bundle" ] && [ "$authorities" = 0 ]; then
			cat "$bundle" "$one" >"$all"
			authorities=$(grep -c 'BEGIN CERT' "$all")
		fi
	done
}

cleanup() {
	[ -z "${server:-}" ] || kill "$server"
	[ -z "${work:-}" ] || rm -rf "${work:?}"
}

# process ROOT PID PARENT NAME VARIABLE...: an entry of /proc.
process() {
	local at=$1/proc/$2 id=$2 parent=$3 name=$4
	shift 4
	mkdir -p "$at"
	echo "$id ($name) S $parent $id $id 0 -1 4194560 1200 5300 0 0 1 2 3 1 20 0 1 0 71 23146496 900" >"$at/stat"
	echo "$name" >"$at/comm"
	printf '%s\0' "$name" >"$at/cmdline"
	printf '%s\0' "$@" >"$at/environ"
}

# machine NAME: a Debian as `sudo apt-get install` sees it, with seven processes above the hook.
machine() {
	local at=$work/$1
	local user=(SHELL=/bin/bash PWD=/home/admin LOGNAME=admin HOME=/home/admin LANG=en_US.UTF-8 TERM=xterm-256color
		USER=admin SHLVL=1 XDG_SESSION_ID=7 XDG_RUNTIME_DIR=/run/user/1000 'SSH_CLIENT=192.0.2.7 50122 22'
		'SSH_CONNECTION=192.0.2.7 50122 192.0.2.1 22' SSH_TTY=/dev/pts/0
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games)
	local root=(TERM=xterm-256color LANG=en_US.UTF-8 SUDO_COMMAND=/usr/bin/apt-get SUDO_USER=admin SUDO_UID=1000 SUDO_GID=1000
		HOME=/root USER=root LOGNAME=root SHELL=/bin/bash MAIL=/var/mail/root
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
	cp -R "$benches/machine" "$at"
	process "$at" 1 0 systemd HOME=/ TERM=linux
	process "$at" 610 1 sshd LANG=en_US.UTF-8 PATH=/usr/sbin:/usr/bin NOTIFY_SOCKET=/run/systemd/notify SSHD_OPTS=
	process "$at" 2200 610 bash "${user[@]}"
	process "$at" 2210 2200 sudo "${user[@]}"
	process "$at" 2211 2210 apt-get "${root[@]}"
	process "$at" 2300 2211 dpkg "${root[@]}" DPKG_FRONTEND_LOCKED=true
	process "$at" 2301 2300 product.postinst "${root[@]}" DPKG_FRONTEND_LOCKED=true DPKG_MAINTSCRIPT_NAME=postinst
	process "$at" self 2301 install-record "${root[@]}"
	ln -s ../.. "$at/proc/1/root"
	mkdir "$at/proc/self/ns"
	ln -s 'pid:[4026531836]' "$at/proc/self/ns/pid"
}

# fresh: nothing was ever sent from that machine.
fresh() { rm -rf "$work/fresh/usr" "$work/fresh/var"; }

# ours NAME WRAPPER...: one of our runs, by a command that measures it.
ours() (
	name=$1
	shift
	# shellcheck disable=SC2046 # names
	export -n $(compgen -e)
	case $name in
		variable) PERCONA_TELEMETRY_DISABLE=1 "$@" "$binary" send "${product[@]}" ;;
		off | reported | families | scripts) "$@" "$binary" send --root "$work/$name" "${product[@]}" ;;
		sent) fresh && SSL_CERT_FILE=$one "$@" "$binary" send --root "$work/fresh" "${product[@]}" ;;
		sent-all) fresh && SSL_CERT_FILE=$all "$@" "$binary" send --root "$work/fresh" "${product[@]}" ;;
		# As many as may wait, to one server.
		flush)
			rm -rf "$work/flush" && cp -R "$work/waiting" "$work/flush"
			SSL_CERT_FILE=$one "$@" "$binary" flush -t 60 --root "$work/flush"
			;;
		# To the real server's name, from where nothing leads anywhere.
		no-route) fresh && "${no_network[@]}" "$@" "$binary" send --root "$work/fresh" "${record[@]}" ;;
	esac
)

# The courier is started through /proc/self/exe, which in valgrind is valgrind. A valgrind whose own program is marked setuid
# refuses to follow (and only that: nothing here is another user's), so the run under valgrind ends as pending; and the
# courier is counted by itself, with its job on stdin. Processors look different in there, too: what ring finds is what
# valgrind can translate, no AVX-512.
find_valgrind() {
	local library
	valgrind=
	command -v valgrind >/dev/null || return 0
	for library in "${VALGRIND_LIB:-}" /usr/libexec/valgrind /usr/lib/valgrind /usr/lib/*/valgrind /usr/lib64/valgrind; do
		[ -e "$library/default.supp" ] || continue
		cp -RL "$library" "$work/valgrind"
		chmod u+s "$work"/valgrind/callgrind-*-linux
		valgrind=$(command -v valgrind)
		break
	done
}

callgrind() {
	VALGRIND_LIB=$work/valgrind "$valgrind" --tool=callgrind --trace-children=yes --callgrind-out-file=/dev/null \
		--log-file="$work/callgrind.%p" "$@" >/dev/null 2>&1 </dev/null
}

# collected: the sum over all processes that executed a program. A process that was only forked off has its parent's
# count in its own, so it is left out.
collected() {
	awk '
		FNR == 1 { pid = FILENAME; sub(/.*\./, "", pid) }
		/ Command: / { sub(/^[^:]*: /, ""); command[pid] = $0 }
		/ Parent PID: / { parent[pid] = $NF }
		/ Collected : / { count[pid] = $NF }
		END {
			for (pid in count) if (command[pid] != command[parent[pid]]) sum += count[pid]
			print sum + 0
		}' "$work"/callgrind.*
	rm -f "$work"/callgrind.*
}

# job BUNDLE COUNT: what the courier is told for so many records.
job() {
	local body request requests
	body=$("$binary" show --quiet --root "$work/fresh" "${record[@]}" | sed 's/["\\]/\\&/g')
	request="{\"url\":\"$url\",\"headers\":[[\"Content-Type\",\"application/json\"]],\"body\":\"$body\"}"
	requests=$(yes "$request" | head -n "$2" | paste -sd ,)
	cat <<-END
		{"connect_timeout":{"secs":10,"nanos":0},"user_agent":"install-record/0.1.0","proxy":"","no_proxy":"",
		"certificates_file":"$1","certificates_directories":"","success":{"status":null,"any":[]},
		"requests":[$requests]}
	END
}

# courier BUNDLE COUNT: the instructions of a courier that delivers so many records. Its limits leave valgrind no file to write, but
# a pipe.
courier() {
	job "$1" "$2" >"$work/job"
	"$valgrind" --tool=callgrind --callgrind-out-file=/dev/null --log-fd=2 "$binary" --courier \
		2>&1 >/dev/null <"$work/job" | sed -n 's/.* Collected : //p' | tail -n 1
}

# count NAME: the instructions of one of our runs.
count() {
	local sum
	ours "$1" callgrind
	sum=$(collected)
	case $1 in
		sent) sum=$((sum + $(courier "$one" 1))) ;;
		sent-all) sum=$((sum + $(courier "$all" 1))) ;;
		flush) sum=$((sum + $(courier "$one" 64))) ;;
	esac
	echo "$sum"
}

crates() {
	local tree
	tree=$(cd "$benches/.." &&
		cargo tree --locked --offline -e normal --no-dedupe --prefix none --target x86_64-unknown-linux-musl) || return
	tail -n +2 <<<"$tree" | sort -u | wc -l
}
