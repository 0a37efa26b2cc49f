#!/bin/bash
# Debian packages on real systems: what a vendor builds with the add-on, what apt does with it on bookworm, bullseye
# and trixie, what every "no" and every fault does to it, and what debconf and dpkg leave behind.
#
#   tests/system/debian.sh       BINARY and RECEIVER as in lib.sh; started by tests/run
#   DEBS=DIRECTORY               packages of install-record that are there already (make deb); by default they are built
#   SUITES='bookworm ...'        the systems to test on
# shellcheck disable=SC2016,SC2317 # scripts in quotes are for the shell inside; functions are called by run_case
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
: "${SUITES:=bookworm bullseye trixie}"

repo=$(mktemp -d)
# Only here: a subshell that is killed early enough runs it too.
trap '[ "$BASHPID" != $$ ] || rm -rf "$repo"' EXIT

# ---- the packages ----

# What inside.sh gives, and then the script.
in_debian() {
	local root=$1
	mkdir -p "$case_dir/share"
	cp "$here/debian/"* "$case_dir/share/"
	cp -r "$repo" "$case_dir/share/repo"
	chmod -R a+rX "$case_dir/share/repo"
	in_system "$root" "set -eu; . /share/inside.sh; $2"
}

system() {
	need_namespaces
	root=$(root_of "$1" sudo,nftables,apt-utils) || exit
}

build_install_record() {
	if [ -n "${DEBS:-}" ]; then
		cp "$DEBS"/*install-record_*.deb "$repo/"
	else
		need dpkg-buildpackage dh cargo
		(cd "$top" && debian/build "$case_dir/debs" amd64)
		cp "$case_dir/debs"/*.deb "$repo/"
	fi
}

build_products() {
	need_namespaces
	local root
	root=$(root_of bookworm build-essential,debhelper,apt-utils) || exit
	(cd "$repo" && touch Packages)
	RECEIVER_OPTIONS=none in_debian "$root" '
		cd /share/repo
		dpkg -i ./dh-install-record_*.deb >/dev/null
		product() { /share/make-product "$@" >/share/build.log 2>&1 || die "$(cat /share/build.log)"; }
		product product-a 1.0 "--product-family PRODUCT_FAMILY_PS" "--url $url"
		product product-a 2.0 "--product-family PRODUCT_FAMILY_PS" "--url $url"
		product product-b 3:8.0.36~rc1 "# a comment" "-f PRODUCT_FAMILY_PXC -u $url" "--os \"\$(id) it'"'"'s #PROGRAM# \\\\\`id\\\\\`\""
		product product-c 1 "-fPRODUCT_FAMILY_PSMDB" "-u$url" "--timeout=3"
		product product-d 1 "-f PRODUCT_FAMILY_PBM -v 2.3.0-1 -u $url"
		product product-e 1 "-f PRODUCT_FAMILY_PMM --profile percona -u $url"
		product product-plain 1
		dpkg -i ./install-record_*_amd64.deb >/dev/null
		product product-embed 1 "-f PRODUCT_FAMILY_PXB -u $url" --embed
		export POSTINST=". /usr/share/debconf/confmodule
db_get product-debconf/question" TEMPLATES="Template: product-debconf/question
Type: boolean
Default: true
Description: A question?"
		product product-debconf 1 "-f PRODUCT_FAMILY_PBS -u $url"
		rm -f ./*.buildinfo ./*.changes
		apt-ftparchive packages . >Packages
		apt-ftparchive release . >Release
	'
	cp "$case_dir/share/repo"/* "$repo/"
	for package in a b c d e plain embed debconf; do
		ls "$repo/product-$package"_* >/dev/null
	done
	# The dependency comes from the add-on, and not for the one that carries the program.
	dpkg-deb -f "$repo/product-a_1.0_all.deb" Depends | grep -qx install-record
	expect 'Depends of product-embed' '' "$(dpkg-deb -f "$repo/product-embed_1_all.deb" Depends)"
}

run_case 'debian/build makes the packages' 1800 build_install_record
run_case 'products are built with the add-on from Build-Depends' 120 build_products

[ "$failed$skipped" = 00 ] || finish

# The add-on itself: what it refuses, its options, and without being installed.
add_on() {
	need_namespaces
	local root
	root=$(root_of bookworm build-essential,debhelper,apt-utils) || exit
	mkdir -p "$case_dir/share/dh/Debian/Debhelper/Sequence"
	cp "$top/debian/dh/install_record.pm" "$case_dir/share/dh/Debian/Debhelper/Sequence/"
	cp "$top/debian/dh/dh_installrecord" "$top/debian/dh/postinst-install-record" "$case_dir/share/dh/"
	RECEIVER_OPTIONS=none in_debian "$root" '
		export PATH=/share/dh:$PATH PERL5LIB=/share/dh DH_AUTOSCRIPTDIR=/share/dh
		mkdir -p /build/debian && cd /build
		printf "foo (2:1.2-3-4) unstable; urgency=low\n\n  * x\n\n -- A <a@b.example>  Sun, 01 Nov 2026 12:00:00 +0000\n" >debian/changelog
		printf "Source: foo\nMaintainer: A <a@b.example>\nBuild-Depends: debhelper-compat (= 13)\n\nPackage: foo\nArchitecture: all\n\nPackage: bar\nArchitecture: all\n" >debian/control
		file=debian/foo.install-record
		made() { cat debian/foo.postinst.debhelper 2>/dev/null; }
		again() { rm -rf debian/*.debhelper debian/*.substvars debian/.debhelper debian/foo; }
		echo "-f PRODUCT_FAMILY_PS" >$file
		cp $file debian/bar.install-record

		dh_installrecord --no-act
		same "--no-act" "" "$(ls debian/*.debhelper debian/*.substvars 2>/dev/null)"
		dh_installrecord -pbar
		same "-p" debian/bar.postinst.debhelper "$(ls debian/*.debhelper)"
		again
		dh_installrecord -n
		same "-n: no postinst" "" "$(ls debian/*.debhelper 2>/dev/null)"
		same "-n: the dependency" "misc:Depends=install-record" "$(cat debian/foo.substvars)"
		again
		dh_installrecord
		made | grep -q -- "send --product-family PRODUCT_FAMILY_PS --product-version 1.2-3 <" || die "version: $(made)"
		rm debian/bar.install-record

		# refused LINE MESSAGE
		refused() {
			again
			printf "%s\n" "$1" >$file
			! dh_installrecord 2>/share/error || die "not refused: $1"
			grep -qF -- "$2" /share/error || die "$1: $(cat /share/error)"
			[ ! -e debian/foo.postinst.debhelper ] || die "$1: there is a snippet"
		}
		refused "-v 1" "--product-family is missing"
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
		refused "-f PS --embed=/nowhere" "there is no /nowhere"
		refused "-f PS --quiet=yes" "has no value"

		# A shell reads back what was meant, whatever it is.
		again
		cat >$file <<"EOF"
   # comment
-f PS --profile mine --quiet
--os "a'"'"'b \"c\" $(touch /share/run) `touch /share/run` \\ #DEBHELPER# #PACKAGE# #OPTIONS# ${x} ~ * ; & |"
--set k=
EOF
		dh_installrecord
		printf "%s\n" "#!/bin/sh" "for word; do echo \"<\$word>\"; done >/share/words" >/usr/bin/install-record
		chmod +x /usr/bin/install-record
		sh -e debian/foo.postinst.debhelper configure
		same "words" "<send><--product-family><PS><--profile><mine><--quiet><--os><a'"'"'b \"c\" \$(touch /share/run) \`touch /share/run\` \\ #DEBHELPER# #PACKAGE# #OPTIONS# \${x} ~ * ; & |><--set><k=><--product-version><1.2-3>" "$(tr -d "\n" </share/words)"
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
run_case 'dh_installrecord: options, refusals, quoting, not installed' 60 add_on

# ---- it must show 1 and 2 ----

once() {
	system "$1"
	in_debian "$root" '
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

five() {
	system "$1"
	in_debian "$root" '
		apt install product-a product-b product-c product-d product-e
		same "requests" 5 "$(requests)"
		same "instance IDs" 1 "$(instances)"
		same "families" 5 "$(grep -c ":1$" $identity)"
	'
}

# The program inside the product, without the package install-record.
embedded() {
	system "$1"
	in_debian "$root" '
		apt install product-embed
		same "requests" 1 "$(requests)"
		[ ! -e /usr/bin/install-record ] || die "install-record is installed"
		apt install --reinstall product-embed
		same "requests after a reinstall" 1 "$(requests)"
	'
}

# ---- 3: no ----

refused() {
	system "$1"
	local prepare=: install='apt install product-a'
	case $2 in
		nothing) ;;
		variable) install='PERCONA_TELEMETRY_DISABLE=1 apt install product-a' ;;
		do-not-track) install='DO_NOT_TRACK=1 apt install product-a' ;;
		sudo-nothing) install='clear_sudo SSL_CERT_FILE=$SSL_CERT_FILE' ;;
		sudo-variable) install='clear_sudo SSL_CERT_FILE=$SSL_CERT_FILE PERCONA_TELEMETRY_DISABLE=1' ;;
		exported) install='export PERCONA_TELEMETRY_DISABLE=1; clear_sudo SSL_CERT_FILE=$SSL_CERT_FILE' ;;
		preseeded) prepare='echo install-record install-record/send boolean false | debconf-set-selections' ;;
		file) prepare='install -D /dev/null $off' ;;
		bashrc) prepare='echo "export PERCONA_TELEMETRY_DISABLE=1" >>/root/.bashrc' ;;
	esac
	in_debian "$root" "
		clear_sudo() {
			sudo \"\$@\" apt-get -y install product-a >/share/apt.log 2>&1 || die \"\$(cat /share/apt.log)\"
			clean
		}
		$prepare
		$install
		dpkg -s product-a | grep -q '^Status: install ok installed'
		case $2 in
			*nothing) same requests 1 \"\$(requests)\" ;;
			*) no_trace ;;
		esac
		case $2 in
			preseeded | file) [ -f \$off ] || die 'the switch is gone' ;;
			*) [ ! -e \$off ] || die 'there is a switch' ;;
		esac
	"
}

# ---- debconf and dpkg ----

debconf() {
	system "$1"
	in_debian "$root" '
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
	system "$1"
	in_debian "$root" '
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

# The hook has no descriptor of debconf or dpkg, and says nothing where debconf listens.
descriptors() {
	system "$1"
	in_debian "$root" '
		apt install install-record
		dpkg-divert --quiet --rename --divert /usr/bin/install-record.real /usr/bin/install-record
		cat >/usr/bin/install-record <<"EOF"
#!/usr/bin/perl
# Those that this program opens itself come on top of what it was given.
my @given = grep { -e "/proc/$$/fd/$_" } 0 .. 1023;
my %where = map { $_ => readlink("/proc/$$/fd/$_") } @given;
open(my $out, ">", "/share/fds");
print {$out} map { "$_ $where{$_}\n" } grep { $where{$_} !~ m{^/usr/bin/install-record$} } @given;
close($out);
exec("/usr/bin/install-record.real", @ARGV);
EOF
		chmod +x /usr/bin/install-record
		apt install product-debconf
		same "descriptors" "0 1 2" "$(cut -d" " -f1 /share/fds | paste -sd" ")" "$(cat /share/fds)"
		grep -qx "0 /dev/null" /share/fds || die "stdin: $(cat /share/fds)"
		same "stdout is stderr" "$(sed -n "s/^1 //p" /share/fds)" "$(sed -n "s/^2 //p" /share/fds)"
		same "requests" 1 "$(requests)"
	'
}

# ---- 4: faults ----

# Seconds that the installation of a product may take longer than that of one without the hook: 3, and noise.
BUDGET_MS=5000

fault() {
	system "$1"
	local break=: repair=: install='apt install product-a' later=pending
	case $2 in
		no-network) install='no_network' ;;
		# A name server that never answers.
		dead-dns)
			break='sed -i s/check.percona.com// /etc/hosts; echo nameserver 127.0.0.1 >/etc/resolv.conf
				perl -MIO::Socket::INET -e "\$s = IO::Socket::INET->new(LocalAddr => \"127.0.0.1\", LocalPort => 53, Proto => \"udp\") or die; sleep 60" & sleep 0.5'
			repair='echo 127.0.0.1 check.percona.com >>/etc/hosts'
			;;
		no-dns)
			break='sed -i s/check.percona.com// /etc/hosts'
			repair='echo 127.0.0.1 check.percona.com >>/etc/hosts'
			;;
		black-hole)
			break='nft add table inet t; nft add chain inet t i "{ type filter hook input priority 0; }"
				nft add rule inet t i tcp dport 8443 drop'
			repair='nft delete table inet t'
			;;
		no-ca-bundle) break='unset SSL_CERT_FILE' repair='export SSL_CERT_FILE=/share/receiver/ca.pem' ;;
		read-only-usr-local)
			break='mount --bind /usr/local /usr/local; mount -o remount,ro,bind /usr/local'
			repair='umount /usr/local'
			later=sent
			;;
		full-var)
			break='mkdir -p $state; mount -t tmpfs -o size=4k,mode=755 none $state; head -c 4096 /dev/zero >$state/full || true'
			later=sent
			;;
		full-var-black-hole)
			break='mkdir -p $state; mount -t tmpfs -o size=4k,mode=755 none $state; head -c 4096 /dev/zero >$state/full || true
				nft add table inet t; nft add chain inet t i "{ type filter hook input priority 0; }"
				nft add rule inet t i tcp dport 8443 drop'
			repair='nft delete table inet t; umount $state'
			later=lost
			;;
	esac
	in_debian "$root" "
		no_network() {
			unshare --net apt-get -y install product-a >/share/apt.log 2>&1 || die \"\$(cat /share/apt.log)\"
			clean
		}
		apt install install-record
		base=\$(milliseconds apt install product-plain)
		$break
		took=\$(milliseconds $install)
		[ \$((took - base)) -le $BUDGET_MS ] || die \"the hook took \$((took - base)) ms: \$(cat /share/apt.log)\"
		cp /share/apt.log /share/first.log
		case $later in
			pending)
				same 'requests' 0 \"\$(requests)\"
				same 'pending' 1 \"\$(pending)\"
				[ -e \$identity ] || die 'no identity file'
				;;
			sent) same 'requests' 1 \"\$(requests)\" ;;
			lost) same 'requests' 0 \"\$(requests)\" ;;
		esac
		$repair
		apt install product-b
		same 'requests of two products after the repair' \"\$([ $later = lost ] && echo 1 || echo 2)\" \"\$(requests)\"
		same 'pending after the repair' 0 \"\$(pending)\"
		same 'instance IDs' 1 \"\$(instances)\"
		echo \"$2: \$((took - base)) ms more than without the hook\" >/share/took
	"
}

# ---- 5: image builds ----

image_build() {
	system "$1"
	in_debian "$root" '
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
		DPKG_ROOT="" dpkg --root=/image/root --force-script-chrootless -i product-c_*.deb >/share/apt.log 2>&1 ||
			die "$(cat /share/apt.log)"
		dpkg --root=/image/root -s product-c | grep -q "^Status: install ok installed"
		nothing_in_image "--force-script-chrootless"
		DPKG_ROOT=/image/root DPKG_MAINTSCRIPT_PACKAGE=product-c sh /image/root/var/lib/dpkg/info/product-c.postinst configure
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
	need_namespaces
	local root
	root=$(root_of bookworm build-essential,debhelper,apt-utils,openssl,python3) || exit
	mkdir -p "$case_dir/share/tests"
	cp "$top/debian/tests"/* "$case_dir/share/tests/"
	RECEIVER_OPTIONS=none in_debian "$root" '
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
	run_case "$suite: five products in one transaction" 60 five "$suite"
	run_case "$suite: a product that carries the program" 60 embedded "$suite"
	for no in nothing variable do-not-track sudo-nothing sudo-variable exported preseeded file bashrc; do
		run_case "$suite: said no: $no" 60 refused "$suite" $no
	done
	run_case "$suite: debconf, remove and purge" 120 debconf "$suite"
	run_case "$suite: asked before the first product" 60 asked_first "$suite"
	run_case "$suite: descriptors under debconf" 60 descriptors "$suite"
	for fault in no-network no-dns dead-dns black-hole no-ca-bundle read-only-usr-local full-var full-var-black-hole; do
		run_case "$suite: fault: $fault" 60 fault "$suite" $fault
	done
	run_case "$suite: images" 90 image_build "$suite"
done
finish
