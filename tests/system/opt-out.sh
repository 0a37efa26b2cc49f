#!/bin/bash
# A "no" on a real Debian: a real user, real sudo, a real `apt-get install` of a package whose postinst reports. Each way of
# saying no ends in nothing at all: no connection, no file, not a word, and an installation that succeeds. The control and
# the values without an opinion end in exactly one record. Which values and lines say no, and that flush asks again, is
# tests/shipped's (consent, commands).
. "$(dirname "$0")/lib.sh"

# It notes what the decision is at this very place: the hook's own environment and callers.
run_case 'Debian bookworm with sudo, and a product' 300 make_product \
	'/usr/bin/install-record status --profile percona --json >/share/decision' \
	"SSL_CERT_FILE=/share/receiver/ca.pem /usr/bin/install-record -f PRODUCT_FAMILY_PS -v 8.0.36-28 -u $url -c 10 -t 20"

PRELUDE='
export DEBIAN_FRONTEND=noninteractive install="apt-get -qq -y install /share/product.deb"
useradd --create-home --shell /bin/bash admin
echo "admin ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/admin
ir="/share/install-record --quiet"
'

# decided WHO SOURCE COMMANDS: COMMANDS install the product, or prepare its installation by a service. The "no" in them, seen as
# SOURCE (a pattern), leaves nothing; without a SOURCE one record arrives.
decided() {
	printf 'install="%s"\n%s\n' 'apt-get -qq -y install /share/product.deb' "$3" >"$share/how"
	in_system bookworm+sudo "$PRELUDE"'
		status=0
		case '"$1"' in
			user) su - admin -c ". /share/how" ;;
			root) (. /share/how) ;;
			# As cron and unattended-upgrades start it: from no shell, and without an environment.
			service) . /share/how; env -i PATH="$PATH" $install ;;
		esac >/share/said 2>&1 || status=$?
		expect "apt-get" 0 "$status"
		expect "product" "install ok installed" "$(dpkg-query -W -f "\${Status}" product)"
		[ -z "'"$2"'" ] || { quiet install-record; no_trace; }'
	local decision
	decision=$(cat "$share/decision")
	if [ -z "$2" ]; then
		contains "$decision" '"decision": "send"'
		expect requests 1 "$(requests)"
		is_deployed PACKAGE "$(body 1)"
	else
		contains "$decision" '"decision": "skip"'
		# shellcheck disable=SC2053 # a pattern
		[[ $(field source "$decision" | head -n 1) == $2 ]] || fail "source: expected '$2': $decision"
	fi
}

# Who installs, the source of the "no", and how it is said; X is the variable.
while IFS='|' read -r who source how <&3; do
	[ -n "$who" ] || continue
	how=${how//X/PERCONA_TELEMETRY_DISABLE} source=${source//X/PERCONA_TELEMETRY_DISABLE}
	run_case "$who, ${source:-nobody}: $how" 60 decided "$who" "$source" "$how"
done 3<<'END'
user||sudo $install
service||:

root|env X|export X=1; $install
root|env DO_NOT_TRACK|export DO_NOT_TRACK=true; $install
service|env X|install="X=yes $install"
user|env X|sudo X=1 $install
user|env DO_NOT_TRACK|sudo DO_NOT_TRACK=1 $install
user|env X|sudo env X=1 $install
user|env X|export X=1; sudo -E $install
user|env X|X=1 sudo --preserve-env=X $install
user|env X|echo "Defaults env_keep += X" | sudo tee -a /etc/sudoers.d/keep; X=1 sudo $install

user|env X of process * (sudo)|export X=1; sudo $install
user|env X of process * (sudo)|X=1 sudo $install
user|env X of process * (sudo)|X='$(id)' sudo $install
user|env DO_NOT_TRACK of process * (sudo)|DO_NOT_TRACK=true sudo $install
user|env X of process * (sudo)|echo "Defaults !use_pty" | sudo tee -a /etc/sudoers.d/pty; X=1 sudo $install
user|env X of process * (sudo)|X=1 sudo -i $install
user|env X of process * (sudo)|X=1 sudo su - -c "$install"
user|env X of process * (sudo)|X=1 sudo sudo env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin $install
root|env X of process * (su)|X=1 su - -c "$install"
root|env X of process * (bash)|env X=1 bash -c 'unset X; "$@"; exit $?' - env -i PATH="$PATH" $install
root|env X of process * (bash)|(echo 'd=$1; shift; [ $d = 0 ] && exec "$@"; env -i PATH="$PATH" bash /deep $((d - 1)) "$@"; exit $?') >/deep; X=1 bash /deep 70 $install

user||export X=0; sudo $install
user||export DO_NOT_TRACK=' off '; sudo $install
user||sudo X=0 $install

service|/etc/environment|printf '\n%s\n' X=1 | tee -a /etc/environment
service|/etc/environment|printf 'PATH="/usr/bin:/bin:/usr/sbin:/sbin"' >/etc/environment; echo X=1 | tee -a /etc/environment
user|*|echo X=1 | sudo tee -a /etc/environment; sudo $install
service|/etc/profile.d/x.sh|echo 'export X=1' | tee /etc/profile.d/x.sh
service|/root/.bashrc|echo "alias apt='X=1 apt'" >>/root/.bashrc
service|/home/root/.profile|mkdir /home/root; sed -i 's,^root:\(.*\):/root:,root:\1:/home/root:,' /etc/passwd; echo 'export X=1' >/home/root/.profile
service||echo X=0 >>/etc/environment; echo '# export X=1' >>/etc/profile
service||echo 'export X=1' | tee -a /home/admin/.profile /home/admin/.bashrc

service|/etc/install-record/off|install -D /dev/null /etc/install-record/off
service|/etc/install-record/off.d/percona|install -D /dev/null /etc/install-record/off.d/percona
service|/etc/install-record/off|(umask 077; $ir off; $ir off --profile percona); expect modes '755 644 755 644' "$(stat -c %a /etc/install-record{,/off{,.d,.d/percona}} | paste -sd' ')"
service|/etc/install-record/off.d/percona|$ir off --profile percona
service||$ir off --profile other
service||$ir off; $ir on
END

finish
