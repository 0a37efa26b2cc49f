#!/bin/bash
# One real record from this binary to a receiver on loopback, on a machine that is a directory: what was sent, what is kept,
# that it is sent once, and that a "no" leaves no trace. Fails when anything that it shows is not true.
#   tests/demo.sh BINARY RECEIVER_BINARY        (make demo)
set -eu -o pipefail
[ $# = 2 ] || { echo 'usage: tests/demo.sh BINARY RECEIVER_BINARY' >&2 && exit 2; }
binary=$1 dir=$(mktemp -d)
"$2" --dir "$dir/receiver" &
trap 'kill $! 2>/dev/null || true; rm -rf "${dir:?}"' EXIT
trap 'exit 1' HUP INT TERM

# Without the temporary directory's name, which is of no interest to the reader.
show() { sed -e "s|$dir/||g" -e 's/^/   /'; }

# check SENTENCE COMMAND...: the command has to succeed.
check() {
	"${@:2}" || { echo "   NOT TRUE: $1" && exit 1; }
	echo "   ok: $1"
}

# send MACHINE [NAME=VALUE...]: what a postinst would call, with more time, and with no settings of the person who looks on.
# --root reads and writes nothing elsewhere. However often it is called, the receiver has seen one request.
send() {
	env -i SSL_CERT_FILE="$dir/receiver/ca.pem" "${@:2}" "$binary" send --root "$1" -f PRODUCT_FAMILY_PS -v 8.0.36-28 \
		-u "https://localhost:$(cat "$dir/receiver/port")/v1/telemetry/GenericReport" -c 5 -t 10 --verbose 2>&1 | show
	check 'one connection and one request' \
		[ "$(wc -l <"$dir/receiver/connections") $(wc -l <"$dir/receiver/requests.jsonl")" = '1 1' ]
}

for _ in $(seq 100); do [ -e "$dir/receiver/port" ] || sleep 0.1; done
echo '== Sent from a fresh machine, as a package would'
mkdir -p "$dir"/fresh/{etc,proc/1,proc/self}
echo systemd >"$dir/fresh/proc/1/comm"
cat /etc/os-release >"$dir/fresh/etc/os-release"
cp -r "$dir/fresh" "$dir/machine"
send "$dir/machine"

echo $'\n== The record, as it was received'
body=$dir/receiver/body-1
{ cat "$body" && echo; } | show
check 'it names the product and its version' grep -q '"PRODUCT_FAMILY_PS".*"8\.0\.36-28"' "$body"

echo $'\n== The receipt that stays on the machine, and the identity file'
state=$dir/machine/var/lib/install-record identity=$dir/machine/usr/local/percona/telemetry_uuid
cat "$state"/sent/* "$identity" | show
check 'nothing is pending' [ -z "$(find "$state" -path '*/pending/*')" ]
check 'the file holds the ID that was sent' grep -q "\"instanceId\":\"$(sed -n 's/^instanceId://p' "$identity" | grep .)\"" "$body"
check 'it says that the product has reported' grep -qx 'PRODUCT_FAMILY_PS:1' "$identity"

echo $'\n== The same again: an upgrade, a reconfigure'
send "$dir/machine"

echo $'\n== Opted out: PERCONA_TELEMETRY_DISABLE=true on another fresh machine'
send "$dir/fresh" PERCONA_TELEMETRY_DISABLE=true
check 'no file was created' [ "$(find "$dir/fresh" -type f | wc -l)" = 2 ]
echo $'\n== All of the above is true'
