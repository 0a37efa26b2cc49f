#!/bin/bash
# Where a run happens, on real systems: image builds of every kind send nothing and leave no ID, and each has a
# neighbour that must send. What engines of containers and nspawn do is in docker.sh, what dnf and rpm do with a tree in rpm.sh.
# Started by tests/run; see lib.sh for what it expects.
# The scripts are expanded inside the system; run_case calls the functions; case_dir is lib.sh's.
# shellcheck disable=SC1091,SC2016,SC2154,SC2317
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d) || exit 1
trap '[ "$BASHPID" != $$ ] || rm -rf "${work:?}"' EXIT
url=https://check.percona.com:8443/v1/telemetry/GenericReport

make_product() {
	need_namespaces
	root_of bookworm sudo >/dev/null
	product_deb "$work/product" "$work/product.deb" <<-END
		#!/bin/sh
		/usr/bin/install-record --verbose -f PRODUCT_FAMILY_PS -v 8.0.36-28 -c 10 -t 20 -u $url >/said 2>&1
		exit 0
	END
}
run_case "Debian bookworm, and a product" 300 make_product

# What every script starts with: a copy of the system in /srv/tree, `$install` for dpkg and `$send` by hand.
PRELUDE='set -e
export SSL_CERT_FILE=/ca.pem
install="dpkg --force-all -i /product.deb"
send="/install-record -f PRODUCT_FAMILY_PBM -v 1 -c 10 -t 20 -u '$url'"
cp /share/receiver/ca.pem /share/product.deb /share/install-record /
R=/srv/tree
mkdir -p $R/dev $R/proc $R/tmp $R/sys
cp -a /bin /sbin /lib* /usr /etc /var /ca.pem /product.deb /install-record $R
cp -a /dev/null $R/dev/null 2>/dev/null || { : >$R/dev/null && mount --bind /dev/null $R/dev/null; }
# nothing WHAT: the last installation is there, said so, and neither sent nor left anything.
nothing() {
	grep -q "^nothing is sent: $1\|nothing is sent: .*$1" $R/said || { echo "another reason:"; cat $R/said; exit 1; }
	[ ! -s /share/receiver/connections ] || { echo "it connected"; exit 1; }
	for path in $R/usr/local/percona $R/var/lib/install-record /usr/local/percona /var/lib/install-record; do
		[ ! -e $path ] || { echo "it left $path"; exit 1; }
	done
}
'

# case_of DEPLOYMENT SCRIPT: the script ends with what must send, one record.
case_of() {
	need_namespaces
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/share"
	cp "$work/product.deb" "$case_dir/share/"
	cp "$BINARY" "$case_dir/share/install-record"
	in_system "$root" "$PRELUDE$2"
	expect records 1 "$(requests)"
	[[ $(body 1) == *"{\"key\":\"deployment\",\"value\":\"$1\"}"* ]] || fail "not $1: $(body 1)"
}

run_case "a chroot with /proc: nothing; the host itself: PACKAGE" 60 case_of PACKAGE '
	mount --rbind /proc $R/proc
	chroot $R $install
	nothing "a maintainer script in a chroot"
	$install'
run_case "a tree without /proc: nothing, by hand neither; with /proc, by hand: PACKAGE" 60 case_of PACKAGE '
	chroot $R $install
	nothing "there is no /proc"
	chroot $R $send
	nothing "there is no /proc"
	mount --rbind /proc $R/proc
	chroot $R $send'
run_case "a maintainer script that drops its variables: nothing; by hand: PACKAGE" 60 case_of PACKAGE '
	mount --rbind /proc $R/proc
	dpkg-deb -R /product.deb /srv/deb
	sed -i "s,^/usr/bin/install-record,env -i SSL_CERT_FILE=/ca.pem &," /srv/deb/DEBIAN/postinst
	dpkg-deb -b /srv/deb $R/product.deb >/dev/null
	chroot $R $install
	nothing "a maintainer script in a chroot"
	chroot $R $send'
run_case "unshare --pid without an init: nothing; by hand: PACKAGE" 60 case_of PACKAGE '
	unshare -pf --mount-proc=$R/proc chroot $R $install
	nothing "a maintainer script where process 1 is no init"
	unshare -pf --mount-proc=$R/proc chroot $R sh -c "$send; exit \$?"'
run_case "pivot_root, as sbuild does: nothing; the host itself: PACKAGE" 60 case_of PACKAGE '
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
run_case "a mount namespace on the same root: PACKAGE" 60 case_of PACKAGE 'unshare -m $install'
run_case "SYSTEMD_OFFLINE=true: nothing; SYSTEMD_OFFLINE=no: PACKAGE" 60 case_of PACKAGE '
	SYSTEMD_OFFLINE=true $install
	cp /said $R/said
	nothing "SYSTEMD_OFFLINE"
	SYSTEMD_OFFLINE=no $install'
run_case "DPKG_ROOT: nothing; empty: PACKAGE" 60 case_of PACKAGE '
	DPKG_ROOT=$R $send --verbose 2>$R/said
	nothing "DPKG_ROOT"
	DPKG_ROOT= $send'

# By a user who may not look at /proc/1/root. A chroot may not make user namespaces, so this one is made outside.
rootless() {
	need_namespaces
	need setpriv
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/share/receiver"
	cp "$work/product.deb" "$BINARY" "$case_dir/share/"
	ROOT=$root CASE=$case_dir URL=$url unshare --mount --net bash -euc '
		mount --make-rprivate /
		ip link set lo up
		mount -t tmpfs none /mnt
		mkdir /mnt/u /mnt/w /mnt/root
		mount -t overlay none -o "lowerdir=$ROOT,upperdir=/mnt/u,workdir=/mnt/w" /mnt/root
		"$RECEIVER" --dir "$CASE/share/receiver" --port 8443 --san check.percona.com &
		for _ in $(seq 200); do [ -e "$CASE/share/receiver/port" ] && break; sleep 0.05; done
		cp "$CASE/share/product.deb" "$CASE/share/receiver/ca.pem" "$CASE/share/install-record" /mnt/root/
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
			chroot . /install-record -f PRODUCT_FAMILY_PBM -v 1 -c 10 -t 20 -u $URL"
		kill %1 2>/dev/null || kill $!'
	expect records 1 "$(requests)"
	[[ $(body 1) == *PRODUCT_FAMILY_PBM*'{"key":"deployment","value":"PACKAGE"}'* ]] || fail "not by hand: $(body 1)"
}
run_case "rootless user namespace with the host's /proc: nothing; by hand: PACKAGE" 60 rootless

finish
