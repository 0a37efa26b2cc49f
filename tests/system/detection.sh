#!/bin/bash
# Where a run happens, on real systems: image builds of every kind send nothing and leave no ID, and each has a
# neighbour that must send. What engines of containers and nspawn do is in docker.sh, what dnf and rpm do with a tree in rpm.sh.
. "$(dirname "$0")/lib.sh"

run_case 'Debian bookworm, and a product' 300 make_product \
	"/usr/bin/install-record --verbose -f PRODUCT_FAMILY_PS -v 8.0.36-28 -c 10 -t 20 -u $url >/said 2>&1; exit 0"

# What every script starts with: a copy of the system in /srv/tree, `$install` for dpkg and `$send` by hand.
PRELUDE='
export SSL_CERT_FILE=/ca.pem
install="dpkg --force-all -i /product.deb"
send="/install-record -f PRODUCT_FAMILY_PBM -v 1 -c 10 -t 20 -u $url"
cp /share/receiver/ca.pem /share/product.deb /share/install-record /
R=/srv/tree
mkdir -p $R/dev $R/proc $R/tmp $R/sys
cp -a /bin /sbin /lib* /usr /etc /var /ca.pem /product.deb /install-record $R
: >$R/dev/null
mount --bind /dev/null $R/dev/null
# nothing WHAT: the last installation is there, said so, and neither sent nor left anything.
nothing() {
	grep -q "nothing is sent: .*$1" $R/said || fail "another reason: $(cat $R/said)"
	no_trace
	absent $R{${identity%/*},$state}
}
'

# The name, and a script that ends with what must send: one record, PACKAGE.
installs() {
	in_system bookworm+sudo "$PRELUDE$1"
	expect records 1 "$(requests)"
	is_deployed PACKAGE "$(body 1)"
}
while IFS='|' read -r what script <&3; do
	run_case "$what: PACKAGE" 60 installs "$script"
done 3<<'END'
a chroot with /proc: nothing; the host itself|mount --rbind /proc $R/proc; chroot $R $install; nothing "a maintainer script in a chroot"; $install
a tree without /proc: nothing, by hand neither; with /proc, by hand|chroot $R $install; nothing "there is no /proc"; chroot $R $send; no_trace; absent $R$state; mount --rbind /proc $R/proc; chroot $R $send
unshare --pid without an init: nothing; by hand|by="unshare -pf --mount-proc=$R/proc chroot $R"; $by $install; nothing "process 1 is no init"; $by sh -c "$send; exit \$?"
a mount namespace on the same root|unshare -m $install
SYSTEMD_OFFLINE=true: nothing; SYSTEMD_OFFLINE=no|SYSTEMD_OFFLINE=true $install; mv /said $R/; nothing SYSTEMD_OFFLINE; SYSTEMD_OFFLINE=no $install
DPKG_ROOT: nothing; empty|DPKG_ROOT=$R $send --verbose 2>$R/said; nothing DPKG_ROOT; DPKG_ROOT= $send
END
run_case 'a maintainer script that drops its variables: nothing; by hand: PACKAGE' 60 installs '
	mount --rbind /proc $R/proc
	dpkg-deb -R /product.deb /srv/deb
	sed -i "s,^/usr/bin/install-record,env -i SSL_CERT_FILE=/ca.pem &," /srv/deb/DEBIAN/postinst
	dpkg-deb -Znone -b /srv/deb $R/product.deb >/dev/null
	chroot $R $install
	nothing "a maintainer script in a chroot"
	chroot $R $send'
run_case 'pivot_root, as sbuild does: nothing; the host itself: PACKAGE' 60 installs '
	unshare -m sh -ec "
		mount --make-rprivate /
		mount --bind $R $R
		mount --rbind /proc $R/proc
		mkdir -p $R/old
		cd $R
		pivot_root . old
		exec chroot . $install"
	nothing "a maintainer script in a chroot"
	$install'

# By a user who may not look at /proc/1/root. A chroot may not make user namespaces, so this one is made outside.
rootless() {
	need_namespaces
	need setpriv
	cp -r "$work/share/." "$share/"
	ROOT=$(root_of bookworm+sudo) unshare --mount --net bash -euc ". $system/ask.sh"'
		mount --make-rprivate /
		ip link set lo up
		copy_of "$ROOT" /mnt
		receive "$share/receiver" --port 8443 --san check.percona.com
		cp "$share"/{product.deb,receiver/ca.pem,install-record} /mnt/root/
		echo "127.0.0.1 localhost check.percona.com" >/mnt/root/etc/hosts
		rm -rf /mnt/root/dev
		mkdir /mnt/root/dev
		chown -R 4711:4711 /mnt/root
		export SSL_CERT_FILE=/ca.pem PATH=/usr/sbin:/usr/bin:/sbin:/bin
		setpriv --reuid 4711 --regid 4711 --clear-groups unshare -Um --map-root-user bash -euc "
			cd /mnt/root
			[ ! -e /proc/1/root/. ] || { echo process 1 can be looked at; exit 1; }
			mount --rbind /proc proc
			: >dev/null
			mount --bind /dev/null dev/null
			chroot . dpkg --force-all -i /product.deb
			cat said
			grep -q \"nothing is sent: a maintainer script in a chroot\" said
			[ ! -e usr/local/percona ] && [ ! -e var/lib/install-record ]
			chroot . /install-record -f PRODUCT_FAMILY_PBM -v 1 -c 10 -t 20 -u $url"
		kill %1'
	expect records 1 "$(requests)"
	contains "$(body 1)" PRODUCT_FAMILY_PBM '{"key":"deployment","value":"PACKAGE"}'
}
run_case "rootless user namespace with the host's /proc: nothing; by hand: PACKAGE" 60 rootless

finish
