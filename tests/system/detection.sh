#!/bin/bash
# Where a run happens: image builds of every kind send nothing and leave no ID, and each has a neighbour that must send. What
# engines of containers and nspawn do is in docker.sh, what dnf and rpm do with a tree in rpm.sh.
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

# installs SCRIPT: it ends with what must send.
installs() {
	in_system bookworm+sudo "$PRELUDE$1"
	sent 1 PACKAGE
}
while IFS='|' read -r what script <&3; do
	run_case "$what: PACKAGE" 60 installs "$script"
done 3<<'END'
a chroot with /proc: nothing; the host itself|mount --rbind /proc $R/proc; chroot $R $install; nothing "a maintainer script in a chroot"; $install
a tree without /proc: nothing, by hand neither; with /proc, by hand|chroot $R $install; nothing "there is no /proc"; chroot $R $send; no_trace; absent $R$state; mount --rbind /proc $R/proc; chroot $R $send
unshare --pid without an init: nothing; by hand|by="unshare -pf --mount-proc=$R/proc chroot $R"; $by $install; nothing "process 1 is no init"; $by sh -c "$send; exit \$?"
a mount namespace on the same root|unshare -m $install
SYSTEMD_OFFLINE=true: nothing; SYSTEMD_OFFLINE=no|SYSTEMD_OFFLINE=true $install; mv /said $R/; nothing SYSTEMD_OFFLINE; SYSTEMD_OFFLINE=no $install
dpkg --root, scripts outside of it: nothing; the host itself|cp /install-record /usr/bin/; dpkg --root=$R --force-all -i /product.deb; mv /said $R/; nothing DPKG_ROOT; DPKG_ROOT= $install
END
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

# Who may not look at /proc/1/root, as in a rootless namespace, compares mounts: of a tree that is one, and of one that is none.
for mount in 'mount --bind $R $R' :; do
	run_case "a chroot ($mount) that may not look at process 1: nothing; by hand: PACKAGE" 60 installs "$mount"'
		mount --rbind /proc $R/proc
		blind="setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace chroot $R"
		! $blind test -e /proc/1/root/. || fail "process 1 can be looked at"
		$blind $install
		nothing "a maintainer script in a chroot"
		$blind $send'
done
finish
