# shellcheck shell=bash disable=SC1091,SC2016,SC2034,SC2086,SC2154
# What holds of apt and dnf alike, on a system inside of in_system. Their verbs are in debian/cases.sh and rpm/cases.sh.

export SSL_CERT_FILE=/share/receiver/ca.pem PERCONA_TELEMETRY_URL=$url

os() { (. /etc/os-release && echo "$PRETTY_NAME"); }

# one_record FAMILY VERSION: what has just been installed has sent it, and what is kept of it is the whole identity file.
one_record() {
	contains "$(cat /share/said)" "sent one install record of $1 to "
	expect 'pending, requests' '0 1' "$(pending) $(requests)"
	contains "$(body 1)" "\"product_family\":\"$1\"" '"metrics":[{"key":"deployment","value":"PACKAGE"},' \
		"{\"key\":\"pillar_version\",\"value\":\"$2\"},{\"key\":\"OS\",\"value\":\"$(os)\"},{\"key\":\"hardware_arch\",\"value\":\"x86_64 x86_64\"}]"
	expect 'identity file' "instanceId:$(field instanceId "$(body 1)") $1:1" "$(paste -sd' ' $identity)"
}

# A vendor that has only the page of docs/ gets its record, which status tells, and its product stays when install-record goes.
adopted() {
	export MINE_RECORDS_URL=https://check.percona.com:8443/v1/installs
	install mine
	installed mine install-record
	contains "$(body 1)" "\"instance\":\"$(cat /var/lib/mine/instance-id)\",\"version\":\"1.4.2-3\""
	absent ${identity%/*}
	contains "$(env -u PERCONA_TELEMETRY_URL install-record status)" \
		"percona:      send, nobody said no; ${url/:8443/}" 'mine:         send, nobody said no; https://' \
		'strapi:       skip, this cannot be decided here (give --project DIR: {project}/package.json may say no); https://' \
		'pending:      nothing' 'sent:         mine on 20' "Z to $MINE_RECORDS_URL: 200 accepted"
	reinstall mine
	remove install-record
	installed mine
	absent /usr/bin/install-record
	reinstall mine
	quiet
	install install-record
	replace install-record no-install-record
	installed mine no-install-record
	present $off
	absent /usr/bin/install-record
	replace no-install-record install-record
	adopted_no_more
	expect requests 1 "$(requests)"
}

# Where there is no program for it, no-install-record takes its place; and a switch from before stays its owner's.
without_the_program() {
	exclude install mine product
	installed mine product no-install-record
	no_trace
	purge mine product no-install-record
	absent ${off%/*}
	mkdir ${off%/*}
	echo mine >$off
	install no-install-record
	switch_meanwhile
	purge no-install-record
	expect 'the switch from before' mine "$(cat $off)"
}

# percona VERSION: Percona's packages with the shim, in each form. Without the program they are silent.
percona() {
	groupadd percona-telemetry
	install_percona() {
		install_files 'percona-*'
		expect 'scripts that went on' 5 "$(grep -c '^the end of' /share/said)"
	}
	install_percona
	no_trace
	quiet 'install-record\|not found'
	install install-record
	install_percona
	install_percona
	sent 5 PACKAGE
	for form in 1 2 3 4 5; do
		contains "$(body $form)" "{\"key\":\"pillar_version\",\"value\":\"$1\"},{\"key\":\"OS\",\"value\":\"$(os)\"}" \
			"\"instanceId\":\"$(sed -n 's/^instanceId://p' $identity)\""
	done
	expect 'the identity file' "$(printf 'PRODUCT_FAMILY_%s:1\n' $CALL_HOME_FORMS | sort)" "$(sed -n '2,$p' $identity | sort)"
	expect 'group and mode' 'root:percona-telemetry 664' "$(stat -c '%U:%G %a' $identity)"
	absent /tmp/call-home.sh
}

# refused COMMAND...: `export X=1; sudo COMMAND install product`; and with X=0.
refused() {
	local sudo=(sudo "--preserve-env=SSL_CERT_FILE,PERCONA_TELEMETRY_URL")
	export PERCONA_TELEMETRY_DISABLE=1
	run "${sudo[@]}" "$@" install product
	installed product install-record
	quiet
	no_trace
	unset PERCONA_TELEMETRY_DISABLE
	remove product
	run "${sudo[@]}" PERCONA_TELEMETRY_DISABLE=0 DO_NOT_TRACK=off "$@" install product
	expect requests 1 "$(requests)"
}

# A person's "no" outlives no-install-record; its own goes with it.
a_persons_no() {
	install_files 'no-install-record[-_]*'
	present $off
	purge no-install-record
	absent $off
	own_switch
}
