#!/bin/bash
# One real record from this binary to a receiver on loopback, on a machine that is a directory: what was sent,
# what is kept, that it is sent once, and that a "no" leaves no trace. Needs no root and no network, and touches
# nothing outside a temporary directory. Exits non-zero when anything that it shows is not true.
#
#   tests/demo.sh BINARY RECEIVER_BINARY        (make demo)
set -eu

if [ $# -ne 2 ]; then
	echo 'usage: tests/demo.sh BINARY RECEIVER_BINARY' >&2
	exit 2
fi
binary=$1
# Nobody's settings but those below: neither a "no" of the person who looks on, nor their proxy.
for name in $(compgen -e); do
	case $name in
		PERCONA_* | DO_NOT_TRACK | SSL_CERT_* | *_proxy | *_PROXY) unset "$name" ;;
	esac
done
dir=$(mktemp -d)
"$2" --dir "$dir/receiver" &
receiver=$!
trap 'kill "$receiver" 2>/dev/null || true; wait "$receiver" 2>/dev/null || true; rm -rf "${dir:?}"' EXIT
trap 'exit 1' HUP INT TERM

title() { printf '\n== %s\n' "$1"; }

# The temporary directory has a new name every time and is of no interest to the reader.
show() { sed -e "s|$dir/||g" -e 's/^/   /' "$@"; }

# check SENTENCE COMMAND...: the command has to succeed.
check() {
	local sentence=$1
	shift
	if "$@"; then
		printf '   ok: %s\n' "$sentence"
	else
		printf '   NOT TRUE: %s\n' "$sentence"
		exit 1
	fi
}

# The receiver has seen so many connections and requests.
has_seen() { [ "$(wc -l <"$dir/receiver/connections") $(wc -l <"$dir/receiver/requests.jsonl")" = "$1 $1" ]; }

# A machine is a directory with what the record is made from; --root reads and writes nothing elsewhere.
new_machine() {
	mkdir -p "$1/etc" "$1/proc/1" "$1/proc/self"
	echo systemd >"$1/proc/1/comm"
	cat /etc/os-release >"$1/etc/os-release" # usually a link: this copies the text
}

# Every name, size and time of change below a directory.
snapshot() { find "$1" -printf '%P %y %s %T@ %C@\n' | sort; }

# send MACHINE [NAME=VALUE...]: what a postinst would call, with more time, so that a busy computer cannot spoil it.
send() {
	local machine=$1 status=0
	shift
	env SSL_CERT_FILE="$dir/receiver/ca.pem" "$@" \
		"$binary" send --root "$machine" -f PRODUCT_FAMILY_PS -v 8.0.36-28 \
		-u "https://localhost:$port/v1/telemetry/GenericReport" -c 5 -t 10 --verbose >"$dir/stdout" 2>"$dir/stderr" || status=$?
	show "$dir/stderr"
	check 'exit status 0, and nothing on stdout' [ "$status$(cat "$dir/stdout")" = 0 ]
}

title 'A receiver on loopback, with a certificate of its own'
for _ in $(seq 100); do [ -e "$dir/receiver/port" ] || sleep 0.1; done
check 'the receiver listens' [ -e "$dir/receiver/port" ]
port=$(cat "$dir/receiver/port")
echo "   https://localhost:$port"

title 'Sent from a fresh machine, as a package would'
new_machine "$dir/machine"
send "$dir/machine"
check 'one request arrived' has_seen 1

title 'The record, as it was received'
body=$dir/receiver/body-1
{ cat "$body" && echo; } | show
check 'it names the product and its version, and has these keys and no others' grep -Eq \
	'^\{"reports":\[\{"id":"[-0-9a-f]{36}","product_family":"PRODUCT_FAMILY_PS","instanceId":"[-0-9a-f]{36}","createTime":"[^"]*","metrics":\[\{"key":"deployment","value":"[^"]*"\},\{"key":"pillar_version","value":"8\.0\.36-28"\},\{"key":"OS","value":"([^"\\]|\\.)*"\},\{"key":"hardware_arch","value":"[^"]*"\}\]\}\]\}$' \
	"$body"

title 'The receipt that stays on the machine'
state=$dir/machine/var/lib/install-record
cat "$state"/sent/* | show
check 'there is one' [ "$(find "$state/sent" -type f | wc -l)" = 1 ]
check 'nothing is pending' [ -z "$(find "$state" -path '*/pending/*')" ]

title 'The identity file'
identity=$dir/machine/usr/local/percona/telemetry_uuid
show "$identity"
instance=$(sed -n 's/^instanceId: *//p' "$identity")
check 'it holds the ID that was sent' grep -q "\"instanceId\":\"${instance:-none}\"" "$body"
check 'it says that the product has reported' grep -qx 'PRODUCT_FAMILY_PS:1' "$identity"

title 'The same again: an upgrade, a reconfigure'
send "$dir/machine"
check 'no second connection, no second request' has_seen 1

title 'Opted out: PERCONA_TELEMETRY_DISABLE=true on another fresh machine'
new_machine "$dir/machine2"
before=$(snapshot "$dir/machine2")
send "$dir/machine2" PERCONA_TELEMETRY_DISABLE=true
check 'no connection, and nothing arrived' has_seen 1
echo '   every file of that machine:'
(cd "$dir/machine2" && find . -type f) | show
check 'no file was created or changed' [ "$before" = "$(snapshot "$dir/machine2")" ]

title 'All of the above is true'
