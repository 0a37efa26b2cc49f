# shellcheck shell=bash disable=SC1091,SC2016,SC2034,SC2046,SC2086,SC2154,SC2164
# The cases of tests/system/debian.sh that run on a system inside of in_system, after packages.sh.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/share/repo ./' >/etc/apt/sources.list
# Debian's mirror images keep apt from starting anything; these are hosts.
rm -f /usr/sbin/policy-rc.d
run apt-get -qq update

# apt ARGUMENT...: apt-get, as an administrator calls it. clean: what must hold after every call.
apt() { run apt-get -y "$@" && clean; }
clean() {
	expect 'dpkg --audit' '' "$(dpkg --audit)"
	quiet 'insserv\|dpkg: error'
}
install() { apt install "$@"; }
reinstall() { apt install --reinstall "$@"; }
remove() { apt remove "$@"; }
purge() { apt purge "$@"; }
# The old one goes because the new one conflicts with it.
replace() { apt install "$2"; }
switch_meanwhile() { present $off; }
# An architecture without a build, as apt sees it.
exclude() {
	printf 'Package: install-record\nPin: release *\nPin-Priority: -1\n' >/etc/apt/preferences.d/none
	"$@"
	rm /etc/apt/preferences.d/none
}
install_files() { run dpkg -i /share/repo/$1.deb && clean; }
installed() { expect "$*" $# "$(dpkg-query -W -f '${Status}\n' "$@" | grep -cx 'install ok installed')"; }
# asking COMMAND...: has debconf ask everything, as a file in an editor, and CHOICE (yes or no) answer.
asking() {
	local editor="echo asked >>/share/asked; sed -i 's,^install-record/send=.*,install-record/send=\"$CHOICE\",'"
	EDITOR=$editor VISUAL=$editor DEBIAN_FRONTEND=editor DEBIAN_PRIORITY=low run "$@"
}

products() {
	cd /share/repo
	run dpkg -i ./dh-install-record_*.deb
	for source in /share/sources/*/; do
		# The program is needed only for --embed.
		[[ $source != *embed* ]] || run dpkg -i ./install-record_*_amd64.deb
		cp -r "$source" source
		(cd source && run dpkg-buildpackage -us -uc -b)
		rm -r source
	done
	rm -f ./*.buildinfo ./*.changes
	apt-ftparchive packages . >Packages
	apt-ftparchive release . >Release
}

# The add-on itself, without being installed: what it refuses, its options, quoting.
add_on() {
	mkdir -p /src/debian /build/debian
	cp -r /share/profiles /src/
	cp -r /share/dh /src/debian/
	cd /build
	export PATH=/src/debian/dh:$PATH DH_AUTOSCRIPTDIR=/src/debian/dh
	local file=debian/foo.install-record snippet=debian/foo.postinst.debhelper line message version sent
	printf '%s\n' 'Source: foo' 'Maintainer: A <a@b.example>' 'Build-Depends: debhelper-compat (= 13)' '' 'Package: foo' \
		'Architecture: all' 'Recommends: ${misc:Recommends}' '' 'Package: bar' 'Architecture: all' >debian/control
	# add [OPTION...]: what it says is in /share/said. program LINE...: what /usr/bin/install-record is.
	add() {
		rm -rf debian/*.debhelper debian/*.substvars debian/.debhelper
		dh_installrecord "$@" >/share/said 2>&1
	}
	program() {
		printf '%s\n' '#!/bin/sh' "$@" >/usr/bin/install-record
		chmod +x /usr/bin/install-record
	}
	echo '-f PRODUCT_FAMILY_PS' >$file
	while read -r version sent; do
		printf 'foo (%s) unstable; urgency=low\n\n  * x\n\n -- A <a@b.example>  Sun, 01 Nov 2026 12:00:00 +0000\n' "$version" >debian/changelog
		add
		expect "$version" '' "$(cat /share/said)"
		contains "$(tr -d "'" <$snippet)" "send --product-family PRODUCT_FAMILY_PS --product-version $sent <"
	done < <(cat /share/versions && printf '%s\n' '2:1.2-3-4 1.2-3' '1.4.2 1.4.2')

	cp $file debian/bar.install-record
	! add -pbar || fail 'accepted without a recommendation'
	contains "$(cat /share/said)" 'bar has no'
	rm debian/bar.install-record
	echo '-f ACME' >$file
	add
	contains "$(cat /share/said)" 'the profile percona does not know the product family ACME'

	while IFS='|' read -r line message; do
		echo "$line" >$file
		! add || fail "not refused: $line"
		contains "$line: $(cat /share/said)" "$message"
		absent $snippet
	done <<-'END'
		-v 1|--product-family is missing: the profile percona
		--profile nosuch|no profile 'nosuch'
		--profile strapi|--project is missing
		--profile memgraph|--state-dir is missing
		--profile medusa -j /x --event start|--project is missing: the profile medusa keeps an ID there
		--profile medusa --project /srv --event stop|--event stop: the profile medusa reports only start
		-f two words|is no option
		-f PS;reboot|is not what the option can be
		-f "PS|a quote is not closed
		-f PS --strict|would fail the installation
		-f PS -i 0e0e0e0e-0000-4000-8000-000000000000|all machines
		-f PS -u https://user:password@host/|is not what the option can be
		-f PS -u http://example.com/|is not what the option can be
		-f instanceId|is a key of the identity file
		-f PRODUCT_FAMILY_PS --embed=/nowhere|there is no /nowhere
	END

	# A profile that the package itself installs. A shell reads back what was meant, whatever it is.
	command install -D /share/profiles/memgraph.json debian/foo/usr/share/install-record/profiles/mine.json
	echo '--profile mine --state-dir /srv' >$file
	! add || fail 'a profile of another name'
	contains "$(cat /share/said)" 'its name is not mine'
	sed -i 's/"name": "memgraph"/"name": "mine"/' debian/foo/usr/share/install-record/profiles/mine.json
	cat >$file <<-'END'
		   # comment
		--profile mine --quiet --state-dir /srv
		--os "a'b \"c\" $(touch /share/run) `touch /share/run` \\ #DEBHELPER# #PACKAGE# #OPTIONS# ${x} ~ * ; & |"
		--set k=
	END
	add
	program 'for word; do echo "<$word>"; done >/share/words' 'ls -l /proc/self/fd >/share/fds' 'echo said'
	# Under debconf, 1 and 3 are its protocol: the program gets stderr in their place.
	sh -e $snippet configure 3</etc/passwd 9</etc/passwd </etc/passwd >/share/protocol 2>/share/said
	expect output '-said' "$(cat /share/protocol)-$(cat /share/said)"
	! grep passwd /share/fds || fail "descriptors: $(cat /share/fds)"
	expect words '<send><--profile><mine><--quiet><--state-dir></srv><--os><a'\''b "c" $(touch /share/run) `touch /share/run` \ #DEBHELPER# #PACKAGE# #OPTIONS# ${x} ~ * ; & |><--set><k=><--product-version><1.4.2>' \
		"$(tr -d '\n' </share/words)"
	absent /share/run

	# Only configure, and never a failure.
	rm /share/words
	sh -e $snippet abort-upgrade 1
	absent /share/words
	program 'kill -9 $$'
	run sh -eu $snippet configure
	sh -eu $snippet configure 2>&- || fail 'a closed stderr fails the installation'
	chmod -x /usr/bin/install-record
	run sh -eu $snippet configure
}

# As autopkgtest runs them.
autopkgtests() {
	install install-record dh-install-record
	for test in by-hand product; do
		mkdir -p /tmp/autopkgtest/$test
		AUTOPKGTEST_TMP=/tmp/autopkgtest/$test run /share/tests/$test
	done
}

once() {
	install product=1.0
	one_record PRODUCT_FAMILY_PS 1.0
	contains "$(cat /share/receiver/requests.jsonl)" '"tls":"TLS'
	while read -r arguments <&3; do
		run $arguments
		clean
		expect "connections after $arguments" 1 "$(connections)"
	done 3<<-'END'
		apt-get -y install product=2.0
		apt-get -y install --allow-downgrades product=1.0
		apt-get -y install --reinstall product
		apt-get -y remove product
		apt-get -y install product
		apt-get -y purge product
		apt-get -y install product
		apt-get -y install --reinstall install-record
		dpkg-reconfigure product
		dpkg-reconfigure install-record
	END
	install product-b
	expect requests 2 "$(requests)"
	contains "$(body 2)" "\"instanceId\":\"$(field instanceId "$(body 1)")\"" '"pillar_version","value":"8.0.36~rc1"' '"OS","value":"$(id) it'\''s #PROGRAM# \\`id\\`"'
}

embedded() {
	install product-embed
	reinstall product-embed
	expect requests 1 "$(requests)"
	absent /usr/bin/install-record
}

# remove leaves the ID, purge takes it, and nothing of others.
adopted_no_more() {
	present $off
	purge no-install-record
	present $off
	remove mine
	present /var/lib/mine/instance-id
	install mine
	purge mine
	absent /var/lib/mine
	present $state/sent
}

shim() {
	local shim=/usr/share/install-record/call-home.sh
	percona 8.4.10-10-1
	install-record forget --quiet
	export PERCONA_TELEMETRY_DISABLE=1
	install_percona
	absent $identity
	unset PERCONA_TELEMETRY_DISABLE
	# The status: nothing that the network does; a command line that says nothing.
	run sh $shim -f PRODUCT_FAMILY_PS -v 1 -u https://127.0.0.1:1/
	! bash -s -- -f 2>/dev/null <$shim || fail 'status 0 for a command line without a value'
}

preseed() { echo install-record install-record/send boolean "$1" | debconf-set-selections; }

preseeded() {
	preseed false
	install product
	present $off
	no_trace
	purge product install-record
	rm $off
	refused apt-get -y
}

# steps: a command a line, and what is true after it: the switch, debconf's answer, and how many requests there were.
steps() {
	while read -r line <&3; do
		eval "${line% => *}"
		answer=$(debconf-show install-record 2>/dev/null | sed -n 's/^[* ] install-record\/send: //p')
		expect "${line% => *}" "${line#* => }" "$([ ! -e $off ] || echo off,)$answer,$(requests)"
	done 3< <(grep -v '^#')
}

debconf() {
	command install -D /dev/null $off.d/other
	echo mine >$off
	steps <<-'END'
		# An administrator's file from before seeds the answer and stays as it is; without a terminal, nothing is asked.
		install install-record => off,false,0
		grep -qx mine $off => off,false,0
		# Yes removes it, and only it; no writes it.
		CHOICE=yes asking dpkg-reconfigure install-record => true,0
		present /share/asked $off.d/other => true,0
		CHOICE=no asking dpkg-reconfigure install-record => off,false,0
		install product => off,false,0
		# The file is the truth afterwards: an upgrade does not bring an old answer back, nor does a preseeded yes beat it.
		install-record on --quiet => false,0
		reinstall install-record => true,0
		install-record off --quiet => off,true,0
		preseed true => off,true,0
		reinstall install-record => off,false,0
		# remove leaves everything, purge leaves the "no" and the vendor's file.
		rm $off => false,0
		reinstall product => false,1
		remove install-record => false,1
		present $state/sent => false,1
		command install -D /dev/null $off => off,false,1
		purge install-record => off,,1
		absent $state => off,,1
		present $identity => off,,1
		install product-b => off,false,1
		# Without one nothing of ours is left.
		purge install-record => off,,1
		rm -r ${off%/*} => ,1
		install install-record => true,1
		purge install-record => ,1
		absent ${off%/*} => ,1
	END
}

# The switch of a package that is removed, and not purged, becomes the administrator's.
own_switch() {
	install_files 'no-install-record_*'
	remove no-install-record
	install_files 'install-record_*'
	present $off
	install-record off --quiet
	purge no-install-record
	present $off
}

# A person who is asked at the first installation, before anything is unpacked, as apt-utils has it, or while the package is
# configured. The answer holds before the first product's postinst runs.
asked_first() {
	local deb='/share/repo/install-record_*_amd64.deb'
	steps <<-'END'
		CHOICE=no asking apt-get -y install product => off,false,0
		no_trace => off,false,0
		purge install-record => off,,0
		rm $off /share/asked => ,0
		# A "no" given before unpacking is not lost when the same script runs again.
		CHOICE=no asking dpkg-preconfigure $deb => false,0
		install install-record => off,false,0
		present /share/asked => off,false,0
		purge install-record => off,,0
		rm $off => ,0
		# A "yes" that was given for an installation that never happened does not beat a later file.
		CHOICE=yes asking dpkg-preconfigure $deb => true,0
		command install -D /dev/null $off => off,true,0
		install product-b => off,false,0
		no_trace => off,false,0
	END
}
