#!/bin/bash
# Every source of a "no" with every class of value, and files that are no files, through the shipped binary: what
# is decided, by which source, how fast; and a trace of all system calls of refused runs, which may read and
# nothing else. Machines are directories (--root), and once a throwaway copy of this one. Needs no network.
# Started by tests/run; see lib.sh for what it expects.
# run_case calls the functions; case_dir is lib.sh's.
# shellcheck disable=SC1091,SC2016,SC2154,SC2317
. "$(dirname "$0")/lib.sh"

# Values are bytes.
export LC_ALL=C

NAMES="PERCONA_TELEMETRY_DISABLE DO_NOT_TRACK"
FILES="etc/environment etc/environment.d/50-x.conf etc/security/pam_env.conf etc/profile etc/profile.local
	etc/profile.d/x.sh etc/profile.d/x etc/bash.bashrc etc/bash.bashrc.local etc/bashrc etc/zshenv etc/zsh/zshenv
	etc/zprofile etc/zsh/zprofile etc/fish/config.fish etc/fish/conf.d/x.fish etc/systemd/system.conf
	etc/systemd/system.conf.d/x.conf root/.profile root/.bash_profile root/.bash_login root/.bashrc root/.zshenv
	root/.zprofile root/.zshrc root/.config/fish/config.fish srv/root/.profile srv/root/.bash_profile srv/root/.bash_login
	srv/root/.bashrc srv/root/.zshenv srv/root/.zprofile srv/root/.zshrc srv/root/.config/fish/config.fish"
SWITCHES="etc/install-record/off etc/install-record/off.d/percona"

# new_machine: an empty machine at $machine whose hook was called by sudo (7), called by init (1).
new_machine() {
	machine=$case_dir/machine
	[ ! -e "$machine" ] || chmod -R u+rwx "$machine"
	rm -rf "$machine"
	mkdir -p "$machine"/{root,srv/root,proc/{self,7,1},var/lib,usr/local}
	mkdir -p "$machine"/etc/{environment.d,security,profile.d,zsh,fish/conf.d,systemd/system.conf.d,install-record/off.d}
	mkdir -p "$machine"/{root,srv/root}/.config/fish
	printf 'root:x:0:0:root:/srv/root:/bin/bash\nadmin:x:1000:1000::/home/admin:/bin/sh\n' >"$machine/etc/passwd"
	echo 'PRETTY_NAME="Test 1"' >"$machine/etc/os-release"
	echo '9 (install-record) S 7 7 7 0 -1' >"$machine/proc/self/stat"
	echo '7 (sudo) S 1 7 7 0 -1' >"$machine/proc/7/stat"
	echo '1 (init) S 0 1 1 0 -1' >"$machine/proc/1/stat"
	echo sudo >"$machine/proc/7/comm"
	echo init >"$machine/proc/1/comm"
	printf 'A=1\0' >"$machine/proc/7/environ"
	: >"$machine/proc/1/environ"
}

# What the injected commands would make.
pwned=$(mktemp -u) || exit 1
not_executed() {
	[ ! -e "$pwned" ] || fail "something was executed"
}

# A "no" is a source with its value: environment for the run, options for it, or a file of the machine.
environment=() options=()

# say SOURCE NAME FORM VALUE: puts the value where SOURCE looks, and the expected name of the source in $shown.
# FORM is how a file spells it: quoted or bare.
say() {
	local source=$1 name=$2 form=$3 value=$4 quoted
	environment=() options=()
	quoted="'${value//\'/\'\\\'\'}'"
	[ "$form" = quoted ] || quoted=$value
	case $source in
		--*)
			options=("$source=$value")
			shown="option $source="
			;;
		own)
			environment=("$name=$value")
			shown="env $name"
			;;
		parent)
			printf 'A=1\0%s=%s\0B=2\0' "$name" "$value" >"$machine/proc/7/environ"
			shown="env $name of process 7 (sudo)"
			;;
		init)
			printf '%s=%s\0' "$name" "$value" >"$machine/proc/1/environ"
			shown="env $name of process 1 (init)"
			;;
		etc/install-record/*)
			printf '%s' "$value" >"$machine/$source"
			shown=/$source
			;;
		etc/environment)
			# pam_env(8) has no way to write a quote in quotes, and takes what follows the = as it is.
			printf 'A=1\n%s=%s\n' "$name" "$value" >"$machine/$source"
			shown=/$source
			;;
		*.conf)
			printf 'A=1\n%s=%s\n' "$name" "$quoted" >"$machine/$source"
			shown=/$source
			;;
		*)
			printf '# x\nexport %s=%s\nif true; then umask 022; fi\n' "$name" "$quoted" >"$machine/$source"
			shown=/$source
			;;
	esac
}

# unsay SOURCE: takes it back.
unsay() {
	case $1 in
		--* | own) environment=() options=() ;;
		parent) printf 'A=1\0' >"$machine/proc/7/environ" ;;
		init) : >"$machine/proc/1/environ" ;;
		*) rm -f "$machine/$1" ;;
	esac
}

# decided WHAT EXPECTED_SOURCE: what `status --json` says; an empty source means that nobody said no.
decided() {
	local answer
	runs=$((runs + 1))
	answer=$(env "${environment[@]}" "${as_user[@]}" "$BINARY" status --json --root "$machine" "${options[@]}") ||
		fail "$1: status $?"
	if [ -z "$2" ]; then
		[[ $answer == *'"decision": "send"'*'"source": null'* ]] || fail "$1: expected to send: $answer"
	else
		[[ $answer == *'"decision": "skip"'*"\"source\": \"$2"* ]] || fail "$1: expected '$2': $answer"
	fi
}
runs=0
as_user=()

# The values: whether they are a clear negative (no opinion), a clear positive or anything else, and themselves.
long=$(printf '%065536d' 7)
VALUES=(
	negative ''
	negative 0 negative false negative no negative off
	negative FALSE negative No negative oFf
	negative ' 0 ' negative $'\tfalse ' negative '  '
	positive 1 positive true positive yes positive on positive TRUE positive ' Yes '
	other 2 other -1 other 00 other 0.0 other nope other junk other 'no no' other null other disabled
	other "\$(touch $pwned)" other "\`touch $pwned\`" other "1; touch $pwned" other "0' ; touch $pwned '"
	other "|| touch $pwned" other "\${IFS}" other '%s%n' other '../../0'
	other $'\xff\xfe' other $'0\xff' other $'\xc2\xa00' other "$long"
)

# every_value SOURCE...: the whole table for each of them.
every_value() {
	local source name form kind value index expected
	new_machine
	for source; do
		for name in $NAMES; do
			# Nothing at all is said about NAME here.
			decided "$source unset" ""
			for form in quoted bare; do
				for ((index = 0; index < ${#VALUES[@]}; index += 2)); do
					kind=${VALUES[index]} value=${VALUES[index + 1]}
					# Without quotes a blank or a quote means something else to a shell.
					[[ $form == quoted || ($source == *[./]* && ! $value =~ [[:blank:]\'\`\(\;\|]) ]] || continue
					say "$source" "$name" "$form" "$value"
					expected=$shown
					case $source in
						--*) [ "$kind" != positive ] || expected= ;;
						etc/install-record/*) ;;
						*) [ "$kind" != negative ] || expected= ;;
					esac
					decided "$source $name $form ${value:0:40}" "$expected"
					unsay "$source"
				done
			done
		done
		decided "$source, taken back" ""
	done
	not_executed
	echo "$runs runs"
}

run_case "every value: options" 60 every_value --telemetry --telemetry-enabled
run_case "every value: environment" 60 every_value own
run_case "every value: processes above" 60 every_value parent init
for file in $FILES; do
	run_case "every value: /$file" 60 every_value "$file"
done
# shellcheck disable=SC2086 # two words
run_case "every content: switches" 60 every_value $SWITCHES

# Injection attempts outside quotes: a value that only a shell could tell is a "no", and nobody is asked.
unknowable() {
	local file value
	new_machine
	for file in $FILES; do
		for value in "\$(touch $pwned)" "\`touch $pwned\`" "\$OTHER" "\${OTHER:-0}" "\$((0))" "\"\$(echo 0)\""; do
			say "$file" DO_NOT_TRACK bare "$value"
			decided "/$file $value" "/$file"
			unsay "$file"
		done
	done
	not_executed
}
run_case "values that only a shell could know" 60 unknowable

# Any "no" counts, and nothing takes it back.
order() {
	new_machine
	echo 'export DO_NOT_TRACK=0' >"$machine/root/.bashrc"
	echo 'DO_NOT_TRACK=1' >"$machine/etc/environment"
	decided "0 in a later file" /etc/environment
	environment=(DO_NOT_TRACK=0)
	decided "0 in the environment" /etc/environment
	options=(--telemetry=true)
	decided "a yes on the command line" /etc/environment
	options=(--telemetry=false --telemetry=true)
	decided "both on the command line" "option --telemetry=false"
	environment=(PERCONA_TELEMETRY_DISABLE=0 DO_NOT_TRACK=1) options=()
	decided "one of two variables" "env DO_NOT_TRACK"
	environment=()
	printf 'A=1\0DO_NOT_TRACK=0\0DO_NOT_TRACK=1\0' >"$machine/proc/7/environ"
	decided "twice in one block" "env DO_NOT_TRACK of process 7 (sudo)"
	printf 'A=1\0DO_NOT_TRACK=1\0DO_NOT_TRACK=0\0' >"$machine/proc/7/environ"
	decided "twice in one block, 0 last" "env DO_NOT_TRACK of process 7 (sudo)"
	printf 'A=1\0' >"$machine/proc/7/environ"
	echo 'DO_NOT_TRACK=0' >>"$machine/etc/environment"
	decided "0 later in the same file" /etc/environment
	rm "$machine/etc/environment"
	printf 'export DO_NOT_TRACK=1\nunset DO_NOT_TRACK\n' >"$machine/etc/profile"
	decided "unset later in the same file" /etc/profile
	printf 'DO_NOT_TRACK=1\nexport DO_NOT_TRACK\n' >"$machine/etc/profile"
	decided "exported later" /etc/profile
	: >"$machine/etc/profile"
	echo 'export DO_NOT_TRACK=1' >"$machine/etc/profile.d/.hidden"
	echo 'DO_NOT_TRACK=1' >"$machine/etc/environment.d/x.conf~"
	echo 'set -x DO_NOT_TRACK 1' >"$machine/etc/fish/conf.d/x.txt"
	decided "files that no shell reads" ""
	mkdir -p "$machine/home/admin/.config/environment.d"
	echo 'export DO_NOT_TRACK=1' | tee "$machine/home/admin/".{profile,bashrc,bash_profile,zshenv} >/dev/null
	decided "another user's home" ""
	printf '# DO_NOT_TRACK=1\necho $DO_NOT_TRACK\nMY_DO_NOT_TRACK=1\nDO_NOT_TRACKING=1\n' >"$machine/etc/profile"
	decided "other words" ""
	mkdir -p "$machine/etc/install-record/off.d"
	: >"$machine/etc/install-record/off.d/other"
	decided "another product's switch" ""
}
run_case "which source wins" 30 order

# Things that are no text: one in each place in turn.
make_odd() {
	local kind=$1 path=$2
	rm -rf "$path"
	case $kind in
		fifo) mkfifo "$path" ;;
		directory) mkdir "$path" ;;
		link-loop) ln -s "$(basename "$path")" "$path" ;;
		long-loop) ln -s ".${path##*/}.2" "$path" && ln -s "${path##*/}" "${path%/*}/.${path##*/}.2" ;;
		binary) printf '\177ELF\0\1\2\3DO_NOT\0' >"$path" ;;
		nul) printf 'A=1\n\0\n' >"$path" ;;
		utf16) printf '\377\376D\0O\0_\0N\0O\0T\0_\0T\0R\0A\0C\0K\0=\0001\0\n\0' >"$path" ;;
		megabyte) head -c 1000000 /dev/zero | tr '\0' '#' >"$path" ;;
		megabyte-says) (yes 'A=1' | head -c 1000000 && echo && echo DO_NOT_TRACK=1) >"$path" ;;
		unfinished) printf 'A=1\nexport DO_NOT_TRACK="1\n' >"$path" ;;
		unreadable) echo 'A=1' >"$path" && chmod 000 "$path" ;;
		dangling) ln -s nowhere "$path" ;;
		empty) : >"$path" ;;
		latin1) printf '# na\357ve caf\351 \200\201\nexport A="\377"\n' >"$path" ;;
		other-variables) printf 'if [ "$PS1" ]; then\n  export A=$(id) B="x\n  y"\nfi\ncase x in x) ;; esac\n' >"$path" ;;
		malformed) printf 'A="x\n)}]\n`' >"$path" ;;
		crlf) printf 'A=1\r\nB=2\r\n' >"$path" ;;
		no-newline) printf 'A=1' >"$path" ;;
	esac
}

# odd_files NO|NONE KIND...
odd_files() {
	local opinion=$1 kind file started took
	shift
	new_machine
	for kind; do
		for file in $FILES; do
			make_odd "$kind" "$machine/$file"
			started=${EPOCHREALTIME/./}
			if [ "$opinion" = NO ]; then decided "$kind /$file" "/$file"; else decided "$kind /$file" ""; fi
			took=$((${EPOCHREALTIME/./} - started))
			[ "$took" -lt 500000 ] || fail "$kind /$file: $took us"
			chmod -R u+rwx "$machine/$file" 2>/dev/null || :
			rm -rf "${machine:?}/$file" "$machine/${file%/*}/.${file##*/}.2"
		done
	done
	echo "$runs runs"
}
run_case "no text: a no" 60 odd_files NO fifo directory link-loop long-loop binary nul utf16 megabyte megabyte-says unfinished
run_case "does not mention the variable: no opinion" 60 odd_files NONE dangling empty latin1 other-variables malformed crlf no-newline

odd_directories() {
	local directory kind
	for directory in etc/environment.d etc/profile.d etc/fish/conf.d etc/systemd/system.conf.d; do
		for kind in fifo link-loop long-loop binary empty; do
			new_machine
			make_odd "$kind" "$machine/$directory"
			decided "$kind /$directory" "/$directory"
		done
		new_machine
		make_odd dangling "$machine/$directory"
		decided "dangling /$directory" ""
	done
	for directory in root etc/install-record etc/install-record/off.d; do
		new_machine
		make_odd link-loop "$machine/$directory"
		decided "link-loop /$directory" "/$directory"
	done
	for kind in fifo directory link-loop binary megabyte dangling empty; do
		for switch in $SWITCHES; do
			new_machine
			make_odd "$kind" "$machine/$switch"
			decided "$kind /$switch" "/$switch"
		done
	done
	new_machine
	rm -rf "$machine"/{etc/{environment.d,profile.d,install-record},root,proc}
	decided "nothing there" ""
}
run_case "directories and switches that are something else" 60 odd_directories

# What hides the callers from us is no opinion. A chain of callers that breaks is a no for root, from whom nobody hides.
odd_processes() {
	new_machine
	rm -rf "$machine/proc"
	decided "no /proc" ""
	new_machine
	rm -rf "$machine/proc/self"
	decided "no chain at all" ""
	local broken="of process 7"
	[ "$(id -u)" = 0 ] || broken=
	new_machine
	rm -rf "$machine/proc/7"
	decided "the caller is gone" "${broken:+env $broken ()}"
	new_machine
	rm "$machine/proc/7/environ"
	decided "no environ" ""
	new_machine
	echo '7 (sudo) S 7 7 7 0 -1' >"$machine/proc/7/stat"
	decided "its own parent" "${broken:+caller $broken (sudo)}"
	new_machine
	echo '7 (sudo) S 8 7 7 0 -1' >"$machine/proc/7/stat"
	mkdir "$machine/proc/8"
	echo '8 (sh) S 7 7 7 0 -1' >"$machine/proc/8/stat"
	decided "a circle" "${broken:+caller $broken (sudo)}"
	new_machine
	echo '7 (sudo) S 0 7 7 0 -1' >"$machine/proc/7/stat"
	decided "the parent is another namespace's" ""
	new_machine
	printf '7 (a) S 1) (x) S 1 7 7 0 -1' >"$machine/proc/7/stat"
	printf 'DO_NOT_TRACK=1\0' >"$machine/proc/1/environ"
	decided "a name like a status" "env DO_NOT_TRACK of process 1 (init)"
	local text
	for text in '' ')' '7 (sudo' '7 (sudo) S' '7 (sudo) S x' '7 (sudo) S -1' '7 (sudo) S 99999999999999'; do
		new_machine
		printf '%s' "$text" >"$machine/proc/7/stat"
		decided "nonsense '$text'" "${broken:+caller $broken (sudo)}"
	done
	new_machine
	for text in $(seq 100 300); do
		mkdir "$machine/proc/$text"
		echo "$text (x) S $((text + 1)) 1 1" >"$machine/proc/$text/stat"
		printf 'A=1\0' >"$machine/proc/$text/environ"
	done
	echo '300 (far) S 1 1 1' >"$machine/proc/300/stat"
	echo '9 (install-record) S 100 7 7 0 -1' >"$machine/proc/self/stat"
	decided "two hundred callers above" ""
	printf 'DO_NOT_TRACK=1\0' >"$machine/proc/300/environ"
	echo far >"$machine/proc/300/comm"
	decided "two hundred callers above, and the last says no" "env DO_NOT_TRACK of process 300 (far)"
	new_machine
	{
		head -c 3000000 /dev/zero | tr '\0' a
		printf '\0DO_NOT_TRACK=1\0'
	} >"$machine/proc/7/environ"
	decided "behind 3 MB" "env DO_NOT_TRACK of process 7 (sudo)"
	new_machine
	printf 'DO_NOT_TRACK\0DO_NOT_TRACKED=1\0X=DO_NOT_TRACK=1\0\0\0=1\0' >"$machine/proc/7/environ"
	decided "entries like it" ""
}
run_case "processes that vanish, lie or never end" 60 odd_processes

# Somebody who is not root may not look everywhere, and is not refused for that.
not_root() {
	if [ "$(id -u)" = 0 ]; then
		need setpriv
		cp "$BINARY" "$case_dir/install-record"
		chmod 0755 "$case_dir" "$case_dir/install-record"
		BINARY=$case_dir/install-record
		as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	fi
	local file
	new_machine
	rm "$machine/etc/passwd"
	for file in .profile .bash_profile .bashrc .zshenv; do
		echo 'export DO_NOT_TRACK=1' >"$machine/root/$file"
	done
	decided "root's home is open" "/root/.profile"
	chmod 000 "$machine/root"/.*[a-z]*
	decided "root's files are closed" ""
	chmod 000 "$machine/root"
	decided "root's home is closed" ""
	printf 'DO_NOT_TRACK=1\0' >"$machine/proc/7/environ"
	decided "an environment that may be read" "env DO_NOT_TRACK of process 7 (sudo)"
	chmod 000 "$machine/proc/7/environ"
	decided "another user's environment" ""
	printf 'DO_NOT_TRACK=1\0' >"$machine/proc/1/environ"
	decided "a caller behind another user's" "env DO_NOT_TRACK of process 1 (init)"
	chmod 000 "$machine/proc/1/environ"
	chmod 000 "$machine/proc/1"
	decided "process 1 is another user's" ""
	# So are the system's own files, where this user may not read them.
	for file in etc/environment etc/environment.d/50-x.conf etc/profile etc/profile.d/x.sh etc/bash.bashrc etc/bashrc; do
		make_odd unreadable "$machine/$file"
		decided "unreadable /$file" ""
		rm -f "$machine/$file"
	done
	for file in etc/environment.d etc/profile.d; do
		chmod 000 "$machine/$file"
		decided "unreadable /$file" ""
		chmod 755 "$machine/$file"
	done
	chmod 000 "$machine/etc/install-record"
	decided "unreadable /etc/install-record" "/etc/install-record/off"
}
run_case "not root: what is closed" 30 not_root

# ---- traces ----

# What a refused run may ask the kernel for: memory, reading, and what the language's start does to itself.
HARMLESS='execve|umask|setitimer|brk|mmap|munmap|mprotect|mremap|madvise|arch_prctl|set_tid_address|rt_sigaction|rt_sigprocmask'
HARMLESS+='|sigaltstack|poll|getcwd|stat|lstat|fstat|newfstatat|statx|open|openat|readlink|readlinkat|read|pread64|readv'
HARMLESS+='|lseek|getdents64|close|fcntl|geteuid|getuid|clock_gettime|exit_group|restart_syscall|getrandom|access|faccessat'

# harmless WHAT TRACE: one process that reads, and nothing else.
harmless() {
	local bad
	[ -s "$2" ] || fail "$1: no trace"
	expect "$1: processes" 1 "$(cut -d' ' -f1 "$2" | sort -u | wc -l)"
	expect "$1: execve" 1 "$(grep -cE '^[0-9]+ +execve\(' "$2")"
	bad=$(grep -vE "^[0-9]+ +(($HARMLESS)\(|\+\+\+ exited with 0 \+\+\+)" "$2") && fail "$1: $bad"
	bad=$(grep -E 'O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)|F_(OFD_)?SETLK|F_SETFL' "$2") && fail "$1: $bad"
	! grep -F /etc/resolv.conf "$2" || fail "$1: it resolves names"
	! grep -F '"home"' "$2" || fail "$1: it looks into homes"
}

snapshot() {
	find "$1" -printf '%p %y %i %m %n %U %G %s %T@ %C@\n' | sort
}

# traced WHAT [ARGUMENT...]: a refused run leaves not a trace.
traced() {
	local what=$1 status=0
	shift
	snapshot "$machine" >"$case_dir/before"
	env "${environment[@]}" "${as_user[@]}" strace -f -qq -o "$case_dir/trace" \
		"$BINARY" "$@" --root "$machine" "${options[@]}" >"$case_dir/stdout" 2>"$case_dir/stderr" || status=$?
	expect "$what: status" 0 "$status"
	expect "$what: changed" "" "$(snapshot "$machine" | diff "$case_dir/before" -)"
	expect "$what: it spoke" "" "$(cat "$case_dir/stdout" "$case_dir/stderr")"
	harmless "$what" "$case_dir/trace"
	runs=$((runs + 1))
}
send=(send -f PRODUCT_FAMILY_PS -v 1 -u http://127.0.0.1:9/)

trace_sources() {
	need strace
	strace -o /dev/null true 2>/dev/null || skip "strace is not permitted here"
	local source kind value index
	new_machine
	for source in --telemetry --telemetry-enabled own parent init $FILES $SWITCHES; do
		for ((index = 0; index < ${#VALUES[@]}; index += 2)); do
			kind=${VALUES[index]} value=${VALUES[index + 1]}
			# The values that say no here.
			case $source:$kind in
				etc/install-record/* | *:other | [!-]*:positive | --*:negative) ;;
				*) continue ;;
			esac
			say "$source" DO_NOT_TRACK quoted "$value"
			traced "$source ${value:0:40}" "${send[@]}"
			unsay "$source"
		done
		say "$source" PERCONA_TELEMETRY_DISABLE quoted junk
		traced "$source, flush" flush
		traced "$source, strict" "${send[@]}" --strict
		unsay "$source"
	done
	not_executed
	echo "$runs runs"
}
run_case "traces: every source, every value" 300 trace_sources

trace_odd_files() {
	need strace
	strace -o /dev/null true 2>/dev/null || skip "strace is not permitted here"
	local kind file
	for kind in fifo directory link-loop binary megabyte; do
		for file in etc/environment etc/profile.d/x.sh root/.zshenv etc/install-record/off; do
			new_machine
			make_odd "$kind" "$machine/$file"
			traced "$kind /$file" "${send[@]}"
		done
	done
	# A refusal that leaves what is pending where it is.
	new_machine
	mkdir -p "$machine"/var/lib/install-record/{pending,sent} "$machine/usr/local/percona"
	echo 'instanceId:6b1b9f0e-5f2c-4f0e-9d07-0c7e0b2c9a11' >"$machine/usr/local/percona/telemetry_uuid"
	echo '{}' >"$machine/var/lib/install-record/pending/x"
	echo 'DO_NOT_TRACK=1' >"$machine/etc/environment"
	traced "with something pending" "${send[@]}"
	traced "with something pending, flush" flush
}
run_case "traces: files that are no files, and pending records" 60 trace_odd_files

# The same on a real root: a throwaway copy of this system, with its own strace.
real_root() {
	need strace
	need_namespaces
	mkdir -p "$case_dir/share"
	cp "$BINARY" "$case_dir/share/install-record"
	{
		declare -p HARMLESS FILES SWITCHES NAMES send
		declare -f fail expect harmless
		cat <<-'END'
			umask 022
			# Nothing that this machine's owner has said.
			for file in $FILES; do rm -rf "/${file:?}"; done
			rm -rf /etc/environment.d /etc/profile.d /etc/install-record /usr/local/percona /var/lib/install-record
			sed -i 's,^root:\(.*\):/root:,root:\1:/srv/root:,' /etc/passwd
			strace -o /dev/null true 2>/dev/null || exit 77
			# Where a program would leave something; not deeper, because the real machine shines through and is alive.
			state() {
				find / /etc /etc/install-record /home /opt /root /run /srv /usr/local /usr/local/percona /var \
					/var/cache /var/lib /var/lib/install-record /var/tmp -maxdepth 1 \
					-printf '%p %y %i %m %U %G %s %T@ %C@\n' 2>/dev/null |
					grep -vE '^/(tmp|proc|sys|dev|share)[/ ]|^/root/.cache ' | sort -u
			}
			# traced WHAT COMMAND...: COMMAND runs the trace.
			traced() {
				local what=$1 status=0
				shift
				rm -f /share/trace
				state >/share/before
				"$@" >/share/said 2>&1 || status=$?
				expect "$what: status" 0 "$status"
				[ ! -s /share/said ] || fail "$what: it spoke: $(cat /share/said)"
				expect "$what: changed" "" "$(state | diff /share/before -)"
				harmless "$what" /share/trace
				[ ! -s /share/receiver/connections ] || fail "$what: it connected"
				echo "$what"
			}
			run="strace -f -qq -o /share/trace /share/install-record ${send[*]}"
			traced flag $run --telemetry=false
			for name in $NAMES; do
				traced "own $name" env $name=1 $run
				# The variable is in the environment that bash was started with, and not in ours.
				traced "ancestor $name" env $name=true bash -c "env -i PATH=\"\$PATH\" $run; exit \$?"
			done
			for file in $FILES $SWITCHES; do
				mkdir -p "/${file%/*}"
				echo "DO_NOT_TRACK=1" >"/$file"
				traced "/$file" $run
				rm "/$file"
			done
		END
	} >"$case_dir/share/real"
	RECEIVER_OPTIONS='' in_system / '. /share/real'
}
run_case "traces: the real root" 120 real_root

# As real users: root's own environment is closed to others, and that is no "no".
real_users() {
	need setpriv
	need_namespaces
	mkdir -p "$case_dir/share"
	cp "$BINARY" "$case_dir/share/install-record"
	chmod 0755 "$case_dir/share/install-record"
	RECEIVER_OPTIONS=none in_system / '
	rm -rf /etc/environment /etc/environment.d /etc/profile /etc/profile.d /etc/bash.bashrc /etc/bashrc /etc/install-record
	chmod 0700 /root
	cp /share/install-record /usr/bin/install-record-under-test
	nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
	ir=/usr/bin/install-record-under-test
	decision() { sed -n "s/^decision: *\([a-z]*\).*/\1/p"; }
	echo "export DO_NOT_TRACK=1" >/root/.bashrc
	echo "root: $($ir status --profile percona | decision)"
	echo "not root: $($nobody $ir status --profile percona | decision)"
	rm /root/.bashrc
	echo "root, called by root: $(env DO_NOT_TRACK=1 bash -c "env -i $ir status --profile percona; exit" | decision)"
	echo "not root, called by root: $(env DO_NOT_TRACK=1 bash -c "$nobody env -i $ir status --profile percona; exit" | decision)"
	echo "not root, called by its own: $($nobody env DO_NOT_TRACK=1 bash -c "env -i $ir status --profile percona; exit" | decision)"
	' >"$case_dir/decisions"
	expect decisions "root: skip
not root: send
root, called by root: skip
not root, called by root: send
not root, called by its own: skip" "$(cat "$case_dir/decisions")"
}
run_case "real users: root's home and root's processes" 30 real_users

finish
