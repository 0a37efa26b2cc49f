#!/bin/bash
# An administrator's minute: a product of another profile has been installed. What has left? Turn it off. Is it off? Purge.
# tests/system/minute/transcript is what the terminal shows, IDs and times apart. And every line of the README that shows
# a run is tried.
# Started by tests/run; see lib.sh for what it expects.
# shellcheck disable=SC1091,SC2016,SC2154,SC2317
. "$(dirname "$0")/lib.sh"

# masked: IDs, times and the version of the system are not the same twice.
masked() {
	sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g; s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]*Z/TIME/g'
}

minute() {
	install -D "$system/minute/mine.json" "$case_dir/deb/usr/share/install-record/profiles/mine.json"
	product_deb "$share/product.deb" "$case_dir/deb" <<-'END'
		#!/bin/sh
		set -e
		[ "$1" != configure ] || SSL_CERT_FILE=/share/receiver/ca.pem /usr/bin/install-record send --profile mine \
			-v 8.0.36-28 -c 10 -t 20 </dev/null >&2 || :
	END
	in_system bookworm+sudo+nftables+apt-utils '
		# The administrator has a copy of the program, which outlives the product.
		cp /share/install-record /usr/local/bin/
		export PATH=/usr/local/bin:$PATH HOME=/root DEBIAN_FRONTEND=noninteractive
		shown() { echo "# $*"; "$@" 2>&1 || echo "(status $?)"; }
		apt-get -qq -y install /share/product.deb >/share/apt 2>&1
		{
			shown install-record status
			shown install-record status --profile mine
			shown install-record off
			apt-get -qq -y purge product >>/share/apt 2>&1
			shown ls -A /etc/install-record
			shown install-record status
		} >/share/transcript
	'
	expect 'records that left' 1 "$(requests)"
	masked <"$case_dir/share/transcript" >"$case_dir/masked"
	[ -z "${UPDATE:-}" ] || cp "$case_dir/masked" "$system/minute/transcript"
	diff -u "$system/minute/transcript" "$case_dir/masked" || fail 'the transcript has changed (UPDATE=1 writes it)'
}

# Each `install-record ...` in the README's table of profiles makes a record, where the profile finds what it needs.
readme_runs() {
	local machine=$case_dir/tree line count=0
	mkdir -p "$machine"/{etc/memgraph,var/lib/memgraph}
	echo 'PRETTY_NAME="Test 1"' >"$machine/etc/os-release"
	echo '--telemetry-enabled=true' >"$machine/etc/memgraph/memgraph.conf"
	echo '{"strapi":{"uuid":"7b581c0d-89b7-479e-b379-a76ab90b8754"}}' >"$machine/package.json"
	while IFS= read -r line; do
		count=$((count + 1))
		(
			cd "$machine"
			# The line is words and quotes as in a shell.
			eval "set -- ${line#install-record}"
			HOME=/root "$BINARY" show --root "$machine" "$@" </dev/null | grep -q '^[[{]' || fail "$line"
		)
	done < <(sed -n 's/^| [a-z]*\( (default)\)\? | `\(install-record .*\)` |$/\2/p' "$tree/README.md")
	expect 'lines' 5 "$count"
}

run_case "after apt install of another profile's product: status, off, purge, status" 60 minute
run_case 'every run in the README' 30 readme_runs
finish
