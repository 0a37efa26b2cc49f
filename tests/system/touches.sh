#!/bin/bash
# What the program touches: every command with every profile under strace, against the table in docs/security.md.
. "$(dirname "$0")/lib.sh"

touches() {
	need strace python3
	cp "$system/touches.py" "$tree/docs/security.md" "$share/"
	# A copy of this machine, because strace and python are on it.
	in_system / '
		rm -rf /etc/install-record /var/lib/install-record /usr/local/percona
		mkdir -p /srv/project /etc/memgraph /var/lib/memgraph /share/trace /root/.wundergraph
		mkdir -p /etc/environment.d /etc/fish/conf.d /etc/systemd/system.conf.d /usr/share/install-record/profiles
		echo "{\"strapi\":{\"uuid\":\"7b581c0d-89b7-479e-b379-a76ab90b8754\"}}" >/srv/project/package.json
		echo "--telemetry-enabled=true" >/etc/memgraph/memgraph.conf
		# Something in each directory that is looked through.
		echo "{}" >/usr/share/install-record/profiles/none.json
		touch /etc/profile.d/a.sh /etc/environment.d/a.conf /etc/fish/conf.d/a.fish /etc/systemd/system.conf.d/a.conf
		echo nameserver 127.0.0.53 >/etc/resolv.conf
		chmod 0755 /share
		python3 /share/touches.py /share/install-record /share/security.md /share/trace
	'
}

run_case 'what it touches is in docs/security.md, and all of that is true' 240 touches
finish
