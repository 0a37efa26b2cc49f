#!/bin/bash
# One real record from this binary to a receiver on loopback, on a machine that is a directory: what was sent, what is kept,
# that it is sent once, and that a "no" leaves no trace. Fails when anything that it shows is not true.
#   tests/demo.sh BINARY RECEIVER_BINARY        (make demo)
set -eu
[ $# = 2 ] || { echo 'usage: tests/demo.sh BINARY RECEIVER_BINARY' >&2 && exit 2; }
binary=$1 dir=$(mktemp -d)
"$2" --dir "$dir/receiver" &
trap 'kill $! 2>/dev/null || true; rm -rf "${dir:?}"' EXIT
trap 'exit 1' HUP INT TERM

# Without the temporary directory's name, which is of no interest to the reader.
show() { sed -e "s|$dir/||g" -e 's/^/   /' "$@"; }

# check SENTENCE COMMAND...: the command has to succeed.
check() {
	"${@:2}" || { echo "   NOT TRUE: $1" && exit 1; }
	echo "   ok: $1"
}

# The receiver has seen one connection and one request.
has_seen_one() { [ "$(wc -l <"$dir/receiver/connections") $(wc -l <"$dir/receiver/requests.jsonl")" = '1 1' ]; }

# A machine is a directory with what the record is made from; --root reads and writes nothing elsewhere.
new_machine() {
	mkdir -p "$1"/{etc,proc/1,proc/self}
	echo systemd >"$1/proc/1/comm"
	cat /etc/os-release >"$1/etc/os-release"
}

# send MACHINE [NAME=VALUE...]: what a postinst would call, with more time, and with no settings of the person who looks on.
send() {
	local status=0
	env -i SSL_CERT_FILE="$dir/receiver/ca.pem" "${@:2}" "$binary" send --root "$1" -f PRODUCT_FAMILY_PS -v 8.0.36-28 \
		-u "https://localhost:$port/v1/telemetry/GenericReport" -c 5 -t 10 --verbose >"$dir/stdout" 2>"$dir/stderr" || status=$?
	show "$dir/stderr"
	check 'exit status 0, and nothing on stdout' [ "$status$(cat "$dir/stdout")" = 0 ]
}

for _ in $(seq 100); do [ -e "$dir/receiver/port" ] || sleep 0.1; done
port=$(cat "$dir/receiver/port")
echo "== Sent from a fresh machine, as a package would, to https://localhost:$port"
new_machine "$dir/machine"
send "$dir/machine"
check 'one request arrived' has_seen_one

echo $'\n== The record, as it was received'
body=$dir/receiver/body-1
{ cat "$body" && echo; } | show
check 'it names the product and its version, and has these keys and no others' grep -Eq \
	'^\{"reports":\[\{"id":"[-0-9a-f]{36}","product_family":"PRODUCT_FAMILY_PS","instanceId":"[-0-9a-f]{36}","createTime":"[^"]*","metrics":\[\{"key":"deployment","value":"[^"]*"\},\{"key":"pillar_version","value":"8\.0\.36-28"\},\{"key":"OS","value":"([^"\\]|\\.)*"\},\{"key":"hardware_arch","value":"[^"]*"\}\]\}\]\}$' \
	"$body"

echo $'\n== The receipt that stays on the machine'
state=$dir/machine/var/lib/install-record
cat "$state"/sent/* | show
check 'there is one' [ "$(find "$state/sent" -type f | wc -l)" = 1 ]
check 'nothing is pending' [ -z "$(find "$state" -path '*/pending/*')" ]

echo $'\n== The identity file'
identity=$dir/machine/usr/local/percona/telemetry_uuid
show "$identity"
instance=$(sed -n 's/^instanceId: *//p' "$identity")
check 'it holds the ID that was sent' grep -q "\"instanceId\":\"${instance:-none}\"" "$body"
check 'it says that the product has reported' grep -qx 'PRODUCT_FAMILY_PS:1' "$identity"

echo $'\n== The same again: an upgrade, a reconfigure'
send "$dir/machine"
check 'no second connection, no second request' has_seen_one

echo $'\n== Opted out: PERCONA_TELEMETRY_DISABLE=true on another fresh machine'
new_machine "$dir/machine2"
snapshot() { find "$dir/machine2" -printf '%P %y %s %T@ %C@\n' | sort; }
before=$(snapshot)
send "$dir/machine2" PERCONA_TELEMETRY_DISABLE=true
check 'no connection, and nothing arrived' has_seen_one
check 'no file was created or changed' [ "$before" = "$(snapshot)" ]
echo $'\n== All of the above is true'
