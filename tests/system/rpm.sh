#!/bin/bash
# Real dnf and rpm, of several versions, on systems that call themselves Oracle Linux 8.8: a product whose scriptlet is
# one macro reports once, says no when somebody said no, and neither fails nor delays a transaction. Native dnf runs in
# bootstrapped Debian roots (bullseye: rpm 4.16, bookworm: 4.18, trixie: 4.20), where a shim rpm provides /bin/sh.
# Started by tests/run; see lib.sh for what it expects. Beyond that:
#   RPM_PACKAGES  a directory with packages that were built before (default: they are built, rpm/build)
# shellcheck disable=SC2016,SC2317 # the scripts are expanded inside the systems; cases are called by name
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

tree=$(cd "$(dirname "$0")/../.." && pwd)
here=$tree/tests/system/rpm
url=https://check.percona.com:8443/v1/telemetry/GenericReport
work=$(mktemp -d) || exit 1
trap 'rm -rf "${work:?}"' EXIT

# ---- packages ----

# rpmbuild without anybody's own settings.
build_rpm() {
	HOME=$work rpmbuild -bb --quiet --nodeps --define "_topdir $work/top" --define "_sourcedir $work/sources" \
		--define '_build_id_links none' --load "$tree/rpm/macros.install-record" "$@"
}

# product NAME VERSION RELEASE FAMILY VIA [WANTS]
product() {
	build_rpm --define "product $1" --define "v $2" --define "r $3" --define "family $4" --define "via $5" \
		--define "wants ${6:-Requires}" --define 'dist .el8' "$here/product.spec"
}

build_packages() {
	need rpmbuild createrepo_c
	if [ -n "${RPM_PACKAGES:-}" ]; then
		packages=$RPM_PACKAGES
	else
		packages=$work/dist
		need cargo aarch64-linux-gnu-gcc
		"$tree/rpm/build" "$packages"
	fi
	echo "$packages" >"$work/packages"
	mkdir -p "$work/sources" "$work/repo"
	cp "$here/os-release" "$work/sources/"
	cp "$(command -v busybox)" "$work/sources/" || skip "busybox is not installed"
	build_rpm "$here/shim.spec"
	product product 4.4.26 25 PRODUCT_FAMILY_PSMDB posttrans
	product product 4.4.27 26 PRODUCT_FAMILY_PSMDB posttrans
	product early 4.4.26 25 PRODUCT_FAMILY_PSMDB post
	product early 4.4.27 26 PRODUCT_FAMILY_PSMDB post
	product other 8.0.36 28 PRODUCT_FAMILY_PS posttrans
	product weak 4.4.26 25 PRODUCT_FAMILY_PBM posttrans Recommends
	product lua 4.4.26 25 PRODUCT_FAMILY_PSMDB lua
	product shell 4.4.26 25 PRODUCT_FAMILY_PSMDB shell
	cp "$work"/top/RPMS/*/*.rpm "$packages"/install-record-[0-9]*."$(uname -m)".rpm "$work/repo/"
	createrepo_c --quiet "$work/repo"
	touch "$work/built"
}

# ---- systems ----

base_packages=dnf,rpm,sudo
# The one of bookworm is also the one that black holes are made in and that is booted.
more_packages=nftables,systemd-sysv,dbus

# root_for SUITE
root_for() {
	case $1 in
		zypper) root_of bookworm zypper,rpm ;;
		bookworm) root_of bookworm "$base_packages,$more_packages" ;;
		*) root_of "$1" "$base_packages" ;;
	esac
}

make_root() {
	need_namespaces
	root_for "$1" >/dev/null
}

# What every script starts with: a system with rpm's database, the repository and yum as on Enterprise Linux 8. Time
# is plenty, so that a busy machine cannot spoil a test; the faults are tested with the real budget.
PRELUDE='
rm -f /etc/os-release
cp /share/os-release /etc/os-release
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /etc/rpm /etc/yum.repos.d /etc/dnf/vars
echo "%_dbpath /var/lib/rpm" >/etc/rpm/macros
echo 8 >/etc/dnf/vars/releasever
printf "%s\n" "[repo]" name=repo baseurl=file:///share/repo gpgcheck=0 >/etc/yum.repos.d/repo.repo
ln -sf dnf /usr/bin/yum
# Debian has patched its rpm to refuse, but for this option; not since trixie.
is_patched=$(rpm --force-debian --version 2>/dev/null)
rpm() { command rpm ${is_patched:+--force-debian} "$@"; }
# Trixie also takes the network away from every scriptlet (rpm-plugin-unshare); that is a case of its own.
[ -n "${with_unshare:-}" ] || rm -f /usr/lib/rpm/macros.d/macros.transaction_unshare
rpm -i /share/repo/installed-*.rpm
export SSL_CERT_FILE=/share/receiver/ca.pem PERCONA_TELEMETRY_URL='$url'
export PERCONA_CONNECT_TIMEOUT=10 PERCONA_SEND_TIMEOUT=20
fail() { echo "$*"; cat /share/output 2>/dev/null; exit 1; }
# run COMMAND...: it has to succeed; what it said is in /share/output.
run() { "$@" >/share/output 2>&1 || fail "$*: status $?"; }
is_installed() { rpm -q "$@" >/dev/null || fail "not installed: $*"; }
seconds() { date +%s.%N; }
# took_at_most SECONDS SINCE
took_at_most() {
	local took
	took=$(awk -v a="$2" -v b="$(seconds)" "BEGIN { printf \"%.2f\", b - a }")
	echo "took $took s" >>/share/times
	awk -v a="$took" -v b="$1" "BEGIN { exit !(a <= b) }" || fail "took $took s, more than $1 s"
}
none_runs() { ! grep -qx install-record /proc/[0-9]*/comm 2>/dev/null || fail "still running"; }
# What a container runtime does to every container, as far as the hook looks at it (readonlyPaths of the OCI runtime
# specification); PID 1 is no init here anyway.
become_container() {
	touch /.dockerenv
	mount --bind /proc/sys /proc/sys
	mount -o remount,ro,bind /proc/sys
}
no_trace() {
	for path in /usr/local/percona /var/lib/install-record; do
		[ ! -e "$path" ] || fail "$path exists: $(ls -laR "$path")"
	done
}
'

# system SUITE SCRIPT
system() {
	need_namespaces
	[ -e "$work/built" ] || skip "the packages were not built"
	[ "$(uname -m)" = x86_64 ] || skip "the test systems are x86_64"
	local root
	root=$(root_for "$1")
	[ -d "$root" ] || exit 77
	mkdir -p "$case_dir/share"
	cp -r "$work/repo" "$here/os-release" "$case_dir/share/"
	in_system "$root" "with_unshare=${with_unshare:-}$PRELUDE$2"
}

connections() {
	if [ -e "$case_dir/share/receiver/connections" ]; then
		wc -l <"$case_dir/share/receiver/connections" | tr -d ' '
	else
		echo 0
	fi
}

# field NAME BODY: the value of the one field with that name.
field() {
	sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$2"
}

# ---- 1: one record ----

# The example of Percona's documentation; what is in capitals is filled in from what was sent.
EXAMPLE='{"reports":[{"id":"ID","product_family":"PRODUCT_FAMILY_PSMDB","instanceId":"INSTANCE","createTime":"TIME","metrics":[{"key":"deployment","value":"PACKAGE"},{"key":"pillar_version","value":"4.4.26-25"},{"key":"OS","value":"Oracle Linux Server 8.8"},{"key":"hardware_arch","value":"x86_64 x86_64"}]}]}'

# one_record SUITE COMMAND PACKAGE
one_record() {
	system "$1" "
run $2 $3-4.4.26
is_installed $3 install-record
grep -q 'sent one install record of PRODUCT_FAMILY_PSMDB 4.4.26-25' /share/output || fail 'it did not say so'
cp /usr/local/percona/telemetry_uuid /share/
ls /var/lib/install-record/pending | grep -q . && fail 'still pending'
exit 0"
	expect requests 1 "$(requests)"
	local sent id instance time uuid='^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' expected
	sent=$(body 1)
	id=$(field id "$sent") instance=$(field instanceId "$sent") time=$(field createTime "$sent")
	[[ $id =~ $uuid && $instance =~ $uuid && $id != "$instance" ]] || fail "IDs: '$id', '$instance'"
	[[ $time =~ ^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z$ ]] || fail "time: '$time'"
	expected=${EXAMPLE/ID/$id}
	expected=${expected/\"INSTANCE\"/\"$instance\"}
	expect body "${expected/\"TIME\"/\"$time\"}" "$sent"
	expect 'identity file' "instanceId:$instance
PRODUCT_FAMILY_PSMDB:1" "$(cat "$case_dir/share/telemetry_uuid")"
}

# ---- 2: once ----

# once SUITE PACKAGE
once() {
	system "$1" "
run dnf -y install $2-4.4.26
run dnf -y reinstall $2
run dnf -y upgrade $2
is_installed $2-4.4.27-26.el8
run dnf -y downgrade $2
is_installed $2-4.4.26-25.el8
run dnf -y remove $2
run dnf -y install $2
is_installed $2-4.4.27-26.el8
[ \"\$(ls /var/lib/install-record/sent | wc -l)\" = 1 ] || fail 'not one receipt'
# Another family: one more.
run dnf -y install other
run rpm -e other
run rpm -i /share/repo/other-*.rpm"
	expect requests 2 "$(requests)"
	[[ $(body 1) == *'"PRODUCT_FAMILY_PSMDB"'*'"4.4.26-25"'* ]] || fail "first: $(body 1)"
	[[ $(body 2) == *'"PRODUCT_FAMILY_PS"'*'"8.0.36-28"'* ]] || fail "second: $(body 2)"
	expect instanceId "$(field instanceId "$(body 1)")" "$(field instanceId "$(body 2)")"
}

# together SUITE: several products in one transaction.
together() {
	system "$1" 'run dnf -y install product other weak'
	expect requests 3 "$(requests)"
	local n instances
	instances=$(for n in 1 2 3; do field instanceId "$(body "$n")"; done | sort -u | wc -l)
	expect instances 1 "$instances"
}

# zypper runs %posttrans itself, after rpm has ended.
by_zypper() {
	system zypper '
run zypper --non-interactive addrepo --no-gpgcheck dir:/share/repo repo
run zypper --non-interactive install product
is_installed product install-record
grep -rl install-record /var/log/zypp/history >/dev/null || fail "its history does not show it"
run zypper --non-interactive install --force product
run zypper --non-interactive install early
'
	expect requests 1 "$(requests)"
	[[ $(body 1) == *'{"key":"deployment","value":"PACKAGE"}'* ]] || fail "not a package: $(body 1)"
}

by_zypper_in_image() {
	system zypper '
become_container
run zypper --non-interactive addrepo --no-gpgcheck dir:/share/repo repo
run zypper --non-interactive install product early
is_installed product early install-record
no_trace
'
	expect connections 0 "$(connections)"
}

# ---- 3: no ----

# What the scripts below start with: a user who may use sudo. What the test itself sets goes the way of root.
ADMIN='
useradd --create-home --shell /bin/bash admin
echo "admin ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/admin
export install="yum -y install product"
as_admin() {
	echo "Defaults env_keep += \"SSL_CERT_FILE PERCONA_TELEMETRY_URL PERCONA_CONNECT_TIMEOUT PERCONA_SEND_TIMEOUT\"" \
		>>/etc/sudoers.d/admin
	su admin -c "$1"
}
'

# refused SUITE SCRIPT: SCRIPT installs the product with $install, and nothing comes of it.
refused() {
	system "$1" "$ADMIN{
$2
} >/share/output 2>&1 || fail \"status \$?\"
is_installed product install-record
no_trace
! grep -v 'unable to resolve' /share/output | grep install-record: || fail 'it said something'"
	expect connections 0 "$(connections)"
}

# The control: by the same way, and with values that say nothing.
admitted() {
	system bookworm "$ADMIN"'
run as_admin "sudo PERCONA_TELEMETRY_DISABLE=0 DO_NOT_TRACK=off $install"
is_installed product'
	expect requests 1 "$(requests)"
}

# ---- 4: neither failing nor delaying ----

# A pipe behind rpm is closed when rpm ends, however long a server takes.
pipe() {
	RECEIVER_OPTIONS='--fault stall-handshake' system "$1" '
unset PERCONA_CONNECT_TIMEOUT PERCONA_SEND_TIMEOUT
run rpm -i /share/repo/install-record-[0-9]*.rpm
for package in product early; do
	began=$(seconds)
	rpm -i "/share/repo/$package-4.4.26-25.el8.noarch.rpm" 2>&1 | cat >/share/output
	[ "${PIPESTATUS[0]}" = 0 ] || fail "rpm failed"
	took_at_most 5 "$began"
	grep -q pending /share/output || fail "not pending"
done
none_runs
'
	cat "$case_dir/share/times"
}

# fault SUITE RECEIVER_OPTIONS BROKEN KEPT AFTERWARDS: a transaction in a broken world. BROKEN makes it so (and may set
# $alone, in front of dnf); KEPT is `kept` where a record has to be pending then.
fault() {
	local suite=$1 options=$2 broken=$3 kept=$4 healed=$5
	RECEIVER_OPTIONS=$options system "$suite" "
export PERCONA_CONNECT_TIMEOUT=2 PERCONA_SEND_TIMEOUT=3
# How long dnf itself takes here, now.
run dnf -y install install-record
began=\$(seconds)
PERCONA_TELEMETRY_DISABLE=1 run dnf -y install product
own=\$(awk -v a=\"\$began\" -v b=\"\$(seconds)\" 'BEGIN { printf \"%.2f\", b - a }')
run rpm -e product
no_trace
$broken
began=\$(seconds)
run \$alone dnf -y install product
echo \"dnf by itself \$own s\" >>/share/times
took_at_most \"\$(awk -v a=\"\$own\" 'BEGIN { print a + 3 + 2 }')\" \"\$began\"
none_runs
is_installed product
pending=\$(find /var/lib/install-record/pending /usr/local/percona/.install-record/pending -type f 2>/dev/null | wc -l)
if [ $kept = kept ]; then
	[ \"\$pending\" = 1 ] || fail \"\$pending pending\"
	grep -q 'install record pending in' /share/output || fail 'it did not say so'
fi
run rpm -V product
$healed
exit 0"
	cat "$case_dir/share/times"
}

# The world is whole again, and the next product's scriptlet delivers what was kept.
HEALED='
export PERCONA_CONNECT_TIMEOUT=10 PERCONA_SEND_TIMEOUT=20 SSL_CERT_FILE=/share/receiver/ca.pem
run dnf -y install other
ls /var/lib/install-record/pending | grep -q . && fail "still pending"
'

faults() {
	local fault=$1 suite=$2
	case $fault in
		no-network)
			fault "$suite" '' 'alone="unshare --net"' kept "$HEALED" ;;
		dead-dns)
			# Nobody answers on port 53 of an address that takes everything.
			fault "$suite" '' '
			cp /etc/hosts /share/hosts; echo "127.0.0.1 localhost testhost" >/etc/hosts; echo "nameserver 127.0.0.53" >/etc/resolv.conf
			nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"
			nft add rule inet t in udp dport 53 drop' kept "cp /share/hosts /etc/hosts; nft delete table inet t; $HEALED" ;;
		black-hole)
			fault "$suite" '' '
			nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"
			nft add rule inet t in tcp dport 8443 drop' kept "nft delete table inet t; $HEALED" ;;
		silent-server)
			fault "$suite" '--fault stall-accept' : kept : ;;
		no-ca-bundle)
			fault "$suite" '' 'unset SSL_CERT_FILE' kept "$HEALED" ;;
		read-only-usr-local)
			fault "$suite" '' '
			mkdir -p /usr/local; mount --bind /usr/local /usr/local; mount -o remount,ro,bind /usr/local' lost \
				'[ "$(ls /var/lib/install-record/sent | wc -l)" = 1 ] || fail "no receipt"
				run dnf -y reinstall product' ;;
		full-var)
			# What rpm and dnf themselves write in /var stays where it is.
			fault "$suite" '' '
			mkdir /var/lib/install-record; mount -t tmpfs -o size=4k none /var/lib/install-record
			head -c 65536 /dev/zero >/var/lib/install-record/full 2>/dev/null || :' lost 'run dnf -y reinstall product' ;;
	esac
	case $fault in
		no-network | dead-dns | black-hole | no-ca-bundle)
			expect requests 2 "$(requests)"
			;;
		read-only-usr-local | full-var) expect requests 1 "$(requests)" ;;
		*) expect requests 0 "$(requests)" ;;
	esac
}

# ---- 5: without network ----

# rpm's own plugin takes the network away from scriptlets (rpm 4.20); `install-record flush` has it.
nonet() {
	local with_unshare=yes
	system trixie '
[ "$(rpm --eval %__transaction_unshare_nonet)" = 1 ] || fail "this rpm has no unshare plugin"
run dnf -y install product
grep -q "install record pending in" /share/output || fail "it did not say so"
cat /var/lib/install-record/pending/* >/share/pending
[ "$(grep -c . /usr/local/percona/telemetry_uuid)" = 1 ] || fail "the family is marked"
cut -d: -f2 /usr/local/percona/telemetry_uuid >/share/instance
run install-record flush
grep -q "sent 1 pending" /share/output || fail "not flushed"
ls /var/lib/install-record/pending | grep -q . && fail "still pending"
grep -qx PRODUCT_FAMILY_PSMDB:1 /usr/local/percona/telemetry_uuid || fail "the family is not marked"
run dnf -y reinstall product
'
	expect requests 1 "$(requests)"
	expect instanceId "$(cat "$case_dir/share/instance")" "$(field instanceId "$(body 1)")"
	grep -q "$(field id "$(body 1)")" "$case_dir/share/pending" || fail "another id: $(body 1); $(cat "$case_dir/share/pending")"
}

# A "no" after the record was made and before it could leave.
flush_refused() {
	system bookworm '
run dnf -y install install-record
PERCONA_TELEMETRY_URL=https://check.percona.com:1/ run dnf -y install product
grep -q pending /share/output || fail "not pending"
run env DO_NOT_TRACK=1 install-record flush
[ ! -s /share/output ] || fail "it said something"
run install-record off
ls /var/lib/install-record/pending | grep -q . && fail "still pending"
run install-record flush
'
	expect connections 0 "$(connections)"
}

# ---- 6: removal ----

# removal SUITE PACKAGE
removal() {
	system "$1" "
run dnf -y install $2
is_installed install-record
run dnf -y remove $2
! rpm -q install-record >/dev/null || fail 'the hook is still there'
[ ! -e /usr/bin/install-record ] || fail 'its binary is still there'
none_runs
[ \"\$(ls /var/lib/install-record/sent | wc -l)\" = 1 ] || fail 'no receipt'
[ -s /usr/local/percona/telemetry_uuid ] || fail 'no ID'
# Its macro does nothing where the hook is not.
run rpm -i --nodeps /share/repo/other-*.rpm
! grep -q install-record /share/output || fail 'it said something'"
	expect requests 1 "$(requests)"
}

# ---- images ----

# Scriptlets, whatever runs them, are recognized in an application container: an image is being built there.
image_build() {
	system "$1" '
become_container
mkdir -p "/opt/t m p"
run dnf -y install install-record
for package in product early lua shell; do
	run dnf -y install $package
	no_trace
	run rpm -e $package
	run rpm -i /share/repo/$package-4.4.26*.rpm
	no_trace
	run rpm -e $package
	run rpm --define "_tmppath /opt/t m p" -i /share/repo/$package-4.4.26*.rpm
	no_trace
	run rpm -e $package
done
# A program of its own that links librpm: only the file tells.
ln -s /usr/bin/python3 /usr/bin/provisioner
run provisioner /usr/bin/dnf -y install product
no_trace
# The control: what is no scriptlet is the container itself.
run install-record -f PRODUCT_FAMILY_PSMDB -v 4.4.26-25
'
	expect requests 1 "$(requests)"
	[[ $(body 1) == *'{"key":"deployment","value":"DOCKER"}'* ]] || fail "not a container: $(body 1)"
}

# Lua and other shells on a host: a package.
other_scriptlets() {
	system "$1" "run dnf -y install $2"
	expect requests 1 "$(requests)"
	[[ $(body 1) == *'{"key":"deployment","value":"PACKAGE"}'* ]] || fail "not a package: $(body 1)"
}

# tree_of SUITE MODE: the product in a tree that is Oracle Linux 8.8 with busybox; MODE is how it gets there.
installroot() {
	system "$1" '
R=/srv/tree
mkdir -p $R
install="dnf -q -y --installroot=$R --releasever=8 --setopt=reposdir=/nonexistent --setopt=cachedir=$R/var/cache/dnf
	--nogpgcheck --disablerepo=* --disableplugin=* --repofrompath=t,file:///share/repo install"
run $install distribution install-record
[ "$(. $R/etc/os-release; echo "$PRETTY_NAME")" = "Oracle Linux Server 8.8" ] || fail "not Oracle Linux"
# The binary runs in there.
[ -x $R/usr/bin/install-record ] && chroot $R /usr/bin/install-record --version >/dev/null || fail "it does not run"
no_trace_in() {
	[ ! -e $R/usr/local/percona ] && [ ! -e $R/var/lib/install-record ] || fail "$1: it left something"
	no_trace
}
run $install product early lua
no_trace_in installroot
# The same with the /proc of the installing system, as image tools mount it.
mkdir -p $R/proc
mount --bind /proc $R/proc
run rpm --root $R --dbpath /var/lib/rpm -e product early lua
run $install product early lua
no_trace_in "installroot with /proc"
run rpm --root $R --dbpath /var/lib/rpm -e product early lua
run rpm --root $R --dbpath /var/lib/rpm -i --nodeps /share/repo/product-4.4.26*.rpm
no_trace_in "rpm --root with /proc"
umount $R/proc
run rpm --root $R --dbpath /var/lib/rpm -e product
run rpm --root $R --dbpath /var/lib/rpm -i --nodeps /share/repo/product-4.4.26*.rpm
no_trace_in "rpm --root"
# The control: the same tree as a machine of its own, later, by hand.
mount --bind /proc $R/proc
mkdir -p $R/share
mount --bind /share $R/share
cp /etc/hosts $R/etc/hosts
SSL_CERT_FILE=/share/receiver/ca.pem run chroot $R /usr/bin/install-record -f PRODUCT_FAMILY_PSMDB -v 4.4.26-25
'
	expect requests 1 "$(requests)"
	[[ $(body 1) == *'"Oracle Linux Server 8.8"'* ]] || fail "not the tree's system: $(body 1)"
}

# rpm-ostree runs a scriptlet like this (rpmostree-scripts.cxx, rpmostree-bwrap.cxx): in bubblewrap, from a descriptor,
# with an environment of its own, and without telling rpm's name to anybody.
ostree() {
	need_namespaces
	need bwrap
	[ -e "$work/built" ] || skip "the packages were not built"
	local root out
	root=$(root_for bookworm)
	mkdir -p "$case_dir/tree" "$case_dir/var"
	(cd "$case_dir/tree" && mkdir usr etc && mkdir -p usr/bin usr/local var/lib)
	rpm2cpio "$work"/repo/install-record-[0-9]*.rpm | (cd "$case_dir/tree" && cpio --quiet -idm)
	cp "$here/os-release" "$case_dir/tree/etc/"
	cp "$(command -v busybox)" "$case_dir/tree/usr/bin/sh"
	local line
	line=$(rpm -qp --scripts "$work"/repo/product-4.4.26*.rpm | grep '/usr/bin/install-record')
	# compose ENVIRONMENT [OPTION...]: prints what the scriptlet says; options are bubblewrap's.
	compose() {
		local environment=$1
		shift
		unshare --net --mount env -i PATH=/usr/sbin:/usr/bin LANG=C "$environment" bash -c '
			exec 5<<<"$1" 4</dev/null
			tree=$2
			shift 2
			exec bwrap --dev /dev --proc /proc --dir /run --dir /tmp --chdir / --die-with-parent \
				--unshare-pid --unshare-uts --unshare-ipc --unshare-cgroup-try --unshare-net \
				--cap-drop ALL --cap-add cap_chown --cap-add cap_dac_override --cap-add cap_fowner --cap-add cap_fsetid \
				--cap-add cap_kill --cap-add cap_setgid --cap-add cap_setuid --cap-add cap_setpcap \
				--cap-add cap_sys_chroot --cap-add cap_setfcap --symlink usr/bin /bin --bind "$tree/usr" /usr \
				--bind "$tree/etc" /etc --bind "$tree/var" /var --tmpfs /run "$@" /bin/sh /proc/self/fd/5 1
		' - "$line" "$case_dir/tree" "$@" 2>&1
	}
	# SYSTEMD_OFFLINE is set since 2018.
	for environment in SYSTEMD_OFFLINE=1 OLDER=1; do
		out=$(compose "$environment" --file 4 /run/ostree-booted) || fail "it failed: $out"
		expect output '' "$out"
		expect 'what it left' '' "$(cd "$case_dir/tree" && find usr/local var/lib -mindepth 1)"
	done
	# The control: the same sandbox, of no compose.
	out=$(compose OLDER=1) || fail "it failed: $out"
	[ -e "$case_dir/tree/usr/local/percona/telemetry_uuid" ] || fail "the control left nothing: $out"
}

# ---- 7: packages ----

packaged() {
	need rpm
	local package packages
	packages=$(cat "$work/packages")
	for package in "$packages"/*.rpm; do
		if rpm -qp --requires "$package" | grep -v '^rpmlib('; then
			fail "$package requires more than rpm"
		fi
		expect 'scriptlets' '' "$(rpm -qp --scripts "$package")"
	done
	expect 'architectures' 'aarch64 noarch x86_64' \
		"$(rpm -qp --queryformat '%{arch}\n' "$packages"/*.rpm | sort -u | tr '\n' ' ' | sed 's/ $//')"
}

lint() {
	need rpmlint
	local said
	said=$(rpmlint --config "$tree/rpm/rpmlint.toml" "$(cat "$work/packages")"/*.rpm "$tree/rpm/install-record.spec" 2>&1) ||
		fail "$said"
	[[ $said == *' 0 errors, 0 warnings'* ]] || fail "$said"
}

aarch64() {
	need qemu-aarch64-static rpm2cpio cpio
	mkdir "$case_dir/tree"
	rpm2cpio "$(cat "$work/packages")"/install-record-[0-9]*.aarch64.rpm | (cd "$case_dir/tree" && cpio --quiet -idm)
	local binary=$case_dir/tree/usr/bin/install-record shown
	cp "$here/os-release" "$case_dir/tree/etc-os-release"
	mkdir "$case_dir/tree/etc"
	mv "$case_dir/tree/etc-os-release" "$case_dir/tree/etc/os-release"
	expect version "$("$BINARY" --version)" "$(qemu-aarch64-static "$binary" --version)"
	shown=$(qemu-aarch64-static "$binary" show --root "$case_dir/tree" -f PRODUCT_FAMILY_PSMDB -v 4.4.26-25 2>/dev/null)
	[[ $shown == *'"Oracle Linux Server 8.8"'*'{"key":"hardware_arch","value":"aarch64 aarch64"}'* ]] || fail "$shown"
	# Over TLS to the receiver.
	"$RECEIVER" --dir "$case_dir/receiver" &
	local receiver=$!
	for _ in $(seq 200); do
		[ -e "$case_dir/receiver/port" ] && break
		sleep 0.05
	done
	SSL_CERT_FILE=$case_dir/receiver/ca.pem qemu-aarch64-static "$binary" send --root "$case_dir/tree" -c 20 -t 40 \
		-f PRODUCT_FAMILY_PSMDB -v 4.4.26-25 -u "https://localhost:$(cat "$case_dir/receiver/port")/" --strict
	kill "$receiver"
	expect requests 1 "$(wc -l <"$case_dir/receiver/requests.jsonl")"
}

# The licence of the spec names every licence that Cargo's lock file brings into the binary.
licence() {
	need cargo python3
	local declared
	declared=$(sed -n 's/^License: *//p' "$tree/rpm/install-record.spec" | head -n 1)
	(
		cd "$tree"
		cargo metadata --locked --offline --format-version 1 --filter-platform x86_64-unknown-linux-musl
	) >"$case_dir/metadata" || fail "cargo metadata"
	python3 "$here/licences.py" "$declared" <"$case_dir/metadata"
}

# A spec that forgets the family is told so when it is built; and what a value holds cannot leave its quotes.
macros() {
	need rpmspec
	local line said
	expand() { HOME=$work rpmspec --load "$tree/rpm/macros.install-record" "$@" -P "$case_dir/spec" 2>&1; }
	spec() {
		printf '%s\n' 'Name: p' 'Version: 1.2' 'Release: 3%{?dist}.1' 'Summary: s' 'License: l' '%description' '%post' 'set -e' "$1" \
			'echo the end' '%files' >"$case_dir/spec"
	}
	spec '%install_record_post'
	said=$(expand) && fail "accepted without a family: $said"
	[[ $said == *'which product? Give -f FAMILY'* ]] || fail "$said"
	spec '%install_record_post -f F'
	line=$(expand --define 'dist .el8' | grep /usr/bin/install-record)
	[[ $line == *" send -f 'F' -v '1.2-3.1' </dev/null"* ]] || fail "the dist tag: $line"
	expect lines 1 "$(grep -c . <<<"$line")"
	spec '%install_record_posttrans -p memgraph'
	[[ $(expand) == *" send --profile 'memgraph' -v '1.2-3.1' </dev/null"* ]] || fail "a profile: $(expand)"
	# Run by every shell that may be a system's /bin/sh, with a hook that fails and notes its arguments.
	spec '%install_record_posttrans -f $(touch${IFS}x)`touch${IFS}y` -v 1'\''2"3;false#'
	expand | sed -n '/^set -e/,/^echo the end/p' | sed "s|/usr/bin/install-record|$case_dir/hook|g" >"$case_dir/scriptlet"
	printf '%s\n' '#!/bin/sh' 'printf "%s\n" "$@" >"$0.arguments"' 'ls -l /proc/self/fd >"$0.descriptors"' 'exit 3' >"$case_dir/hook"
	chmod +x "$case_dir/hook"
	local shell
	for shell in "sh" "bash --posix" "busybox sh"; do
		rm -f "$case_dir/hook.arguments"
		# shellcheck disable=SC2086
		said=$(cd "$case_dir" && $shell ./scriptlet 1 3</etc/passwd 9</etc/passwd </etc/passwd) || fail "$shell: status $?"
		expect "$shell: output" 'the end' "$said"
		expect "$shell: arguments" 'send|-f|$(touch${IFS}x)`touch${IFS}y`|-v|1'\''2"3;false#' \
			"$(paste -sd '|' "$case_dir/hook.arguments")"
		! grep passwd "$case_dir/hook.descriptors" || fail "$shell: a descriptor is left open"
		expect "$shell: files" '' "$(cd "$case_dir" && ls x y 2>/dev/null)"
	done
	rm "$case_dir/hook"
	expect 'without the hook' 'the end' "$(sh -e "$case_dir/scriptlet" 2>&1)"
}

# ---- the service ----

unit_verified() {
	system bookworm '
run dnf -y install install-record
run systemd-analyze verify --man=no install-record.service
[ ! -s /share/output ] || fail "systemd-analyze verify"
[ "$(systemctl is-enabled install-record.service)" = disabled ] || fail "it is enabled"
run systemd-analyze security --offline=yes --no-pager install-record.service
cp /share/output /share/security
'
	local level
	level=$(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p' "$case_dir/share/security")
	awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 3.0) }' || fail "exposure level '$level'"
}

# A booted system (systemd-nspawn, in namespaces and a control group of its own): a record that waits leaves with the
# service, in its sandbox; and one that may not leave stays.
unit_started() {
	need_namespaces
	need systemd-nspawn
	[ -e "$work/built" ] || skip "the packages were not built"
	local root
	root=$(root_for bookworm)
	[ -d "$root" ] || exit 77
	mkdir -p "$case_dir/share/receiver" "$case_dir/mnt" "$case_dir/cgroups"
	cp -r "$work/repo" "$here/os-release" "$case_dir/share/"
	cp "$RECEIVER" "$case_dir/share/receiver/receiver"
	cat >"$case_dir/share/probe" <<-END
		#!/bin/bash
		exec >/share/log 2>&1 </dev/null
		$PRELUDE
		set -x
		cp /share/receiver/ca.pem /etc/ca.pem
		mkdir -p /etc/systemd/system/install-record.service.d
		printf '%s\n' '[Service]' Environment=SSL_CERT_FILE=/etc/ca.pem Environment=PERCONA_CONNECT_TIMEOUT=10 \
			Environment=PERCONA_SEND_TIMEOUT=20 ExecStart= \
			'ExecStart=/usr/bin/install-record flush --due --verbose' StandardError=append:/share/said \
			>/etc/systemd/system/install-record.service.d/test.conf
		run dnf -y install install-record
		systemctl daemon-reload
		# Nothing is pending: nothing runs.
		systemctl start install-record.service || fail 'not started'
		[ "\$(systemctl show -p ConditionResult --value install-record.service)" = no ] || fail 'it ran'
		no_trace
		run unshare --net dnf -y install product
		grep -q 'install record pending in' /share/output || fail 'not pending'
		cat /var/lib/install-record/pending/* >/share/pending
		# A "no" in the environment of process 1's own configuration, and in root's .profile.
		for no in /etc/environment /root/.profile; do
			cp \$no /tmp/kept 2>/dev/null || : >/tmp/kept
			echo DO_NOT_TRACK=1 >>\$no
			systemctl start install-record.service || fail 'not started'
			cp /tmp/kept \$no
			ls /var/lib/install-record/pending | grep -q . || fail 'it was sent all the same'
		done
		systemctl enable --now install-record.service || fail 'it failed'
		[ "\$(systemctl show -p Result --value install-record.service)" = success ] || fail 'no success'
		cat /share/said
		# Landlock is what nspawn itself refuses.
		! grep -v 'sandbox: no landlock' /share/said | grep -E 'the courier (keeps|may)' ||
			fail 'the sandbox takes away what the courier needs for its own'
		ls /var/lib/install-record/pending | grep -q . && fail 'still pending'
		grep -qx PRODUCT_FAMILY_PSMDB:1 /usr/local/percona/telemetry_uuid || fail 'the family is not marked'
		stat -c '%a %U' /usr/local/percona/telemetry_uuid | grep -qx '644 root' || fail 'another mode'
		echo good >/share/result
	END
	chmod +x "$case_dir/share/probe"
	cat >"$case_dir/share/probe.service" <<-'END'
		[Unit]
		SuccessAction=poweroff-force
		FailureAction=poweroff-force
		[Service]
		Type=oneshot
		ExecStart=/share/probe
	END
	cat >"$case_dir/share/boot" <<-'END'
		set -eu
		mount -t proc proc /proc
		mount -t tmpfs none "$CASE/mnt"
		cd "$CASE/mnt"
		mkdir upper work root
		mount -t overlay none -o "lowerdir=$ROOT,upperdir=upper,workdir=work" root
		if mountpoint -q /sys/fs/cgroup; then umount -R /sys/fs/cgroup; fi
		mount -t cgroup2 none /sys/fs/cgroup
		ip link set lo up
		cp "$CASE/share/probe.service" root/etc/systemd/system/
		mkdir -p root/etc/systemd/system/multi-user.target.wants root/share
		ln -s ../probe.service root/etc/systemd/system/multi-user.target.wants/
		echo "127.0.0.1 localhost check.percona.com testhost" >root/etc/hosts
		"$CASE/share/receiver/receiver" --dir "$CASE/share/receiver" --port 8443 --san check.percona.com &
		for _ in $(seq 200); do
			[ -e "$CASE/share/receiver/port" ] && break
			sleep 0.05
		done
		systemd-nspawn -q --register=no --keep-unit --hostname=testhost --resolv-conf=off --timezone=off \
			--bind="$CASE/share:/share" -D root --console=pipe --boot </dev/null 2>&1
	END
	ROOT=$root CASE=$case_dir unshare --mount bash -euc '
		mount --make-rprivate /
		mount -t cgroup2 none "$CASE/cgroups"
		group=$CASE/cgroups/install-record-test.$$
		mkdir "$group"
		bash -euc "
			echo \$\$ >\"\$1/cgroup.procs\"
			exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash \"\$2\"
		" - "$group" "$CASE/share/boot" || status=$?
		find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || :
		exit ${status:-0}
	' || :
	[ -e "$case_dir/share/log" ] || skip "systemd cannot be booted here"
	cat "$case_dir/share/log"
	expect result good "$(cat "$case_dir/share/result" 2>/dev/null)"
	expect requests 1 "$(requests)"
	grep -q "$(field id "$(body 1)")" "$case_dir/share/pending" || fail "another id"
}

# ---- the list ----

limit=${LIMIT:-180}
run_case "packages are built: x86_64, aarch64, noarch; products; a repository" 900 build_packages
for suite in bullseye bookworm trixie; do
	run_case "$suite with dnf, rpm and sudo" 900 make_root "$suite"
done
run_case "bookworm with zypper" 900 make_root zypper
run_case "the packages require nothing and have no scriptlets" 60 packaged
run_case "rpmlint" 120 lint
run_case "the licence covers every crate" 60 licence
run_case "macros: family, version, quoting, descriptors, status, three shells" 60 macros
run_case "the aarch64 package's binary reports over TLS (qemu)" 120 aarch64

for suite in bullseye bookworm trixie; do
	run_case "$suite: yum install: one record, the documentation's example" "$limit" one_record "$suite" 'yum -y install' product
	run_case "$suite: dnf install, from %post: the same" "$limit" one_record "$suite" 'dnf -y install' early
	run_case "$suite: upgrade, reinstall, downgrade, erase and install: no second record" "$limit" once "$suite" product
done
run_case "zypper install, twice: one record" "$limit" by_zypper
run_case "zypper in a container: an image build" "$limit" by_zypper_in_image
run_case "bookworm: the same of a product that reports from %post" "$limit" once bookworm early
run_case "three products in one transaction: three records, one instance" "$limit" together bookworm
run_case "a scriptlet in another shell" "$limit" other_scriptlets bookworm shell
for suite in bullseye bookworm trixie; do
	run_case "$suite: a scriptlet in Lua" "$limit" other_scriptlets "$suite" lua
	run_case "$suite: in a container, scriptlets are an image build" "$limit" image_build "$suite"
	run_case "$suite: --installroot and rpm --root are an image build" "$limit" installroot "$suite"
done
run_case "an OSTree compose is an image build" "$limit" ostree

refused_by() {
	run_case "no: $1" "$limit" refused "${suite:-bookworm}" "$2"
}
off=PERCONA_TELEMETRY_DISABLE
run_case "nobody said no, sudo yum install: one record" "$limit" admitted
refused_by "sudo X=1 yum install" "as_admin \"sudo $off=1 \$install\""
for suite in bullseye trixie; do
	refused_by "sudo X=1 yum install ($suite)" "as_admin \"sudo $off=1 \$install\""
	refused_by "export X=1; sudo yum install ($suite)" "as_admin \"export $off=1; sudo \$install\""
done
suite=bookworm
refused_by "sudo DO_NOT_TRACK=true yum install" 'as_admin "sudo DO_NOT_TRACK=true $install"'
refused_by "sudo env X=1 yum install" "as_admin \"sudo env $off=1 \$install\""
refused_by "sudo -E" "as_admin \"export $off=junk; sudo -E \$install\""
refused_by "sudo --preserve-env=X" "as_admin \"export $off=1; sudo --preserve-env=$off \$install\""
refused_by "export X=1; sudo yum install" "as_admin \"export $off=1; sudo \$install\""
refused_by "X=1 sudo yum install" "as_admin \"$off=1 sudo \$install\""
refused_by "root's environment" "$off=1 \$install"
refused_by "/etc/environment" "echo $off=1 >>/etc/environment; \$install"
refused_by "/etc/environment.d" "mkdir -p /etc/environment.d; echo $off=1 >/etc/environment.d/50-no.conf; \$install"
refused_by "/etc/profile.d" "echo export $off=1 >/etc/profile.d/no.sh; \$install"
refused_by "/etc/bashrc" "echo export $off=1 >>/etc/bashrc; \$install"
refused_by "root's .bashrc" "echo export $off=1 >>/root/.bashrc; \$install"
refused_by "root's .bash_profile" "echo $off=1 >>/root/.bash_profile; \$install"
refused_by "/etc/install-record/off before anything is installed" 'mkdir -p /etc/install-record; : >/etc/install-record/off; $install'
refused_by "/etc/install-record/off.d/percona" 'mkdir -p /etc/install-record/off.d; : >/etc/install-record/off.d/percona; $install'
refused_by "install-record off" 'yum -y install install-record && install-record off 2>/dev/null && $install'

run_case "rpm -i product.rpm | cat returns at once" "$limit" pipe bookworm
for fault in no-network dead-dns black-hole silent-server no-ca-bundle read-only-usr-local full-var; do
	run_case "fault: $fault" "$limit" faults "$fault" bookworm
done
run_case "a scriptlet without network: pending, then flushed under the same id" "$limit" nonet
run_case "flush asks for consent again" "$limit" flush_refused
for suite in bullseye bookworm trixie; do
	run_case "$suite: dnf remove drops the hook too: no error, receipts kept" "$limit" removal "$suite" product
done
run_case "the same where the hook is only recommended" "$limit" removal bookworm weak
run_case "the service: verified, exposure at most 3.0" 60 unit_verified
run_case "the service delivers in a booted system" "$limit" unit_started
finish
