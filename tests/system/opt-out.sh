#!/bin/bash
# A "no" on a real Debian: a real user, real sudo, a real `apt-get install` of a package whose postinst reports.
# Each way of saying no ends in nothing at all: no connection, no file, not a word, and an installation that
# succeeds. The control and the values without an opinion end in exactly one record.
# Started by tests/run; see lib.sh for what it expects.
# The scripts are expanded inside the system; run_case calls the functions; case_dir is lib.sh's.
# shellcheck disable=SC1091,SC2016,SC2154,SC2317
. "$(dirname "$0")/lib.sh"

# The package is made once; every case installs the same file.
work=$(mktemp -d) || exit 1
trap 'rm -rf "${work:?}"' EXIT

make_product() {
	# It notes what the decision is at this very place: the hook's own environment and callers.
	product_deb "$work/product" "$work/product.deb" <<-'END'
		#!/bin/sh
		set -e
		export SSL_CERT_FILE=/share/receiver/ca.pem
		/usr/bin/install-record status --profile percona --json >/share/decision || :
		/usr/bin/install-record -f PRODUCT_FAMILY_PS -v 8.0.36-28 \
			-u https://check.percona.com:8443/v1/telemetry/GenericReport -c 10 -t 20 || :
	END
}

# What every script starts with.
PRELUDE='
install="apt-get -qq -y install /share/product.deb"
export DEBIAN_FRONTEND=noninteractive
useradd --create-home --shell /bin/bash admin
echo "admin ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/admin
# as_user COMMANDS: in a login shell of a user who may use sudo.
as_user() { su - admin -c "install=\"$install\"; $1"; }
# as_service COMMAND...: as cron and unattended-upgrades start it, from no shell and without an environment.
as_service() { env -i PATH="$PATH" "$@"; }
'

# system SCRIPT: SCRIPT in a fresh Debian that has the package at hand.
system() {
	need_namespaces
	need dpkg-deb
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/share"
	[ -e "$work/product.deb" ] || make_product
	cp "$work/product.deb" "$case_dir/share/"
	cp "$BINARY" "$case_dir/share/install-record"
	in_system "$root" "$PRELUDE$1"
}

# The installation itself, whatever the answer was.
INSTALLED='
status=$?
[ "$status" = 0 ] || { echo "apt-get: status $status"; cat /share/output; exit 1; }
[ "$(dpkg-query -W -f "\${Status}" product)" = "install ok installed" ] || { echo "not installed"; exit 1; }
[ -s /share/decision ] || { echo "the postinst did not run"; exit 1; }
'

# source_is GLOB: what the hook saw as the source of the "no".
source_is() {
	local source
	source=$(sed -n 's/^ *"source": "\(.*\)",*$/\1/p' "$case_dir/share/decision" | head -n 1)
	# shellcheck disable=SC2053 # a pattern
	[[ $source == $1 ]] || fail "source: expected '$1', got '$source'"
}

# refused SOURCE SCRIPT: SCRIPT installs the product, and the "no" in it, seen as SOURCE, leaves nothing.
refused() {
	system "$2
$INSTALLED"'
	for path in /usr/local/percona /var/lib/install-record /var/tmp/install-record; do
		[ ! -e "$path" ] || { echo "$path exists"; ls -laR "$path"; exit 1; }
	done
	! grep install-record /share/output || { echo "it said something"; exit 1; }
	'
	grep -q '"decision": "skip"' "$case_dir/share/decision" || fail "the decision was not to skip"
	source_is "$1"
	expect connections 0 "$(connections)"
	expect requests 0 "$(requests)"
}

# reported SCRIPT: SCRIPT installs the product, and one record arrives.
reported() {
	system "$1
$INSTALLED"
	grep -q '"decision": "send"' "$case_dir/share/decision" || fail "the decision was not to send: $(cat "$case_dir/share/decision")"
	expect requests 1 "$(requests)"
	body 1 | grep -q '{"key":"deployment","value":"PACKAGE"}' || fail "not a package: $(body 1)"
}

# user COMMANDS, service COMMAND: the installation as text for `refused` and `reported`.
user() {
	printf 'as_user %q >/share/output 2>&1' "$1"
}

service() {
	printf '%s\nas_service %s $install >/share/output 2>&1' "$1" "${2:-}"
}

# refused_by NAME SOURCE SCRIPT, reported_by NAME SCRIPT
refused_by() {
	run_case "$1" 60 refused "$2" "$3"
}

reported_by() {
	run_case "$1" 60 reported "$2"
}

variable=PERCONA_TELEMETRY_DISABLE

# The bootstrap is not a case's time.
make_root() {
	need_namespaces
	root_of bookworm sudo >/dev/null
}
run_case "Debian bookworm with sudo" 300 make_root

reported_by "nobody said no: one record, PACKAGE" "$(user 'sudo $install')"
reported_by "nobody said no, unattended: one record" "$(service :)"

# Variables that reach the postinst.
refused_by "root's environment" "env $variable" "export $variable=1; "'$install >/share/output 2>&1'
refused_by "root's environment, DO_NOT_TRACK=true" "env DO_NOT_TRACK" 'export DO_NOT_TRACK=true; $install >/share/output 2>&1'
refused_by "a service's environment" "env $variable" "$(service : "$variable=yes")"
refused_by "sudo X=1 apt-get" "env $variable" "$(user "sudo $variable=1 "'$install')"
refused_by "sudo X=true apt-get" "env $variable" "$(user "sudo $variable=true "'$install')"
refused_by "sudo DO_NOT_TRACK=1 apt-get" "env DO_NOT_TRACK" "$(user 'sudo DO_NOT_TRACK=1 $install')"
refused_by "sudo env X=1 apt-get" "env $variable" "$(user "sudo env $variable=1 "'$install')"
refused_by "export X=1; sudo -E apt-get" "env $variable" "$(user "export $variable=1; sudo -E "'$install')"
refused_by "sudo --preserve-env=X apt-get" "env $variable" "$(user "$variable=1 sudo --preserve-env=$variable "'$install')"
refused_by "sudoers env_keep" "env $variable" \
	"echo 'Defaults env_keep += \"$variable DO_NOT_TRACK\"' >/etc/sudoers.d/install-record
$(user "$variable=1 sudo "'$install')"

# Variables that sudo takes away.
refused_by "export X=1; sudo apt-get" "env $variable of process * (sudo)" "$(user "export $variable=1; sudo "'$install')"
refused_by "X=1 sudo apt-get" "env $variable of process * (sudo)" "$(user "$variable=1 sudo "'$install')"
refused_by "X=true sudo apt-get" "env $variable of process * (sudo)" "$(user "$variable=true sudo "'$install')"
refused_by "DO_NOT_TRACK=1 sudo apt-get" "env DO_NOT_TRACK of process * (sudo)" "$(user 'DO_NOT_TRACK=1 sudo $install')"
refused_by "export DO_NOT_TRACK=true; sudo apt-get" "env DO_NOT_TRACK of process * (sudo)" \
	"$(user 'export DO_NOT_TRACK=true; sudo $install')"
refused_by "X=junk sudo apt-get" "env $variable of process * (sudo)" "$(user "$variable='\$(id)' sudo "'$install')"
refused_by "X=1 sudo, without a pty" "env $variable of process * (sudo)" \
	"echo 'Defaults !use_pty' >/etc/sudoers.d/pty
$(user "$variable=1 sudo "'$install')"
refused_by "X=1 sudo -i apt-get" "env $variable of process * (sudo)" "$(user "$variable=1 sudo -i "'$install')"
refused_by "X=1 sudo su - -c apt-get" "env $variable of process * (sudo)" "$(user "$variable=1 sudo su - -c \"\$install\"")"
refused_by "X=1 sudo sudo env -i apt-get" "env $variable of process * (sudo)" \
	"$(user "$variable=1 sudo sudo env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "'$install')"
refused_by "X=1 su - -c apt-get" "env $variable of process * (su)" "$variable=1 su - -c \"\$install\" >/share/output 2>&1"
refused_by "a parent shell's own environment" "env $variable of process * (bash)" \
	"env $variable=1 bash -c 'unset $variable; \"\$@\"; exit \$?' - env -i PATH=\"\$PATH\" \$install >/share/output 2>&1"

# No opinion.
for value in 0 false "'No'" "' off '" "''"; do
	reported_by "export X=$value; sudo apt-get: no opinion" "$(user "export $variable=$value; sudo "'$install')"
done
reported_by "sudo X=0 apt-get: no opinion" "$(user "sudo $variable=0 "'$install')"

# Files, for an installation that no shell has started.
for file in etc/environment etc/environment.d/50-privacy.conf etc/profile etc/profile.d/privacy.sh etc/bash.bashrc \
	etc/bashrc root/.profile root/.bash_profile root/.bashrc root/.zshenv; do
	case $file in
		etc/environment*) line="$variable=1" ;;
		*) line="export $variable=1" ;;
	esac
	refused_by "/$file" "/$file" "$(service "mkdir -p /${file%/*}; echo '$line' >>/$file")"
done
for file in etc/profile.local etc/zsh/zshenv etc/profile.d/privacy root/.zshrc root/.bash_login; do
	refused_by "/$file" "/$file" "$(service "mkdir -p /${file%/*}; echo 'export $variable=1' >>/$file")"
done
refused_by "/etc/fish/config.fish" "/etc/fish/config.fish" \
	"$(service "mkdir -p /etc/fish; echo 'set -gx $variable 1' >>/etc/fish/config.fish")"
refused_by "/etc/systemd/system.conf, DefaultEnvironment=" "/etc/systemd/system.conf" \
	"$(service "mkdir -p /etc/systemd; printf '[Manager]\nDefaultEnvironment=$variable=1\n' >/etc/systemd/system.conf")"
refused_by "/etc/environment without a final newline, and tee -a" "/etc/environment" \
	"$(service "printf 'PATH=\"/usr/bin:/bin:/usr/sbin:/sbin\"' >/etc/environment; echo $variable=1 | tee -a /etc/environment >/dev/null")"
refused_by "bash: braces" "/root/.bashrc" "$(service "echo 'export {A,$variable}=1' >>/root/.bashrc")"
refused_by "bash: eval" "/root/.bashrc" "$(service "echo 'eval \"export $variable=1\"' >>/root/.bashrc")"
refused_by "bash: an alias" "/root/.bashrc" "$(service "echo \"alias apt='$variable=1 apt'\" >>/root/.bashrc")"
refused_by "root's home by passwd(5)" "/home/root/.profile" \
	"$(service "mkdir /home/root; usermod -d /home/root root 2>/dev/null || sed -i 's,^root:\(.*\):/root:,root:\1:/home/root:,' /etc/passwd; echo 'export $variable=1' >/home/root/.profile")"
refused_by "seventy callers below a shell that says no" "env $variable of process * (bash)" '
cat >/deep <<"END"
if [ "$1" = 0 ]; then $install; else env -i PATH="$PATH" install="$install" bash /deep "$(($1 - 1))"; fi
exit
END
env PERCONA_TELEMETRY_DISABLE=1 install="$install" bash /deep 70 >/share/output 2>&1'
refused_by "/etc/environment, DO_NOT_TRACK=true" "/etc/environment" "$(service 'echo DO_NOT_TRACK=true >>/etc/environment')"
refused_by "/etc/environment, and sudo" "*" "echo $variable=1 >>/etc/environment
$(user 'sudo $install')"
refused_by "/etc/profile.d, set in one line and exported in the next" "/etc/profile.d/privacy.sh" \
	"$(service "printf '%s\n' '# no telemetry' '$variable=\"1\" # ever' 'export $variable' >/etc/profile.d/privacy.sh")"
reported_by "/etc/environment with =0: no opinion" "$(service "echo $variable=0 >>/etc/environment")"
reported_by "in a comment: no opinion" "$(service "echo '# export $variable=1' >>/etc/profile")"
reported_by "another user's ~/.profile: never opened" \
	"$(service "echo 'export $variable=1' | tee -a /home/admin/.profile /home/admin/.bashrc >/dev/null")"

# The switch, before anything is installed.
refused_by "install -D /dev/null /etc/install-record/off" "/etc/install-record/off" \
	"$(service 'install -D /dev/null /etc/install-record/off')"
refused_by "install -D /dev/null /etc/install-record/off.d/percona" "/etc/install-record/off.d/percona" \
	"$(service 'install -D /dev/null /etc/install-record/off.d/percona')"
refused_by "install-record off" "/etc/install-record/off" "$(service '/share/install-record off')"
refused_by "install-record off --profile percona" "/etc/install-record/off.d/percona" \
	"$(service '/share/install-record off --profile percona')"
reported_by "another product's switch: no opinion" "$(service '/share/install-record off --profile other')"
reported_by "install-record off, and on again" "$(service '/share/install-record off; /share/install-record on')"

# Both are there for whoever looks, with any umask; twice is once; nothing but the switch decides.
switch_modes() {
	system '
	set -e
	umask 077
	/share/install-record off
	/share/install-record off --profile percona
	stat -c "%a %U %n" /etc/install-record /etc/install-record/off /etc/install-record/off.d /etc/install-record/off.d/* >/share/modes
	before=$(find /etc/install-record -printf "%p %i %m %T@ %C@\n" | sort)
	sleep 0.05
	/share/install-record off
	/share/install-record off --profile percona
	/share/install-record forget
	[ "$before" = "$(find /etc/install-record -printf "%p %i %m %T@ %C@\n" | sort)" ]
	/share/install-record status --profile percona | grep -q "^source: */etc/install-record/off$"
	/share/install-record on --profile percona
	/share/install-record status --profile percona | grep -q "^source: */etc/install-record/off$"
	/share/install-record on
	/share/install-record on
	/share/install-record status --profile percona | grep -q "^decision: *send"
	[ -z "$(find /etc/install-record -type f)" ]
	'
	expect modes "755 root /etc/install-record
644 root /etc/install-record/off
755 root /etc/install-record/off.d
644 root /etc/install-record/off.d/percona" "$(cat "$case_dir/share/modes")"
}
run_case "off and on: 0644 in 0755, twice is once, forget leaves it" 60 switch_modes

# A pending record, and a receiver that is there from now on.
PENDING='
as_service $install >/share/output 2>&1
[ "$(find /var/lib/install-record/pending -type f ! -name ".*" | wc -l)" = 1 ] || { echo "nothing pending"; exit 1; }
mkdir -p /share/receiver
/share/receiver-binary --dir /share/receiver --port 8443 --san check.percona.com &
for _ in $(seq 200); do [ -e /share/receiver/port ] && break; sleep 0.05; done
[ -e /share/receiver/port ] || exit 1
state() { find /var/lib/install-record /usr/local/percona -printf "%p %i %m %s %T@ %C@\n" | sort; cat /var/lib/install-record/pending/* /usr/local/percona/*; }
export SSL_CERT_FILE=/share/receiver/ca.pem
'

flush_asks_again() {
	mkdir -p "$case_dir/share"
	cp "$RECEIVER" "$case_dir/share/receiver-binary"
	RECEIVER_OPTIONS=none system "$PENDING"'
	state >/share/pending
	# unchanged WHAT COMMAND...: sends nothing, says nothing, changes nothing.
	unchanged() {
		local what=$1 said status=0
		shift
		said=$("$@" 2>&1) || status=$?
		[ "$status" = 0 ] || { echo "$what: status $status"; exit 1; }
		[ -z "$said" ] || { echo "$what: said $said"; exit 1; }
		state | cmp -s - /share/pending || { echo "$what: changed"; state | diff /share/pending -; exit 1; }
		[ ! -s /share/receiver/connections ] || { echo "$what: connected"; exit 1; }
	}
	x=PERCONA_TELEMETRY_DISABLE
	ir=/usr/bin/install-record
	again="$ir -f PRODUCT_FAMILY_PS -v 8.0.36-29 -u https://check.percona.com:8443/v1/telemetry/GenericReport"
	unchanged "flush, variable" env $x=1 $ir flush
	unchanged "flush, flag" $ir flush --telemetry=false
	unchanged "flush, sudo" env $x=1 sudo $ir flush
	unchanged "flush, DO_NOT_TRACK" env DO_NOT_TRACK=true $ir flush
	unchanged "the same product again" env $x=1 $again
	unchanged "another product" env $x=1 $ir -f PRODUCT_FAMILY_PXB -v 1
	unchanged "reinstallation" sh -c "$x=1 apt-get -y --reinstall install /share/product.deb >/share/output 2>&1"
	unchanged "reinstallation through sudo" sh -c "$x=1 sudo apt-get -y --reinstall install /share/product.deb >/share/output 2>&1"
	echo $x=1 >/etc/environment
	unchanged "flush, /etc/environment" $ir flush
	: >/etc/environment
	install -D /dev/null /etc/install-record/off.d/percona
	unchanged "flush, off.d" $ir flush
	install -D /dev/null /etc/install-record/off
	unchanged "flush, off" $ir flush
	unchanged "the same product again, off" $again
	$ir on
	$ir flush --strict || { echo "flush: status $?"; exit 1; }
	[ -z "$(find /var/lib/install-record/pending -type f ! -name ".*")" ] || { echo "still pending"; exit 1; }
	'
	expect requests 1 "$(requests)"
	local id
	id=$(grep -aoE '"id": *"[-0-9a-f]{36}"' "$case_dir/share/pending" | grep -oE '[-0-9a-f]{36}' | head -n 1)
	[ -n "$id" ] || fail "no id in the pending record: $(cat "$case_dir/share/pending")"
	body 1 | grep -q "\"id\":\"$id\"" || fail "not the id $id: $(body 1)"
}
run_case "flush and every retry ask again; after on, the same id" 60 flush_asks_again

off_discards() {
	mkdir -p "$case_dir/share"
	cp "$RECEIVER" "$case_dir/share/receiver-binary"
	RECEIVER_OPTIONS=none system "$PENDING"'
	/usr/bin/install-record off || exit 1
	[ -z "$(find /var/lib/install-record -path "*/pending/*" -type f ! -name ".*")" ] || { echo "still pending"; exit 1; }
	/usr/bin/install-record on
	/usr/bin/install-record flush --strict || exit 1
	'
	expect connections 0 "$(connections)"
}
run_case "off deletes what is pending" 60 off_discards

finish
