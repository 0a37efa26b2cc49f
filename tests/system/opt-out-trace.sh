#!/bin/bash
# What is no text where a "no" may be, processes that vanish or lie, and users who may not look everywhere: what is decided, and
# by which source. Then a trace of all system calls of refused runs on a real root, which may read and nothing else. Machines
# are directories (--root), and once a throwaway copy of this one. Every value, line and file is tests/shipped's (consent).
# shellcheck disable=SC2046,SC2086 # words
. "$(dirname "$0")/lib.sh"
export LC_ALL=C

# The files of the contract's list, each of which says nothing there.
SETTINGS=$tree/tests/roots/settings
FILES=$(cd "$SETTINGS" && grep -rlF DO_NOT_TRACK=0 etc root srv/root | paste -sd' ')
SWITCHES='etc/install-record/off etc/install-record/off.d/percona'
DIRECTORIES='etc/environment.d etc/profile.d etc/fish/conf.d etc/systemd/system.conf.d'

# new_machine: one at $machine whose hook was called by sudo (7), called by init (1).
new_machine() {
	machine=$case_dir/machine
	rm -rf "$machine"
	cp -r "$SETTINGS" "$machine"
	mkdir -p "$machine/etc/install-record/off.d"
	process 7 sudo 1 'A=1\0'
	process 1 init 0 ''
}

# process PID NAME PARENT ENVIRONMENT
process() {
	mkdir -p "$machine/proc/$1"
	echo "$1 ($2) S $3 7 7 0 -1" >"$machine/proc/$1/stat"
	echo "$2" >"$machine/proc/$1/comm"
	# shellcheck disable=SC2059 # with its NULs
	printf "$4" >"$machine/proc/$1/environ"
}

# decided WHAT EXPECTED_SOURCE: what `status --json` says. An empty source means that nobody said no.
as_user=()
decided() {
	local answer
	answer=$("${as_user[@]}" "$BINARY" status --json --root "$machine") || fail "$1: status $?"
	case $2 in
		'') contains "$answer" '"decision": "send"' '"source": null' ;;
		*) contains "$answer" '"decision": "skip"' "\"source\": \"$2" ;;
	esac
}

# odd KIND PATH: makes something there that is no plain text. What is in a file is tests/shipped's.
odd() {
	rm -rf "$2"
	case $1 in
		fifo) mkfifo "$2" ;;
		directory) mkdir "$2" ;;
		loop) ln -s "${2##*/}" "$2" ;;
		long-loop)
			ln -s ".${2##*/}.2" "$2"
			ln -sf "${2##*/}" "${2%/*}/.${2##*/}.2"
			;;
		dangling) ln -s nowhere "$2" ;;
		empty) : >"$2" ;;
		latin1) printf '# na\357ve caf\351 \200\201\nexport A="\377"\n' >"$2" ;;
	esac
}

# odd_places EXPECTED KINDS PATH...: each kind in the place of each path. EXPECTED is `no` or empty.
odd_places() {
	local expected=$1 kind path
	for kind in $2; do
		new_machine
		for path in "${@:3}"; do
			odd "$kind" "$machine/$path"
			decided "$kind /$path" "${expected:+/$path}"
			rm -rf "${machine:?}/$path"
		done
	done
}
[ "$(wc -w <<<"$FILES")" = 33 ] || exit 1
while IFS='|' read -r what expected kinds paths <&3; do
	run_case "$what that are $kinds: ${expected:-no opinion}" 60 odd_places "$expected" "$kinds" $paths
done 3<<END
files|no|fifo directory loop long-loop|$FILES
files||dangling empty latin1|$FILES
directories|no|fifo loop long-loop empty|$DIRECTORIES
directories||dangling|$DIRECTORIES
directories above|no|loop|root etc/install-record/off.d etc/install-record
switches|no|fifo directory loop dangling|$SWITCHES
END

# What hides the callers from us is no opinion. A chain of callers that breaks is a no for root, from whom nobody hides; see
# tests/shipped, too. What is done to the machine in its /proc, and the source: ! before it is root's alone.
processes() {
	local source change
	while IFS='|' read -r source change; do
		new_machine
		(cd "$machine/proc" && eval "$change")
		[ "$(id -u)" = 0 ] || source=${source/!*/}
		decided "$change" "${source#!}"
	done <<-'END'
		|rm -r ../*
		|rm -r self
		!env of process 7 ()|rm -r 7
		|rm 7/environ
		!caller of process 7 (sudo)|process 7 sudo 7 ''
		!caller of process 7 (sudo)|process 7 sudo 8 ''; process 8 sh 7 ''
		|process 7 sudo 0 ''
		env DO_NOT_TRACK of process 1 (init)|printf '7 (a) S 1) (x) S 1 7 7 0 -1' >7/stat; process 1 init 0 'DO_NOT_TRACK=1\0'
		!caller of process 7 (sudo)|: >7/stat
		!caller of process 7 (sudo)|printf '7 (sudo' >7/stat
		!caller of process 7 (sudo)|printf '7 (sudo) S' >7/stat
		!caller of process 7 (sudo)|process 7 sudo -1 ''
		!caller of process 7 (sudo)|process 7 sudo 99999999999999 ''
		|process 7 sudo 100 ''; for i in {100..299}; do process $i x $((i + 1)) ''; done; process 300 far 1 ''
		env DO_NOT_TRACK of process 300 (far)|process 7 sudo 100 ''; for i in {100..299}; do process $i x $((i + 1)) ''; done; process 300 far 1 'DO_NOT_TRACK=1\0'
		env DO_NOT_TRACK of process 7 (sudo)|process 7 sudo 1 "$(printf '%03000000d' 7)\0DO_NOT_TRACK=1\0"
	END
}
run_case 'processes that vanish, lie or never end' 60 processes

# Somebody who is not root may not look everywhere, and is not refused for that. One machine, changed step by step.
not_root() {
	local source change
	if [ "$(id -u)" = 0 ]; then
		need setpriv
		BINARY=$share/install-record
		cp "$work/share/install-record" "$BINARY"
		chmod 0755 "$case_dir" "$BINARY"
		as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	fi
	new_machine
	rm "$machine/etc/passwd"
	while IFS='|' read -r source change; do
		(cd "$machine" && eval "$change")
		decided "$change" "$source"
	done <<-'END'
		/root/.profile|echo 'export DO_NOT_TRACK=1' | tee root/.{profile,bashrc,zshenv} >/dev/null
		|chmod 000 root/.*[a-z]*
		|chmod 000 root
		env DO_NOT_TRACK of process 7 (sudo)|process 7 sudo 1 'DO_NOT_TRACK=1\0'
		|chmod 000 proc/7/environ
		env DO_NOT_TRACK of process 1 (init)|process 1 init 0 'DO_NOT_TRACK=1\0'
		|chmod 000 proc/1/environ proc/1
		/etc/profile|for file in etc/{environment,environment.d/x.conf,profile,profile.d/x,bashrc}; do echo DO_NOT_TRACK=1 >$file; chmod 000 $file; done; chmod 644 etc/profile
		|chmod 000 etc/profile
		/etc/profile.d/x|chmod 644 etc/profile.d/x
		|chmod 000 etc/environment.d etc/profile.d
		/etc/install-record/off|chmod 000 etc/install-record
	END
}
run_case 'not root: what is closed' 30 not_root

# ---- traces ----

# What a refused run may ask the kernel for: memory, reading, and what the language's start does to itself.
HARMLESS='execve|umask|setitimer|brk|mmap|munmap|mprotect|mremap|madvise|arch_prctl|set_tid_address|rt_sigaction|rt_sigprocmask'
HARMLESS+='|sigaltstack|poll|getcwd|stat|lstat|fstat|newfstatat|statx|open|openat|readlink|readlinkat|read|pread64|readv'
HARMLESS+='|lseek|getdents64|close|fcntl|geteuid|getuid|clock_gettime|exit_group|restart_syscall|getrandom|access|faccessat'

# Where a program would leave something; not deeper, because the real machine shines through and is alive.
all() {
	find / /etc /etc/install-record /home /opt /root /run /srv /usr/local ${identity%/*} /var /var/cache /var/lib $state \
		/var/tmp -maxdepth 1 -printf '%p %y %i %m %U %G %s %T@ %C@\n' 2>/dev/null |
		grep -vE '^/(tmp|proc|sys|dev|share)[/ ]|^/root/.cache ' | sort -u
}
# traced COMMAND...: a refused run, by COMMAND, is one process that reads, and nothing else.
traced() {
	local before trace=/share/trace
	rm -f $trace
	before=$(all)
	run "$@"
	expect "$*: it spoke" '' "$(cat /share/said)"
	expect "$*: changed" '' "$(all | diff <(echo "$before") -)"
	expect "$*: processes, execve" '1 1' "$(cut -d' ' -f1 $trace | sort -u | wc -l) $(grep -cE '^[0-9]+ +execve\(' $trace)"
	! grep -vE "^[0-9]+ +(($HARMLESS)\(|\+\+\+ exited with 0 \+\+\+)" $trace || fail "$*"
	! grep -E 'O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)|F_(OFD_)?SETLK|F_SETFL' $trace || fail "$*"
	! grep -E '/etc/resolv.conf|"home"' $trace || fail "$*: it resolves names or looks into homes"
	expect "$*: connections" 0 "$(connections)"
}
# One source of each kind; all of them, with every value, are tests/shipped's (consent).
refused_runs() {
	local flush='strace -f -qq -o /share/trace /share/install-record flush' send file
	send="${flush%flush}send -f PRODUCT_FAMILY_PS -v 1 -u http://127.0.0.1:9/"
	traced $send --telemetry=false
	traced env PERCONA_TELEMETRY_DISABLE=1 $send --strict
	# What refuses one product does not refuse a flush of the others.
	traced env DO_NOT_TRACK=1 $flush
	# The variable is in the environment that bash was started with, and not in ours.
	traced env DO_NOT_TRACK=true bash -c "env -i PATH=\"\$PATH\" $send; exit \$?"
	for file in etc/environment root/.config/fish/config.fish $SWITCHES; do
		mkdir -p "/${file%/*}"
		echo 'DO_NOT_TRACK=1' >"/$file"
		traced $send
		[[ $file == */percona ]] || traced $flush
		rm "/$file"
	done
	# A refusal leaves what is pending where it is.
	mkdir -p $state/{pending,sent} ${identity%/*}
	echo 'instanceId:6b1b9f0e-5f2c-4f0e-9d07-0c7e0b2c9a11' >$identity
	echo '{}' >$state/pending/x
	: >$off
	traced $send
	traced $flush
	rm $off
}
# Root's own environment is closed to other users, and that is no "no".
other_users() {
	local nobody='setpriv --reuid 65534 --regid 65534 --clear-groups' status='env -i /usr/bin/install-record-under-test status --profile percona'
	chmod 0700 /root
	install -m 0755 /share/install-record /usr/bin/install-record-under-test
	# decides WORD COMMAND...
	decides() { contains "$("${@:2}" | grep ^decision:)" " $1,"; }
	echo 'export DO_NOT_TRACK=1' >/root/.bashrc
	decides skip $status
	decides send $nobody $status
	rm /root/.bashrc
	decides skip env DO_NOT_TRACK=1 bash -c "$status; exit"
	decides send env DO_NOT_TRACK=1 bash -c "$nobody $status; exit"
	decides skip $nobody env DO_NOT_TRACK=1 bash -c "$status; exit"
}
# On a throwaway copy of this system, with its own strace, and without what its owner has said.
real_root() {
	need strace setpriv
	strace -o /dev/null true 2>/dev/null || skip "strace is not permitted here"
	in_system / "umask 022; $(declare -p HARMLESS SWITCHES; declare -f all traced refused_runs other_users)
		rm -rf $FILES etc/{environment,profile}.d etc/install-record ${identity%/*} $state
		refused_runs; other_users"
}
run_case 'the real root: traces of refused runs, and other users' 120 real_root

finish
