#!/bin/bash
# Real dnf and rpm, of several versions, on systems that call themselves Oracle Linux 8.8: a product whose scriptlet is
# one macro reports once, says no when somebody said no, and neither fails nor delays a transaction; a vendor that has
# only docs/rpm.md; Percona's packages with the shim in them. Native dnf runs in bootstrapped Debian roots (bullseye: rpm
# 4.16, bookworm: 4.18, trixie: 4.20), where a shim rpm provides /bin/sh.
# Started by tests/run; see lib.sh for what it expects. Beyond that:
#   RPM_PACKAGES  a directory with packages that were built before (default: they are built, rpm/build)
# Ways to say no are tests/system/opt-out.sh's, faults of the network tests/faults's; here is one of each, through dnf.
# shellcheck disable=SC2016,SC2154,SC2317 # scripts are expanded inside the systems; cases are called by name; lib.sh
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

here=$tree/tests/system/rpm
url=https://check.percona.com:8443/v1/telemetry/GenericReport
work=$(mktemp -d) || exit 1
trap 'rm -rf "${work:?}"' EXIT
# The build below leaves its own program in the place of this one.
shipped=$(sha256sum <"$BINARY")

# ---- packages ----

# rpmbuild without anybody's own settings.
build_rpm() {
	HOME=$work rpmbuild -bb --quiet --nodeps --define "_topdir $work/top" --define "_sourcedir $work/sources" \
		--define '_build_id_links none' --define 'dist .el8' --load "$tree/rpm/macros.install-record" \
		--define "__install_record_profiles $tree/profiles" "$@"
}

# product NAME VERSION RELEASE FAMILY VIA
product() {
	build_rpm --define "product $1" --define "v $2" --define "r $3" --define "family $4" --define "via $5" "$here/product.spec"
}

build_packages() {
	need rpmbuild createrepo_c
	packages=${RPM_PACKAGES:-$work/dist}
	if [ -z "${RPM_PACKAGES:-}" ]; then
		need cargo aarch64-linux-gnu-gcc
		CFLAGS=-O0 "$tree/rpm/build" "$packages"
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
	product lua 4.4.26 25 PRODUCT_FAMILY_PSMDB lua
	product shell 4.4.26 25 PRODUCT_FAMILY_PSMDB shell
	# What docs/rpm.md shows, and nothing else.
	block mine.json rpm.md >"$work/sources/mine.json"
	block mine.spec rpm.md >"$work/mine.spec"
	build_rpm "$work/mine.spec"
	# Percona's, whose %post is bash's: /bin/sh is bash on Enterprise Linux.
	for form in $CALL_HOME_FORMS; do
		(printf '%s\n' "Name: percona-$form" 'Version: 4.4.26' 'Release: 25%{?dist}' 'Summary: s' 'License: l' 'BuildArch: noarch' \
			'%description' 's' '%post -p /bin/bash'
		call_home "$form" "PRODUCT_FAMILY_$form" '%{version}-%{release}'
		echo '%files') >"$work/percona.spec"
		build_rpm "$work/percona.spec"
	done
	cp "$work"/top/RPMS/*/*.rpm "$packages"/install-record-[0-9]*."$(uname -m)".rpm "$packages"/no-install-record-*.rpm "$work/repo/"
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
# specification); with PROCESS_1=/bin/bash.
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

# field NAME BODY: the value of the one field with that name.
field() {
	sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$2"
}

# ---- 1: one record ----

# The example of Percona's documentation; what is in capitals is filled in from what was sent.
EXAMPLE='{"reports":[{"id":"ID","product_family":"PRODUCT_FAMILY_PSMDB","instanceId":"INSTANCE","createTime":"TIME","metrics":[{"key":"deployment","value":"PACKAGE"},{"key":"pillar_version","value":"4.4.26-25"},{"key":"OS","value":"Oracle Linux Server 8.8"},{"key":"hardware_arch","value":"x86_64 x86_64"}]}]}'

# one_record SUITE COMMAND PACKAGE
one_record() {
	# With %post, the product may come before what it recommends.
	system "$1" "
[ $3 = product ] || run dnf -y install install-record
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
run dnf -y install install-record
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
	PROCESS_1=/bin/bash system zypper '
become_container
run zypper --non-interactive addrepo --no-gpgcheck dir:/share/repo repo
run zypper --non-interactive install product early
is_installed product early install-record
no_trace
'
	expect connections 0 "$(connections)"
}

# ---- vendors ----

# A vendor that has only docs/rpm.md; and the product stays when install-record goes.
adopted() {
	system "$1" '
export MINE_RECORDS_URL=https://check.percona.com:8443/v1/installs
run dnf -y install mine
is_installed mine install-record
id=$(cat /var/lib/mine/instance-id)
grep -q "\"instance\":\"$id\",\"version\":\"1.4.2-3\"" /share/receiver/body-1 || fail "$(cat /share/receiver/body-1)"
[ ! -e /usr/local/percona ] || fail "there is a file of Percona"
run dnf -y reinstall mine
run dnf -y remove install-record
is_installed mine
[ ! -e /usr/bin/install-record ] || fail "its binary is still there"
run dnf -y reinstall mine
! grep install-record: /share/output || fail "it said something"
run dnf -y install install-record
run dnf -y swap install-record no-install-record
is_installed mine no-install-record
[ -e /etc/install-record/off ] || fail "no switch"
run dnf -y swap no-install-record install-record
[ ! -e /etc/install-record/off ] || fail "the switch is still there"
[ "$(ls /var/lib/install-record/sent | wc -l)" = 1 ] || fail "no receipt"
run dnf -y remove mine
[ ! -e /var/lib/mine/instance-id ] || fail "the ID is still there"
# A switch from before stays its owner'"'"'s.
mkdir -p /etc/install-record
echo mine >/etc/install-record/off
run dnf -y --allowerasing install no-install-record
[ "$(cat /etc/install-record/off)" = mine ] || fail "the switch from before was replaced"
run rpm -e no-install-record
[ "$(cat /etc/install-record/off)" = mine ] || fail "the switch from before is gone: $(ls /etc/install-record)"
rm /etc/install-record/off
# Where there is no program for it: another architecture.
run dnf -y --exclude=install-record install mine product
is_installed mine product no-install-record
! rpm -q install-record >/dev/null || fail "excluded, and installed"'
	expect requests 1 "$(requests)"
}

# Percona's packages, each form: without the program silent, with it what call-home.sh did.
percona() {
	system "$1" '
groupadd percona-telemetry
all() {
	run rpm -U --replacepkgs /share/repo/percona-*.rpm
	[ "$(grep -c "^the end of" /share/output)" = 5 ] || fail "a script did not go on"
}
all
no_trace
! grep "install-record\|not found" /share/output || fail "it is not silent"
run dnf -y install install-record
all
all
[ "$(grep -l "{\"key\":\"deployment\",\"value\":\"PACKAGE\"},{\"key\":\"pillar_version\",\"value\":\"4.4.26-25.el8\"},{\"key\":\"OS\",\"value\":\"Oracle Linux Server 8.8\"}" \
	/share/receiver/body-* | wc -l)" = 5 ] || fail "another record: $(cat /share/receiver/body-*)"
[ "$(sed -n "2,\$p" /usr/local/percona/telemetry_uuid | sort | paste -sd" ")" = "PRODUCT_FAMILY_bash:1 PRODUCT_FAMILY_mktemp:1 PRODUCT_FAMILY_sh:1 PRODUCT_FAMILY_sourced:1 PRODUCT_FAMILY_stdin:1" ] ||
	fail "$(cat /usr/local/percona/telemetry_uuid)"
[ "$(stat -c "%U:%G %a" /usr/local/percona/telemetry_uuid)" = "root:percona-telemetry 664" ] || fail "group or mode"
[ ! -e /tmp/call-home.sh ] || fail "the file is still there"'
	expect requests 5 "$(requests)"
}

# ---- no ----

# Behind sudo, whose user has said it; and before anything is installed.
refused() {
	system "$1" '
useradd --create-home --shell /bin/bash admin
echo "admin ALL=(ALL:ALL) NOPASSWD: ALL" >/etc/sudoers.d/admin
echo "Defaults env_keep += \"SSL_CERT_FILE PERCONA_TELEMETRY_URL PERCONA_CONNECT_TIMEOUT PERCONA_SEND_TIMEOUT\"" >>/etc/sudoers.d/admin
silent() {
	is_installed product install-record
	no_trace
	! grep -v "unable to resolve" /share/output | grep install-record: || fail "it said something"
	run rpm -e product
}
run su admin -c "export PERCONA_TELEMETRY_DISABLE=1; sudo yum -y install product"
silent
mkdir -p /etc/install-record
: >/etc/install-record/off
run yum -y install product
silent
rm /etc/install-record/off
run su admin -c "sudo PERCONA_TELEMETRY_DISABLE=0 DO_NOT_TRACK=off yum -y install product"'
	expect requests 1 "$(requests)"
}

# ---- neither failing nor delaying ----

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

# ---- without network ----

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

# ---- images ----

# Scriptlets, whatever runs them, are recognized in an application container: an image is being built there.
image_build() {
	PROCESS_1=/bin/bash system "$1" '
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
	system "$1" "run dnf -y install install-record; run dnf -y install $2"
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
# A usable /dev/null: without one, redirections fail in there and the scriptlets with them.
cp -a /dev/null $R/dev/null 2>/dev/null || { : >$R/dev/null && mount --bind /dev/null $R/dev/null; }
echo x >$R/dev/null && [ ! -s $R/dev/null ] || fail "/dev/null keeps what is written"
# The binary runs in there.
[ -x $R/usr/bin/install-record ] && chroot $R /usr/bin/install-record --version >/dev/null || fail "it does not run"
no_trace_in() {
	[ ! -e $R/usr/local/percona ] && [ ! -e $R/var/lib/install-record ] || fail "$1: it left something"
	no_trace
}
run $install product early lua
no_trace_in installroot
# With devices, the scriptlet gets as far as the program.
run rpm --root $R --dbpath /var/lib/rpm -e product early lua
mkdir -p $R/dev
for device in null zero urandom; do touch $R/dev/$device; mount --bind /dev/$device $R/dev/$device; done
run $install product early lua
no_trace_in "installroot with devices"
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
	need bwrap rpm2cpio
	[ -e "$work/built" ] || skip "the packages were not built"
	local root=$case_dir/tree line out
	mkdir -p "$root"/{etc,usr/bin,usr/local,var/lib}
	rpm2cpio "$work"/repo/install-record-[0-9]*.rpm | (cd "$root" && cpio --quiet -idm)
	cp "$(command -v busybox)" "$root/usr/bin/sh"
	line=$(rpm -qp --scripts "$work"/repo/product-4.4.26*.rpm | grep '/usr/bin/install-record')
	out=$(unshare --net --mount env -i PATH=/usr/sbin:/usr/bin LANG=C bash -c 'exec 5<<<"$1" 4</dev/null
		exec bwrap --dev /dev --proc /proc --dir /run --dir /tmp --chdir / --die-with-parent \
			--unshare-pid --unshare-uts --unshare-ipc --unshare-cgroup-try --unshare-net --cap-drop ALL \
			--cap-add cap_chown --cap-add cap_dac_override --cap-add cap_setgid --cap-add cap_setuid --symlink usr/bin /bin \
			--bind "$2/usr" /usr --bind "$2/etc" /etc --bind "$2/var" /var --tmpfs /run --file 4 /run/ostree-booted \
			/bin/sh /proc/self/fd/5 1' - "$line" "$root" 2>&1) || fail "it failed: $out"
	expect output '' "$out"
	expect 'what it left' '' "$(cd "$root" && find usr/local var/lib -mindepth 1)"
}

# ---- packages ----

packaged() {
	need rpm rpm2cpio cpio
	local package packages scripts
	packages=$(cat "$work/packages")
	for package in "$packages"/*.rpm; do
		if rpm -qp --requires "$package" | grep -vE '^(rpmlib|config)\('; then
			fail "$package requires more than rpm"
		fi
		scripts=$(rpm -qp --scripts "$package")
		[[ -z $scripts || $package == */no-install-record-* ]] || fail "$package has scriptlets: $scripts"
	done
	expect 'architectures' 'aarch64 noarch x86_64' \
		"$(rpm -qp --queryformat '%{arch}\n' "$packages"/*.rpm | sort -u | tr '\n' ' ' | sed 's/ $//')"
	expect 'the program' "$shipped" \
		"$(rpm2cpio "$packages"/install-record-[0-9]*.x86_64.rpm | cpio --quiet -i --to-stdout ./usr/bin/install-record | sha256sum)"
	[[ $(rpm -qp --changelog "$packages"/install-record-[0-9]*.x86_64.rpm) == *'.invalid>'* ]] || fail 'a maintainer of a real domain'
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
	mkdir -p "$case_dir/tree/etc" "$case_dir/tree/proc/1"
	cp "$here/os-release" "$case_dir/tree/etc/"
	echo systemd >"$case_dir/tree/proc/1/comm"
	expect version "$("$BINARY" --version)" "$(qemu-aarch64-static "$binary" --version)"
	shown=$(qemu-aarch64-static "$binary" show --root "$case_dir/tree" -f PRODUCT_FAMILY_PSMDB -v 4.4.26-25 2>/dev/null)
	[[ $shown == *'"Oracle Linux Server 8.8"'*'{"key":"hardware_arch","value":"aarch64 aarch64"}'* ]] || fail "$shown"
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

# What is wrong is told when the spec is built; and what a value holds cannot leave its quotes.
macros() {
	need rpmspec
	local line said
	expand() {
		HOME=$work rpmspec --load "$tree/rpm/macros.install-record" --define "__install_record_profiles $tree/profiles" \
			--define "_sourcedir $case_dir" --define 'dist .el8' -P "$case_dir/spec" 2>&1
	}
	spec() {
		local release=${3:-'3%{?dist}.1'}
		printf '%s\n' 'Name: p' "Version: ${2:-1.2}" "Release: $release" 'Summary: s' 'License: l' '%description' '%post' 'set -e' "$1" \
			'echo the end' '%files' >"$case_dir/spec"
	}
	spec '%install_record_post'
	said=$(expand) && fail "accepted without a family: $said"
	[[ $said == *'The profile percona requires -f FAMILY'* ]] || fail "$said"
	spec '%install_record_post -p nosuch'
	said=$(expand) && fail "accepted an unknown profile: $said"
	[[ $said == *"no profile 'nosuch'"* ]] || fail "$said"
	spec '%install_record_posttrans -f F'
	said=$(expand)
	[[ $said == *'the profile percona does not know the product family F'* ]] || fail "no warning: $said"
	# The rule of docs/rpm.md: version, release, what is sent.
	while read -r version release sent; do
		spec '%install_record_post -f PRODUCT_FAMILY_PS' "$version" "$release"
		line=$(expand)
		[[ $line != *warning:* && $line == *" send -f 'PRODUCT_FAMILY_PS' -v '$sent' </dev/null"* ]] || fail "$version $release: $line"
	done <<-'END'
		8.0.36 28.1.el9 8.0.36-28
		4.4.26 25.el8 4.4.26-25
		1.2 3%{?dist} 1.2-3
		1.2~rc1 1.fc40 1.2~rc1-1
		1.2 x 1.2
	END
	echo '{}' >"$case_dir/mine.json"
	spec '%install_record_posttrans -p mine'
	[[ $(expand) == *" send --profile 'mine' -v '1.2-3' </dev/null"* ]] || fail "a profile: $(expand)"
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
	mkdir -p "$case_dir/share/receiver"
	cp -r "$work/repo" "$here/os-release" "$case_dir/share/"
	cat >"$case_dir/share/probe" <<-END
		#!/bin/bash
		exec >/share/log 2>&1 </dev/null
		$PRELUDE
		set -x
		cp /share/receiver/ca.pem /etc/ca.pem
		run dnf -y install install-record
		mkdir -p /etc/systemd/system/install-record.service.d
		printf '%s\n' '[Service]' Environment=SSL_CERT_FILE=/etc/ca.pem Environment=PERCONA_CONNECT_TIMEOUT=10 \
			Environment=PERCONA_SEND_TIMEOUT=20 ExecStart= \
			"\$(sed -n '/^ExecStart=/s/\$/ --verbose/p' /usr/lib/systemd/system/install-record.service)" \
			StandardError=append:/share/said >/etc/systemd/system/install-record.service.d/test.conf
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
		! grep 'courier: sandbox: no ' /share/said | grep -v 'sandbox: no landlock' ||
			fail 'the sandbox takes away what the courier needs for its own'
		ls /var/lib/install-record/pending | grep -q . && fail 'still pending'
		grep -qx PRODUCT_FAMILY_PSMDB:1 /usr/local/percona/telemetry_uuid || fail 'the family is not marked'
		stat -c '%a %U' /usr/local/percona/telemetry_uuid | grep -qx '644 root' || fail 'another mode'
		echo good >/share/result
	END
	chmod +x "$case_dir/share/probe"
	ROOT=$root CASE=$case_dir MANAGER=nspawn GROUP=install-record-test.$$ BOOT=$tree/tests/system/docker/boot \
		unshare --mount --pid --uts --ipc --net --fork --kill-child bash -euc '
		mount --make-rprivate /
		mount -t proc proc /proc
		hostname testhost
		ip link set lo up
		"$RECEIVER" --dir "$CASE/share/receiver" --port 8443 --san check.percona.com &
		for _ in $(seq 200); do
			[ -e "$CASE/share/receiver/port" ] && break
			sleep 0.05
		done
		bash "$BOOT"' || :
	find /sys/fs/cgroup -depth -type d -path "*/install-record-test.$$*" -exec rmdir {} \; 2>/dev/null || :
	[ -e "$case_dir/share/log" ] || skip "systemd cannot be booted here"
	cat "$case_dir/share/log"
	expect result good "$(cat "$case_dir/share/result" 2>/dev/null)"
	expect requests 1 "$(requests)"
	grep -q "$(field id "$(body 1)")" "$case_dir/share/pending" || fail "another id"
}

# ---- the list ----

limit=${LIMIT:-180}
run_case "packages are built: x86_64, aarch64, noarch; products; a repository" 900 build_packages
for suite in bullseye bookworm trixie zypper; do
	run_case "$suite: its root" 900 make_root "$suite"
done
run_case "the packages require nothing, and hold the program that make builds" 60 packaged
run_case "rpmlint" 120 lint
run_case "the licence covers every crate" 60 licence
run_case "macros: profile, family, version, quoting, descriptors, status, three shells" 60 macros
run_case "the aarch64 package's binary runs (qemu); tests/shipped has it report" 120 aarch64
for suite in bullseye bookworm trixie; do
	run_case "$suite: yum install: one record, the documentation's example" "$limit" one_record "$suite" 'yum -y install' product
	run_case "$suite: dnf install, from %post: the same" "$limit" one_record "$suite" 'dnf -y install' early
	run_case "$suite: upgrade, reinstall, downgrade, erase and install: no second record" "$limit" once "$suite" product
	run_case "$suite: a vendor that has only docs/rpm.md; it stays when install-record goes" "$limit" adopted "$suite"
	run_case "$suite: Percona's packages with the shim, every form" "$limit" percona "$suite"
	run_case "$suite: said no: export X=1; sudo yum install, and a switch" "$limit" refused "$suite"
	run_case "$suite: a scriptlet in Lua" "$limit" other_scriptlets "$suite" lua
	run_case "$suite: in a container, scriptlets are an image build" "$limit" image_build "$suite"
	run_case "$suite: --installroot and rpm --root are an image build" "$limit" installroot "$suite"
done
run_case "the same of a product that reports from %post" "$limit" once bookworm early
run_case "a scriptlet in another shell" "$limit" other_scriptlets bookworm shell
run_case "zypper install, twice: one record" "$limit" by_zypper
run_case "zypper in a container: an image build" "$limit" by_zypper_in_image
run_case "an OSTree compose is an image build" "$limit" ostree
run_case "rpm -i product.rpm | cat returns at once" "$limit" pipe bookworm
run_case "a scriptlet without network: pending, then flushed under the same id" "$limit" nonet
run_case "the service: verified, exposure at most 3.0" 60 unit_verified
run_case "the service delivers in a booted system" "$limit" unit_started
finish
