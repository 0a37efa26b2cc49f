#!/bin/bash
# Debian packages on real systems: what a vendor builds with the add-on, what apt does with it on bookworm, bullseye
# and trixie, Percona's packages with the shim in them, and what debconf, dpkg and no-install-record leave behind.
#
#   tests/system/debian.sh       BINARY and RECEIVER as in lib.sh; started by tests/run
#   DEBS=DIRECTORY               packages of install-record that are there already (make deb); by default they are built
#   SUITES='bookworm ...'        the systems to test on
# Ways to say no are tests/system/opt-out.sh's, faults of the network tests/faults's; here is one of each, through apt.
# shellcheck disable=SC2016,SC2154,SC2317 # scripts in quotes are for the shell inside; run_case calls functions; lib.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
: "${SUITES:=bookworm bullseye trixie}"

repo=$(mktemp -d)
# Only here: a subshell that is killed early enough runs it too.
trap '[ "$BASHPID" != $$ ] || rm -rf "$repo"' EXIT
# The build below leaves its own program in the place of this one.
shipped=$(sha256sum <"$BINARY")

# debian ROOT SCRIPT: SCRIPT in a throwaway copy of ROOT, after inside.sh.
debian() {
	need_namespaces
	mkdir -p "$case_dir/share"
	cp "$here/debian/"* "$case_dir/share/"
	cp -r "$repo" "$case_dir/share/repo"
	chmod -R a+rX "$case_dir/share/repo"
	in_system "$1" "set -eu; . /share/inside.sh; $2"
}

# on SUITE SCRIPT, building SCRIPT: on a system of apt's; where packages are built.
on() {
	local root
	root=$(root_of "$1" sudo,nftables,apt-utils) || exit
	debian "$root" "$2"
}
building() {
	local root
	root=$(root_of bookworm build-essential,debhelper,apt-utils) || exit
	RECEIVER_OPTIONS=none debian "$root" "$1"
}

# ---- the packages ----

build_install_record() {
	if [ -n "${DEBS:-}" ]; then
		cp "$DEBS"/*install-record_*.deb "$repo/"
	else
		need dpkg-buildpackage dh cargo
		# From a copy in another directory, with another CARGO_HOME, nothing compiled before, and flags of the caller.
		home=${CARGO_HOME:-$HOME/.cargo}
		mkdir "$case_dir/cargo"
		for part in registry git; do [ ! -e "$home/$part" ] || ln -s "$home/$part" "$case_dir/cargo/"; done
		(cd "$tree" && RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=$case_dir/cargo CARGO_TARGET_DIR=$case_dir/target \
			CARGO_NET_OFFLINE=true CFLAGS='-g -O0 -fstack-protector-strong' debian/build "$case_dir/debs" amd64)
		cp "$case_dir/debs"/*.deb "$repo/"
	fi
	expect 'the program' "$shipped" \
		"$(dpkg-deb --fsys-tarfile "$repo"/install-record_*_amd64.deb | tar -xO ./usr/bin/install-record | sha256sum)"
	! grep -qaF -e "$case_dir" -e "$tree" -e "${CARGO_HOME:-$HOME/.cargo}" "$BINARY" || fail 'it names directories of the machine that built it'
	! dpkg-deb -f "$repo"/install-record_*_amd64.deb Maintainer | grep -v '[.]invalid>$' || fail 'a maintainer of a real domain'
}

build_products() {
	# What docs/debian.md shows, and what every Debian source package has besides.
	mkdir -p "$case_dir/share/mine/debian"
	for file in debian/control debian/mine.install-record debian/mine.install debian/mine.postrm mine.json; do
		block "$file" debian.md >"$case_dir/share/mine/$file"
	done
	printf 'mine (2:1.4.2-3+deb12u1) unstable; urgency=low\n\n  * x\n\n -- A <a@b.example>  Sun, 01 Nov 2026 12:00:00 +0000\n' \
		>"$case_dir/share/mine/debian/changelog"
	printf '#!/usr/bin/make -f\n%%:\n\tdh $@\n' >"$case_dir/share/mine/debian/rules"
	chmod +x "$case_dir/share/mine/debian/rules"
	for form in $CALL_HOME_FORMS; do
		mkdir -p "$case_dir/$form/DEBIAN"
		printf '%s\n' "Package: percona-$form" 'Version: 8.4.10-10-1.bookworm' 'Architecture: all' \
			'Maintainer: A <a@b.example>' 'Description: a product of Percona' >"$case_dir/$form/DEBIAN/control"
		(echo '#!/bin/bash' && call_home "$form" "PRODUCT_FAMILY_$form" 8.4.10-10-1) >"$case_dir/$form/DEBIAN/postinst"
		chmod 0755 "$case_dir/$form/DEBIAN/postinst"
		dpkg-deb --root-owner-group --build "$case_dir/$form" "$repo/percona-${form}_1_all.deb"
	done
	touch "$repo/Packages"
	building '
		cd /share/repo
		dpkg -i ./dh-install-record_*.deb >/dev/null
		product() { /share/make-product "$@" >/share/build.log 2>&1 || die "$(cat /share/build.log)"; }
		product product-a 1.0 "--product-family PRODUCT_FAMILY_PS" "--url $url"
		product product-a 2.0 "--product-family PRODUCT_FAMILY_PS" "--url $url"
		product product-b 3:8.0.36~rc1 "# a comment" "-f PRODUCT_FAMILY_PXC -u $url" "--os \"\$(id) it'"'"'s #PROGRAM# \\\\\`id\\\\\`\""
		product product-plain 1
		(cp -r /share/mine . && cd mine && dpkg-buildpackage -us -uc -b) >/share/build.log 2>&1 || die "$(cat /share/build.log)"
		rm -r mine
		dpkg -i ./install-record_*_amd64.deb >/dev/null
		product product-embed 1 "-f PRODUCT_FAMILY_PXB -u $url" --embed
		rm -f ./*.buildinfo ./*.changes
		apt-ftparchive packages . >Packages
		apt-ftparchive release . >Release
	'
	cp "$case_dir/share/repo"/* "$repo/"
	# It comes from the add-on, and not for the one that carries the program.
	expect Recommends 'install-record | no-install-record' "$(dpkg-deb -f "$repo/product-a_1.0_all.deb" Recommends)"
	expect 'Recommends of product-embed' '' "$(dpkg-deb -f "$repo/product-embed_1_all.deb" Recommends)"
}

run_case 'debian/build makes the packages, with the program that make builds' 1800 build_install_record
run_case "products are built: with the add-on from Build-Depends, by docs/debian.md alone, Percona's" 300 build_products
[ "$failed$skipped" = 00 ] || finish

# The add-on itself: what it refuses, its options, and without being installed.
add_on() {
	mkdir -p "$case_dir/share/debian" "$case_dir/share/perl/Debian/Debhelper/Sequence"
	cp -r "$tree/debian/dh" "$case_dir/share/debian/"
	cp -r "$tree/profiles" "$case_dir/share/"
	cp "$tree/debian/dh/install_record.pm" "$case_dir/share/perl/Debian/Debhelper/Sequence/"
	building '
		export PATH=/share/debian/dh:$PATH PERL5LIB=/share/perl DH_AUTOSCRIPTDIR=/share/debian/dh
		mkdir -p /build/debian && cd /build
		# The version of the changelog, and what is sent.
		version() { printf "foo ($1) unstable; urgency=low\n\n  * x\n\n -- A <a@b.example>  Sun, 01 Nov 2026 12:00:00 +0000\n" >debian/changelog; }
		printf "Source: foo\nMaintainer: A <a@b.example>\nBuild-Depends: debhelper-compat (= 13)\n\nPackage: foo\nArchitecture: all\nRecommends: \${misc:Recommends}\n\nPackage: bar\nArchitecture: all\n" >debian/control
		file=debian/foo.install-record
		made() { cat debian/foo.postinst.debhelper 2>/dev/null; }
		again() { rm -rf debian/*.debhelper debian/*.substvars debian/.debhelper debian/foo; }
		echo "-f PRODUCT_FAMILY_PS" >$file
		for pair in 2:1.2-3-4=1.2-3 8.0.36-28-1.bookworm=8.0.36-28 3:4.4.26-25.noble=4.4.26-25 1.2-3+deb12u1=1.2-3 \
			1.2~rc1-1ubuntu1=1.2~rc1-1 1.4.2=1.4.2; do
			version "${pair%=*}"
			again
			dh_installrecord 2>/share/error
			[ ! -s /share/error ] || die "$(cat /share/error)"
			made | tr -d "\047" | grep -qF -- "send --product-family PRODUCT_FAMILY_PS --product-version ${pair#*=} <" || die "version: $pair: $(made)"
		done

		again
		dh_installrecord --no-act
		same "--no-act" "" "$(ls debian/*.debhelper debian/*.substvars 2>/dev/null)"
		cp $file debian/bar.install-record
		! dh_installrecord -pbar 2>/share/error || die "accepted without a recommendation"
		grep -qF "bar has no" /share/error || die "$(cat /share/error)"
		rm debian/bar.install-record
		again
		dh_installrecord -n
		same "-n: no postinst" "" "$(ls debian/*.debhelper 2>/dev/null)"
		same "-n: the recommendation" "misc:Recommends=install-record | no-install-record" "$(cat debian/foo.substvars)"

		# refused LINE MESSAGE
		refused() {
			again
			printf "%s\n" "$1" >$file
			! dh_installrecord 2>/share/error || die "not refused: $1"
			grep -qF -- "$2" /share/error || die "$1: $(cat /share/error)"
			[ ! -e debian/foo.postinst.debhelper ] || die "$1: there is a snippet"
		}
		refused "-v 1" "--product-family is missing: the profile percona"
		refused "--profile nosuch" "no profile '"'nosuch'"'"
		refused "--profile /nowhere/nosuch.json" "no profile"
		refused "-f two words" "is no option"
		refused "-f PS;reboot" "is not what it can be"
		refused "-f \"PS" "a quote is not closed"
		refused "-f" "--product-family needs a value"
		refused "-f PS --colour red" "--colour"
		refused "-f PS -x" "is no option"
		refused "-f PS --strict" "would fail the installation"
		refused "-f PS -i 0e0e0e0e-0000-4000-8000-000000000000" "all machines"
		refused "-f PS -u https://user:password@host/" "is not what it can be"
		refused "-f PS -t 0" "is not what it can be"
		refused "-f PRODUCT_FAMILY_PS --embed=/nowhere" "there is no /nowhere"
		refused "-f PS --quiet=yes" "has no value"
		again
		echo "-f ACME" >$file
		dh_installrecord 2>/share/error
		grep -q "the profile percona does not know the product family ACME" /share/error || die "no warning: $(cat /share/error)"

		# A profile that the package itself installs. A shell reads back what was meant, whatever it is.
		again
		install -D /share/profiles/memgraph.json debian/foo/usr/share/install-record/profiles/mine.json
		cat >$file <<"EOF"
   # comment
--profile mine --quiet
--os "a'"'"'b \"c\" $(touch /share/run) `touch /share/run` \\ #DEBHELPER# #PACKAGE# #OPTIONS# ${x} ~ * ; & |"
--set k=
EOF
		dh_installrecord
		printf "%s\n" "#!/bin/sh" "for word; do echo \"<\$word>\"; done >/share/words; ls -l /proc/self/fd >/share/fds" "echo said" \
			>/usr/bin/install-record
		chmod +x /usr/bin/install-record
		# Under debconf, 1 and 3 are its protocol: the program gets /dev/null, stderr twice, and nothing else.
		sh -e debian/foo.postinst.debhelper configure 3</etc/passwd 9</etc/passwd </etc/passwd >/share/protocol 2>/share/said
		same "output" "-said" "$(cat /share/protocol)-$(cat /share/said)"
		! grep passwd /share/fds || die "descriptors: $(cat /share/fds)"
		same "words" "<send><--profile><mine><--quiet><--os><a'"'"'b \"c\" \$(touch /share/run) \`touch /share/run\` \\ #DEBHELPER# #PACKAGE# #OPTIONS# \${x} ~ * ; & |><--set><k=><--product-version><1.4.2>" "$(tr -d "\n" </share/words)"
		[ ! -e /share/run ] || die "a value was run"

		# Only configure, and never a failure.
		rm /share/words
		for what in abort-upgrade abort-remove abort-deconfigure triggered; do
			sh -e debian/foo.postinst.debhelper $what 1
		done
		[ ! -e /share/words ] || die "it acts on more than configure"
		for body in "exit 7" "kill -9 \$\$" "exec /nowhere"; do
			printf "#!/bin/sh\n%s\n" "$body" >/usr/bin/install-record
			sh -eu debian/foo.postinst.debhelper configure 2>/dev/null || die "$body fails the installation"
		done
		sh -eu debian/foo.postinst.debhelper configure 2>&- || die "a closed stderr fails the installation"
		chmod -x /usr/bin/install-record
		sh -eu debian/foo.postinst.debhelper configure || die "no program fails the installation"
	'
}
run_case 'dh_installrecord: options, versions, refusals, quoting, not installed' 60 add_on

# ---- one record, and who need not have the program ----

once() {
	on "$1" '
		apt install product-a=1.0
		same "requests" 1 "$(requests)"
		. /etc/os-release
		body=$(cat /share/receiver/body-1)
		for part in "\"product_family\":\"PRODUCT_FAMILY_PS\"" "{\"key\":\"deployment\",\"value\":\"PACKAGE\"}" \
			"{\"key\":\"pillar_version\",\"value\":\"1.0\"}" "{\"key\":\"OS\",\"value\":\"$PRETTY_NAME\"}"; do
			case $body in *"$part"*) ;; *) die "no $part in $body" ;; esac
		done
		grep -q "\"tls\":\"TLS" /share/receiver/requests.jsonl || die "not over TLS"
		grep -q "install-record: sent one install record" /share/apt.log || die "nothing was said: $(cat /share/apt.log)"
		grep -qx PRODUCT_FAMILY_PS:1 $identity
		same "pending" 0 "$(pending)"

		for arguments in "install product-a=2.0" "install --allow-downgrades product-a=1.0" \
			"install --reinstall product-a" "remove product-a" "install product-a" \
			"purge product-a" "install product-a" "install --reinstall install-record"; do
			# shellcheck disable=SC2086
			apt $arguments
			same "requests after $arguments" 1 "$(requests)"
		done
		dpkg-reconfigure product-a
		dpkg-reconfigure install-record
		same "requests after dpkg-reconfigure" 1 "$(requests)"
		same "connections" 1 "$(connections)"

		apt install product-b
		same "requests after another product" 2 "$(requests)"
		same "instance IDs" 1 "$(instances)"
		grep -qF "\"pillar_version\",\"value\":\"8.0.36~rc1\"" /share/receiver/body-2 || die "version: $(cat /share/receiver/body-2)"
		grep -qF "\"OS\",\"value\":\"\$(id) it'"'"'s #PROGRAM# \\\\\`id\\\\\`\"" /share/receiver/body-2 ||
			die "quoting: $(cat /share/receiver/body-2)"
	'
}

# The program inside the product, without the package install-record.
embedded() {
	on "$1" '
		apt install product-embed
		same "requests" 1 "$(requests)"
		[ ! -e /usr/bin/install-record ] || die "install-record is installed"
		apt install --reinstall product-embed
		same "requests after a reinstall" 1 "$(requests)"
	'
}

# A vendor of its own, by docs/debian.md alone; removed, purged; and the product stays when install-record goes.
adopted() {
	on "$1" '
		export MINE_RECORDS_URL=https://check.percona.com:8443/v1/installs
		apt install mine
		same "requests" 1 "$(requests)"
		id=$(cat /var/lib/mine/instance-id)
		grep -q "\"instance\":\"$id\",\"version\":\"1.4.2-3\"" /share/receiver/body-1 || die "$(cat /share/receiver/body-1)"
		[ ! -e $identity ] || die "there is a file of Percona"
		apt remove mine
		[ -e /var/lib/mine/instance-id ] || die "remove took the ID"
		apt install mine
		same "requests after remove and install" 1 "$(requests)"
		apt remove install-record
		installed mine
		[ ! -e /usr/bin/install-record ] || die "the program is still there"
		apt install --reinstall mine
		! grep install-record: /share/apt.log || die "$(cat /share/apt.log)"
		apt install install-record
		apt install no-install-record
		installed mine no-install-record
		[ -e $off ] && [ ! -e /usr/bin/install-record ] || die "not replaced"
		apt install install-record
		[ -e $off ] || die "the no of a package that was not purged is gone"
		apt purge no-install-record
		[ ! -e $off ] || die "the no of a purged package is still there"
		apt purge mine
		[ ! -e /var/lib/mine ] || die "purge left $(find /var/lib/mine)"
		[ -d $state/sent ] || die "purge took the receipts of others"
		same "requests at the end" 1 "$(requests)"
	'
}

# An architecture without a build, as apt sees it; and a switch from before, which stays its owner's.
without_the_program() {
	on "$1" '
		printf "Package: install-record\nPin: release *\nPin-Priority: -1\n" >/etc/apt/preferences.d/none
		apt install mine product-a
		installed mine product-a no-install-record
		no_trace
		rm /etc/apt/preferences.d/none
		apt purge mine product-a no-install-record
		[ ! -e /etc/install-record ] || die "purge left $(find /etc/install-record)"
		install -d /etc/install-record
		echo mine >$off
		apt install no-install-record
		[ -e $off ] || die "no switch"
		apt purge no-install-record
		same "the switch from before" mine "$(cat $off)"
	'
}

# Percona's packages, each form: without the program silent, with it what call-home.sh did.
percona() {
	on "$1" '
		groupadd percona-telemetry
		export PERCONA_TELEMETRY_URL=$url
		all() { dpkg -i /share/repo/percona-*.deb >/share/apt.log 2>&1 || die "$(cat /share/apt.log)"; clean; }
		all
		no_trace
		! grep "install-record\|not found" /share/apt.log || die "it is not silent"
		same "scripts that went on" 5 "$(grep -c "^the end of" /share/apt.log)"
		apt install install-record
		all
		all
		same "requests" 5 "$(requests)"
		same "versions" 5 "$(grep -l "{\"key\":\"deployment\",\"value\":\"PACKAGE\"},{\"key\":\"pillar_version\",\"value\":\"8.4.10-10-1\"}" /share/receiver/body-* | wc -l)"
		same "the identity file" "PRODUCT_FAMILY_bash:1 PRODUCT_FAMILY_mktemp:1 PRODUCT_FAMILY_sh:1 PRODUCT_FAMILY_sourced:1 PRODUCT_FAMILY_stdin:1" \
			"$(sed -n "2,\$p" $identity | sort | paste -sd" ")"
		grep -q "\"instanceId\":\"$(sed -n "s/^instanceId://p" $identity)\"" /share/receiver/body-1 || die "another ID: $(cat $identity)"
		same "group and mode" "root:percona-telemetry 664" "$(stat -c "%U:%G %a" $identity)"
		[ ! -e /tmp/call-home.sh ] || die "the file is still there"
		install-record forget 2>/dev/null
		PERCONA_TELEMETRY_DISABLE=1 all
		[ ! -e $identity ] || die "opted out, and there is $identity"
		# The status: nothing that the network does; a command line that says nothing.
		shim=/usr/share/install-record/call-home.sh
		sh $shim -f PRODUCT_FAMILY_PS -v 1 -u https://127.0.0.1:1/ 2>/dev/null || die "unreachable: status $?"
		! bash -s -- -f 2>/dev/null <$shim || die "status 0 for a command line without a value"
	'
}

# ---- no: one way that apt loses, and one that only packages have ----

refused() {
	on "$1" '
		export PERCONA_TELEMETRY_DISABLE=1
		sudo SSL_CERT_FILE=$SSL_CERT_FILE apt-get -y install product-a >/share/apt.log 2>&1 || die "$(cat /share/apt.log)"
		clean
		no_trace
		unset PERCONA_TELEMETRY_DISABLE
		apt purge product-a install-record
		echo install-record install-record/send boolean false | debconf-set-selections
		apt install product-a
		no_trace
		[ -f $off ] || die "the preseeded no is on no disk"
	'
}

# ---- debconf and dpkg ----

debconf() {
	on "$1" '
		answer() { debconf-show install-record | sed -n "s/^[* ] install-record\/send: //p"; }
		# An administrator'"'"'s file from before: it seeds the answer and stays as it is.
		mkdir -p /etc/install-record
		echo mine >$off
		apt install install-record
		same "seeded" false "$(answer)"
		same "its text" mine "$(cat $off)"

		# Reconfiguring without a terminal asks nothing and changes nothing.
		dpkg-reconfigure install-record
		same "its text" mine "$(cat $off)"

		# Yes removes it, and only it; no writes it.
		install -D /dev/null /etc/install-record/off.d/other
		CHOICE=yes asking dpkg-reconfigure install-record
		[ -e /share/asked ] || die "dpkg-reconfigure did not ask: $(cat /share/apt.log)"
		[ ! -e $off ] || die "the switch is there after a yes"
		[ -e /etc/install-record/off.d/other ] || die "the switch of another profile is gone"
		CHOICE=no asking dpkg-reconfigure install-record
		[ -e $off ] || die "no switch after a no"
		apt install product-a
		same "requests after a no" 0 "$(requests)"

		# The file is the truth afterwards: an upgrade does not bring an old answer back.
		install-record on 2>/dev/null
		apt install --reinstall install-record
		[ ! -e $off ] || die "an old no is back"
		same "the answer follows" true "$(answer)"
		install-record off 2>/dev/null
		apt install --reinstall install-record
		[ -e $off ] || die "the no is gone"
		same "the answer follows" false "$(answer)"

		# Preseeding something that is installed, and dpkg-reconfigure.
		install-record on 2>/dev/null
		dpkg-reconfigure install-record
		echo install-record install-record/send boolean false | debconf-set-selections
		dpkg-reconfigure install-record
		[ -e $off ] || die "no switch after preseeding"

		# remove leaves everything, purge leaves the "no" and the vendor'"'"'s file.
		rm $off
		apt install --reinstall product-a
		same "requests" 1 "$(requests)"
		apt remove install-record
		[ -d $state/sent ] || die "remove took the state"
		install -D /dev/null $off
		apt purge install-record
		[ ! -e $state ] || die "purge left $state"
		[ -e $off ] || die "purge took the no"
		[ -e $identity ] || die "purge took the identity file"
		same "debconf after purge" "" "$(debconf-show install-record 2>/dev/null)"
		apt install product-b
		same "requests after purge with a no" 1 "$(requests)"

		# Without one nothing of ours is left.
		apt purge install-record
		rm -r /etc/install-record
		apt install install-record
		apt purge install-record
		[ ! -e /etc/install-record ] || die "purge left $(find /etc/install-record)"
	'
}

# A person who is asked at the first installation: before anything is unpacked, as apt-utils has it, or while the
# package is configured. The answer holds before the first product's postinst runs.
asked_first() {
	on "$1" '
		CHOICE=no asking apt-get -y install product-a
		[ -e $off ] || die "asked while it is configured: no switch: $(cat /share/apt.log)"
		no_trace

		# An answer given before unpacking, against what is on disk, is not lost when the same script runs again.
		for choice in no yes; do
			apt purge install-record
			rm -f $off
			[ $choice = no ] || install -D /dev/null $off
			CHOICE=$choice asking dpkg-preconfigure /share/repo/install-record_*_amd64.deb
			apt install install-record
			[ $choice = "$([ -e $off ] && echo no || echo yes)" ] || die "asked before unpacking: $choice: $(cat /share/apt.log)"
		done

		# One that was given for an installation that never happened does not beat a later file.
		apt purge install-record
		CHOICE=yes asking dpkg-preconfigure /share/repo/install-record_*_amd64.deb
		install -D /dev/null $off
		apt install product-a
		[ -e $off ] || die "the no is gone"
		no_trace
	'
}

# ---- faults: what apt itself must not notice ----

# fault BREAK REPAIR INSTALL: nothing is sent, the hook is in time (3 s, and noise), and the next product delivers both.
fault() {
	on bookworm "
		apt install install-record
		base=\$(milliseconds apt install product-plain)
		$1
		took=\$(milliseconds $3)
		[ \$((took - base)) -le 5000 ] || die \"the hook took \$((took - base)) ms: \$(cat /share/apt.log)\"
		same 'requests' 0 \"\$(requests)\"
		same 'pending' 1 \"\$(pending)\"
		[ -e \$identity ] || die 'no identity file'
		$2
		apt install product-b
		same 'requests after the repair' 2 \"\$(requests)\"
		same 'pending after the repair' 0 \"\$(pending)\"
		same 'instance IDs' 1 \"\$(instances)\"
	"
}

# ---- image builds ----

image_build() {
	on "$1" '
		mkdir /image
		mount -t tmpfs none /image
		mkdir /image/upper /image/work /image/root
		mount -t overlay none -o lowerdir=/,upperdir=/image/upper,workdir=/image/work /image/root
		mkdir -p /image/root/share
		mount --bind /share /image/root/share
		nothing_in_image() {
			no_trace
			[ ! -e "/image/root$identity" ] || die "$1: there is an identity file in the image"
			[ ! -e "/image/root$state" ] || die "$1: there is state in the image: $(find "/image/root$state")"
		}
		in_image() {
			chroot /image/root apt-get -y "$@" >/share/apt.log 2>&1 || die "$(cat /share/apt.log)"
		}

		in_image install product-a
		nothing_in_image "a chroot without /proc"
		mount -t proc proc /image/root/proc
		in_image install product-b
		nothing_in_image "a chroot"
		umount /image/root/proc

		# From outside, with the program of this system at hand.
		apt install install-record
		cd /share/repo
		DPKG_ROOT="" dpkg --root=/image/root --force-script-chrootless -i product-a_2*.deb >/share/apt.log 2>&1 ||
			die "$(cat /share/apt.log)"
		dpkg --root=/image/root -s product-a | grep -q "^Status: install ok installed"
		nothing_in_image "--force-script-chrootless"
		DPKG_ROOT=/image/root DPKG_MAINTSCRIPT_PACKAGE=product-a sh /image/root/var/lib/dpkg/info/product-a.postinst configure
		nothing_in_image "DPKG_ROOT"
		dpkg --root=/image/root --force-script-chrootless -i install-record_*_amd64.deb >/share/apt.log 2>&1 ||
			die "$(cat /share/apt.log)"
		nothing_in_image "install-record itself, --force-script-chrootless"

		# The machine that is made from it reports.
		apt install product-a
		same "requests of a host" 1 "$(requests)"
	'
}

# debian/tests, as autopkgtest runs them on a machine of its own.
autopkgtests() {
	local root
	root=$(root_of bookworm build-essential,debhelper,apt-utils,openssl,python3) || exit
	mkdir -p "$case_dir/share/tests"
	cp "$tree/debian/tests"/* "$case_dir/share/tests/"
	RECEIVER_OPTIONS=none debian "$root" '
		apt install install-record dh-install-record
		for test in by-hand product; do
			mkdir -p /tmp/autopkgtest/$test
			AUTOPKGTEST_TMP=/tmp/autopkgtest/$test /share/tests/$test || die "$test: status $?"
		done
	'
}
run_case 'debian/tests' 120 autopkgtests

for suite in $SUITES; do
	run_case "$suite: one record, and no second one" 90 once "$suite"
	run_case "$suite: a product that carries the program" 60 embedded "$suite"
	run_case "$suite: a vendor that has only docs/debian.md; it stays when install-record goes" 90 adopted "$suite"
	run_case "$suite: where there is no program for it, and a switch from before" 90 without_the_program "$suite"
	run_case "$suite: Percona's packages with the shim, every form" 60 percona "$suite"
	run_case "$suite: said no: export X=1; sudo apt-get, and preseeded" 60 refused "$suite"
	run_case "$suite: debconf, remove and purge" 120 debconf "$suite"
	run_case "$suite: asked before the first product" 60 asked_first "$suite"
	run_case "$suite: images" 90 image_build "$suite"
done
run_case 'fault: a scriptlet without network' 60 fault : : 'unshare --net apt-get -y install product-a'
run_case 'fault: packets are dropped' 60 fault 'nft add table inet t; nft add chain inet t i "{ type filter hook input priority 0; }"
	nft add rule inet t i tcp dport 8443 drop' 'nft delete table inet t' 'apt install product-a'
finish
