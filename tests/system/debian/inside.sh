# shellcheck shell=bash disable=SC2034
# What the scripts of tests/system/debian.sh have at hand inside the throwaway system: apt with the local repository,
# and questions about what the receiver got and what the machine keeps.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 SSL_CERT_FILE=/share/receiver/ca.pem
url=https://check.percona.com:8443/v1/telemetry/GenericReport
identity=/usr/local/percona/telemetry_uuid
state=/var/lib/install-record
off=/etc/install-record/off

die() {
	echo "     $*" >&2
	exit 1
}

# same WHAT EXPECTED ACTUAL [MORE]
same() {
	[ "$2" = "$3" ] || die "$1: expected '$2', got '$3'${4:+; $4}"
}

rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/share/repo ./' >/etc/apt/sources.list
# Debian's mirror images keep apt from starting anything; these are hosts.
rm -f /usr/sbin/policy-rc.d
apt-get -qq update

# apt ARGUMENT...: apt-get, as an administrator calls it; what must hold after every call is asked here.
apt() {
	apt-get -y "$@" >/share/apt.log 2>&1 || die "apt-get $* failed: $(cat /share/apt.log)"
	clean
}

clean() {
	same 'dpkg --audit' '' "$(dpkg --audit)"
	! grep -q 'insserv\|dpkg: error' /share/apt.log || die "$(cat /share/apt.log)"
}

# installed PACKAGE...
installed() {
	local package
	for package; do
		dpkg -s "$package" | grep -q '^Status: install ok installed' || die "$package is not installed: $(cat /share/apt.log)"
	done
}

requests() {
	if [ -e /share/receiver/requests.jsonl ]; then wc -l </share/receiver/requests.jsonl; else echo 0; fi
}

connections() {
	if [ -e /share/receiver/connections ]; then wc -l </share/receiver/connections; else echo 0; fi
}

# instances: how many different instance IDs were reported.
instances() {
	cat /share/receiver/body-* | grep -o '"instanceId":"[^"]*"' | sort -u | wc -l
}

pending() {
	find $state/pending -name '*.json*' 2>/dev/null | wc -l
}

# no_trace: nothing was sent, nobody was called, nothing is kept.
no_trace() {
	same 'requests' 0 "$(requests)"
	same 'connections' 0 "$(connections)"
	[ ! -e $identity ] || die "there is an identity file: $(cat $identity)"
	[ ! -e $state ] || die "there is state: $(find $state)"
}

# asking COMMAND...: has debconf ask everything, and CHOICE (yes or no) answer.
asking() {
	EDITOR=/share/choose VISUAL=/share/choose DEBIAN_FRONTEND=editor DEBIAN_PRIORITY=low "$@" >/share/apt.log 2>&1 ||
		die "$*: $(cat /share/apt.log)"
}

# milliseconds COMMAND...: how long it took; its output goes to /share/apt.log.
milliseconds() {
	local from to
	from=$(date +%s%N)
	"$@" >&2
	to=$(date +%s%N)
	echo $(((to - from) / 1000000))
}
