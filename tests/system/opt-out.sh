#!/bin/bash
# A "no" on a real Debian: a real user, real sudo, a real `apt-get install` of a package whose postinst reports. Each way of
# saying no ends in nothing at all: no connection, no file, not a word, and an installation that succeeds. Then machines
# that are directories (--root): odd files, processes that vanish or lie, and users who may not look everywhere.
# Which values and lines say no is tested in src/consent; that a refused run only reads is tested by touches.py.
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

# decided WHO SOURCE COMMANDS: COMMANDS install the product, or prepare that. The "no" in them, seen as SOURCE (a pattern),
# leaves nothing; without a SOURCE one record arrives.
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
	answers "$(cat "$share/decision")" "$2"
	[ -n "$2" ] || sent 1 PACKAGE
}

# answers JSON SOURCE: what `status --json` says. SOURCE is how it begins, a pattern; without one, nobody said no.
answers() {
	if [ -z "$2" ]; then
		contains "$1" '"decision": "send"' '"source": null'
	else
		contains "$1" '"decision": "skip"'
		# shellcheck disable=SC2053 # a pattern
		[[ $(field source "$1" | head -n 1) == $2* ]] || fail "source: expected '$2': $1"
	fi
}

# Who installs, the source of the "no", and how it is said; X is the variable.
while IFS='|' read -r who source how <&3; do
	how=${how//X/PERCONA_TELEMETRY_DISABLE} source=${source//X/PERCONA_TELEMETRY_DISABLE}
	run_case "$who, ${source:-nobody}: $how" 60 decided "$who" "$source" "$how"
done 3<<'END'
user||sudo $install
service||:
user||export X=0; sudo DO_NOT_TRACK=' off ' $install
root|env X|export X=1; $install
user|env DO_NOT_TRACK|sudo DO_NOT_TRACK=1 $install
user|env X|sudo env X=1 $install
user|env X|X=1 sudo --preserve-env=X $install
user|env X of process * (sudo)|export X=1; sudo $install
user|env X of process * (sudo)|echo "Defaults !use_pty" | sudo tee -a /etc/sudoers.d/pty; X=1 sudo $install
user|env X of process * (sudo)|X=1 sudo su - -c "$install"
user|env DO_NOT_TRACK of process * (sudo)|DO_NOT_TRACK=true sudo sudo env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin $install
root|env X of process * (su)|X=1 su - -c "$install"
root|env X of process * (bash)|env X=1 bash -c 'unset X; "$@"; exit $?' - env -i PATH="$PATH" $install
service|/etc/environment|printf '\n%s\n' X=1 | tee -a /etc/environment
user|*|echo X=1 | sudo tee -a /etc/environment; sudo $install
service|/etc/profile.d/x.sh|echo 'export X=1' | tee /etc/profile.d/x.sh
service|/root/.bashrc|echo "alias apt='X=1 apt'" >>/root/.bashrc
service|/etc/install-record/off|install -D /dev/null /etc/install-record/off
service|/etc/install-record/off|(umask 077; $ir off; $ir off --profile percona); expect modes '755 644 755 644' "$(stat -c %a /etc/install-record{,/off{,.d,.d/percona}} | paste -sd' ')"
END

# ---- machines that are directories ----

# The files of the contract's list, each of which says nothing there.
SETTINGS=$tree/tests/roots/settings
FILES=$(cd "$SETTINGS" && grep -rlF DO_NOT_TRACK=0 etc root srv/root | paste -sd' ')
SWITCHES='etc/install-record/off etc/install-record/off.d/percona'
DIRECTORIES='etc/environment.d etc/profile.d etc/fish/conf.d etc/systemd/system.conf.d'
[ "$(wc -w <<<"$FILES")" = 33 ] || exit 1

# new_machine: one at $machine whose hook was called by sudo (7), called by init (1).
new_machine() {
	machine=$case_dir/machine
	rm -rf "$machine"
	cp -r "$SETTINGS" "$machine"
	mkdir -p "$machine/etc/install-record/off.d"
	(cd "$machine" && process 7 sudo 1 'A=1\0' && process 1 init 0 '')
}

# process PID NAME PARENT ENVIRONMENT
process() {
	mkdir -p "proc/$1"
	echo "$1 ($2) S $3 7 7 0 -1" >"proc/$1/stat"
	echo "$2" >"proc/$1/comm"
	# shellcheck disable=SC2059 # with its NULs
	printf "$4" >"proc/$1/environ"
}

# What is done to a machine, and the source of the "no": ! before it is root's alone.
as_user=()
changes() {
	while IFS='|' read -r source change; do
		[ -n "${is_one:-}" ] || new_machine
		[ "$(id -u)" = 0 ] || source=${source/!*/}
		(cd "$machine" && eval "$change")
		answers "$("${as_user[@]}" "$BINARY" status --json --root "$machine") $change" "${source#!}"
	done
}
# What is made in the place of each of these, $f: it says no where the row begins so, and else is no opinion.
odd_files() {
	while IFS='|' read -r says_no places change; do
		for f in $places; do echo "${says_no:+/$f}|f=$f; rm -rf $f; $change"; done
	done | changes
}
run_case 'what is no file, a loop or nothing' 60 odd_files <<-END
	no|$FILES $SWITCHES $DIRECTORIES|mkfifo \$f
	no|$FILES $SWITCHES|mkdir \$f
	no|$FILES $SWITCHES $DIRECTORIES root etc/install-record/off.d etc/install-record|ln -s \${f##*/} \$f
	no|$FILES $DIRECTORIES|ln -s .other \$f; ln -sf \${f##*/} \${f%/*}/.other
	no|$SWITCHES|ln -s nowhere \$f
	no|$DIRECTORIES|: >\$f
	|$FILES $DIRECTORIES|ln -s nowhere \$f
	|$FILES|: >\$f
	|$FILES|printf '# na\\357ve caf\\351 \\200\\201\\nexport A="\\377"\\n' >\$f
END

# What hides the callers from us is no opinion. A chain of callers that breaks is a no for root, from whom nobody hides; see
# waiting as well.
run_case 'processes that vanish, lie or never end' 60 changes <<-'END'
	there is no /proc|rm -r *
	|rm -r proc/self
	!env of process 7 (unknown)|rm -r proc/7
	!env of process 7 (sudo)|process 7 sudo 7 ''
	!env of process 7 (sudo)|process 7 sudo 8 ''; process 8 sh 7 ''
	|process 7 sudo 0 ''
	env DO_NOT_TRACK of process 1 (init)|printf '7 (a) S 1) (x) S 1 7 7 0 -1' >proc/7/stat; process 1 init 0 'DO_NOT_TRACK=1\0'
	!env of process 7 (sudo)|printf '7 (sudo' >proc/7/stat
	!env of process 7 (sudo)|process 7 sudo -1 ''
	env DO_NOT_TRACK of process 300 (far)|process 7 sudo 100 ''; for i in {100..299}; do process $i x $((i + 1)) ''; done; process 300 far 1 'DO_NOT_TRACK=1\0'
	env DO_NOT_TRACK of process 7 (sudo)|process 7 sudo 1 "$(printf '%03000000d' 7)\0DO_NOT_TRACK=1\0"
END

# Somebody who is not root may not look everywhere, and is not refused for that. One machine, changed step by step.
not_root() {
	local is_one=yes
	if [ "$(id -u)" = 0 ]; then
		need setpriv
		BINARY=$share/install-record
		cp "$work/share/install-record" "$BINARY"
		chmod 0755 "$case_dir" "$BINARY"
		as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	fi
	new_machine
	rm "$machine/etc/passwd"
	changes
}
run_case 'not root: what is closed' 30 not_root <<-'END'
	/root/.profile|echo 'export DO_NOT_TRACK=1' | tee root/.{profile,bashrc,zshenv} >/dev/null
	|chmod 000 root
	env DO_NOT_TRACK of process 7 (sudo)|process 7 sudo 1 'DO_NOT_TRACK=1\0'
	|chmod 000 proc/7/environ
	env DO_NOT_TRACK of process 1 (init)|process 1 init 0 'DO_NOT_TRACK=1\0'
	|chmod 000 proc/1/environ proc/1
	/etc/profile|for file in etc/{environment,environment.d/x.conf,profile,profile.d/x,bashrc}; do echo DO_NOT_TRACK=1 >$file; chmod 000 $file; done; chmod 644 etc/profile
	|chmod 000 etc/profile
	|chmod 000 etc/environment.d etc/profile.d
	/etc/install-record/off|chmod 000 etc/install-record
END

finish
