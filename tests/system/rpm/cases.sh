# shellcheck shell=bash disable=SC1091,SC2016,SC2034,SC2046,SC2086,SC2154,SC2164
# The cases of tests/system/rpm.sh that run on a system inside of in_system, after packages.sh: as on Enterprise Linux 8.

cp --remove-destination /share/os-release /etc/os-release
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /etc/rpm /etc/yum.repos.d /etc/dnf/vars
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
echo 8 >/etc/dnf/vars/releasever
printf '%s\n' '[repo]' name=repo baseurl=file:///share/repo gpgcheck=0 >/etc/yum.repos.d/repo.repo
ln -sf dnf /usr/bin/yum
# Debian has patched its rpm to refuse, but for this option; not since trixie.
is_patched=$(command rpm --force-debian --version 2>/dev/null) || :
rpm() { command rpm ${is_patched:+--force-debian} "$@"; }
# Trixie also takes the network away from every scriptlet; the_service shows what becomes of that.
rm -f /usr/lib/rpm/macros.d/macros.transaction_unshare
rpm -i --justdb /share/repo/distribution-*.rpm
export PERCONA_CONNECT_TIMEOUT=10 PERCONA_SEND_TIMEOUT=20

install() { run dnf -y install "$@"; }
reinstall() { run dnf -y reinstall "$@"; }
remove() { run dnf -y remove "$@"; }
purge() { remove "$@"; }
replace() { run dnf -y --allowerasing install "$2"; }
switch_meanwhile() { expect 'the switch from before' mine "$(cat $off)"; }
exclude() { run dnf -y --exclude=install-record "$@"; }
install_files() { run rpm -U --replacepkgs /share/repo/$1.rpm; }
installed() { run rpm -q "$@"; }
adopted_no_more() {
	absent $off
	remove mine
	absent /var/lib/mine/instance-id
}

# once COMMAND PACKAGE: COMMAND installs the example of Percona's documentation. Nothing that follows sends a second record.
once() {
	# With %post, the product may come before what it recommends.
	[ "$2" = product ] || install install-record
	run $1 $2-4.4.26
	expect 'the OS' 'Oracle Linux Server 8.8' "$(os)"
	one_record PRODUCT_FAMILY_PSMDB 4.4.26-25
	installed $2 install-record
	reinstall $2
	run dnf -y upgrade $2
	installed $2-4.4.27-26.el8
	run dnf -y downgrade $2
	installed $2-4.4.26-25.el8
	remove $2
	install $2
	installed $2-4.4.27-26.el8
	expect 'pending, requests, receipts' '0 1 1' "$(pending) $(requests) $(find $state/sent -type f | wc -l)"
	# Another family: one more.
	install other
	run rpm -e other
	run rpm -i /share/repo/other-*.rpm
	expect requests 2 "$(requests)"
	contains "$(body 2)" '"PRODUCT_FAMILY_PS"' '"8.0.36-28"' "\"instanceId\":\"$(field instanceId "$(body 1)")\""
}

other_scriptlets() {
	install install-record
	install lua shell
	sent 2 PACKAGE
}

# The switch of `off` is the administrator's, whatever is installed and removed after it.
own_switch() {
	install_files 'install-record-[0-9]*'
	install-record off --quiet
	purge install-record
	install_files 'no-install-record-*'
	purge no-install-record
	present $off
}

# zypper runs %posttrans itself, after rpm has ended.
zypper() { run command zypper --non-interactive "$@"; }
by_zypper() {
	zypper addrepo --no-gpgcheck dir:/share/repo repo
	zypper install product
	zypper install early
	installed product early install-record
}

# What a container runtime does to every container, as far as the hook looks at it; with PROCESS_1=/bin/bash.
become_container() {
	touch /.dockerenv
	mount --bind /proc/sys /proc/sys
	mount -o remount,ro,bind /proc/sys
}

# Scriptlets, whatever runs them, are recognized in an application container: an image is being built there.
image_build() {
	become_container
	mkdir -p '/opt/t m p'
	install install-record
	for package in product early lua shell; do
		install $package
		no_trace
		run rpm -e $package
		run rpm --define '_tmppath /opt/t m p' -i /share/repo/$package-4.4.26*.rpm
		no_trace
		run rpm -e $package
	done
	# A program of its own that links librpm: only the file tells.
	ln -s /usr/bin/python3 /usr/bin/provisioner
	run provisioner /usr/bin/dnf -y install product
	no_trace
	# The control: what is no scriptlet is the container itself.
	run install-record -f PRODUCT_FAMILY_PSMDB -v 4.4.26-25
	sent 1 DOCKER
}

# The product in a tree that is Oracle Linux 8.8 with busybox, by --installroot and --root.
installroot() {
	local R=/srv/tree install
	mkdir -p $R
	install="dnf -q -y --installroot=$R --releasever=8 --setopt=reposdir=/nonexistent --setopt=cachedir=$R/var/cache/dnf
		--nogpgcheck --disablerepo=* --disableplugin=* --repofrompath=t,file:///share/repo install"
	run $install distribution install-record
	contains "$(cat $R/etc/os-release)" 'Oracle Linux Server 8.8'
	# A usable /dev/null: without one, redirections fail in there and the scriptlets with them.
	: >$R/dev/null
	mount --bind /dev/null $R/dev/null
	run chroot $R /usr/bin/install-record --version
	# nothing_by COMMAND...: it left nothing. Then the products go again.
	nothing_by() {
		run "$@"
		no_trace
		absent $R{${identity%/*},$state}
		run rpm --root $R --dbpath /var/lib/rpm -e $(rpm --root $R --dbpath /var/lib/rpm -qa product early lua)
	}
	mkdir -p $R/proc
	# Then the same with the /proc of the installing system, as image tools mount it.
	for command in : 'mount --bind /proc /srv/tree/proc'; do
		$command
		nothing_by $install product early lua
		nothing_by rpm --root $R --dbpath /var/lib/rpm -i --nodeps /share/repo/product-4.4.26*.rpm
	done
}

# On a booted system: a record that waits leaves with the service, in its sandbox; and one that may not leave stays.
the_service() {
	local unit=install-record.service id
	cp $SSL_CERT_FILE /etc/ca.pem
	install install-record
	run systemd-analyze verify --man=no $unit
	expect 'systemd-analyze verify' '' "$(cat /share/said)"
	run systemd-analyze security --offline=yes --threshold=30 --no-pager $unit
	mkdir -p /etc/systemd/system/$unit.d
	printf '%s\n' '[Service]' Environment=SSL_CERT_FILE=/etc/ca.pem Environment=PERCONA_CONNECT_TIMEOUT=10 \
		Environment=PERCONA_SEND_TIMEOUT=20 ExecStart= "$(sed -n '/^ExecStart=/s/$/ --verbose/p' /usr/lib/systemd/system/$unit)" \
		StandardError=append:/share/verbose >/etc/systemd/system/$unit.d/test.conf
	systemctl daemon-reload
	# Nothing is pending: nothing runs.
	run systemctl start $unit
	expect ConditionResult no "$(systemctl show -p ConditionResult --value $unit)"
	no_trace
	run unshare --net dnf -y install product
	id=$(field id "$(cat $state/pending/*)")
	# A "no" in root's .profile is seen from there.
	echo DO_NOT_TRACK=1 >>/root/.profile
	run systemctl start $unit
	sed -i /DO_NOT_TRACK/d /root/.profile
	expect pending 1 "$(pending)"
	run systemctl enable --now $unit
	expect Result success "$(systemctl show -p Result --value $unit)"
	# Landlock is what nspawn itself refuses.
	grep -q 'courier: sandbox: ' /share/verbose || fail 'not a word about the sandbox'
	! grep 'courier: sandbox: ' /share/verbose | grep -vE ': credentials, limits, landlock.*, seccomp$' ||
		fail 'the sandbox takes away what the courier needs for its own'
	expect 'pending, requests, and the mark in the identity file' '0 1 1 644 root' \
		"$(pending) $(requests) $(grep -c PRODUCT_FAMILY_PSMDB:1 $identity) $(stat -c '%a %U' $identity)"
	contains "$(body 1)" "\"id\":\"${id:?}\""
}
