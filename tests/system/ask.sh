# shellcheck shell=bash disable=SC2154,SC2034
# What the tests ask, inside the throwaway systems of in_system (lib.sh) and outside of them. Both see the directory `share`,
# which has the receiver's.

url=https://check.percona.com:8443/v1/telemetry/GenericReport
identity=/usr/local/percona/telemetry_uuid
state=/var/lib/install-record
off=/etc/install-record/off

# fail WHY: ends a case, or the script inside, as failed.
fail() {
	echo "     $*" >&2
	exit 1
}

# expect WHAT EXPECTED ACTUAL, contains TEXT PART...
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }
contains() {
	local text=$1 part
	shift
	for part; do [[ $text == *"$part"* ]] || fail "no '$part' in '$text'"; done
}

absent() { [ -z "$(ls -d "$@" 2>/dev/null)" ] || fail "there is $(find "$@" 2>/dev/null)"; }
present() { ls -d "$@" >/dev/null || fail "not all are there: $*"; }

# lines FILE: how many, 0 where there is none. requests, connections: what the receiver of in_system got.
lines() { sed -n '$=' "$1" 2>/dev/null | grep . || echo 0; }
requests() { lines "$share/receiver/requests.jsonl"; }
connections() { lines "$share/receiver/connections"; }
pending() { find $state/pending -type f ! -name '.*' 2>/dev/null | wc -l; }

# body N: the exact body of the N-th request. field NAME TEXT: the value of the one field with that name. sent N WORD: so many
# records arrived, all of them deployed by WORD.
sent() {
	expect "requests, and those of $2" "$1 $1" \
		"$(requests) $(grep -lF "{\"key\":\"deployment\",\"value\":\"$2\"}" "$share"/receiver/body-* | wc -l)"
}
body() { cat "$share/receiver/body-$1"; }
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" <<<"$2"; }

# no_trace: nobody was called, and nothing is kept.
no_trace() {
	expect connections 0 "$(connections)"
	absent ${identity%/*} $state
}

# await COMMAND...: tries it again and again until it succeeds, for 30 s at most.
await() {
	local end=$((SECONDS + 30))
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "in vain: $*"
		sleep 0.05
	done
}

# run COMMAND...: it has to succeed. What it said is in $share/said, and quiet says that nothing of that is ours.
run() { "$@" >"$share/said" 2>&1 || fail "$*: status $?: $(cat "$share/said")"; }
quiet() { ! grep "${1:-install-record:}" "$share/said" || fail 'it said something'; }

# receive DIRECTORY OPTION...: starts the receiver and waits until it listens.
receive() {
	mkdir -p "$1"
	"$RECEIVER" --dir "$@" &
	await [ -e "$1/port" ]
}

# copy_of ROOT DIRECTORY: mounts a throwaway copy of ROOT at DIRECTORY/root.
copy_of() {
	mount -t tmpfs none "$2"
	mkdir "$2"/{upper,work,root}
	mount -t overlay none -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
}
