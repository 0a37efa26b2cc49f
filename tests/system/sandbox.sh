#!/bin/bash
# The courier's sandbox on other kernels: one without Landlock, and later ones that have some of it. Each boots in an emulated
# machine with the program, its receiver, the prisoner and busybox. And a courier that no signal ends.
. "$(dirname "$0")/lib.sh"
PRISONER=${RECEIVER%/*}/prisoner

# kernel_of SUITE: prints the path of that Debian's kernel for virtual machines, fetched once and kept in CACHE.
kernel_of() {
	local suite=$1 kernel=$CACHE/vmlinuz-$1 file
	need curl xz dpkg-deb
	mkdir -p "$CACHE"
	(
		flock 9
		[ ! -e "$kernel" ] || exit 0
		cd "$case_dir"
		curl -sSf --retry 3 "$(mirror)/dists/$suite/main/binary-amd64/Packages.xz" | xz -d >Packages
		# The last of them; not the one with debugging symbols.
		file=$(sed -n 's|^Filename: \(.*/linux-image-[0-9.+deb-]*-cloud-amd64_[^/]*\.deb\)$|\1|p' Packages | sort -V | tail -n 1)
		curl -sSf --retry 3 -o kernel.deb "$(mirror)/${file:?}"
		dpkg-deb --fsys-tarfile kernel.deb | tar -x --wildcards './boot/vmlinuz-*'
		mv boot/vmlinuz-* "$kernel"
	) 9>"$kernel.lock" >&2 || skip "no kernel of $suite can be had"
	echo "$kernel"
}

# on_kernel SUITE LANDLOCK LEFT: the record arrives; --verbose says that all layers hold, and of LANDLOCK what is given; what
# is LEFT to a prisoner.
on_kernel() {
	local suite=$1 landlock=$2 left=$3 kernel tree=$case_dir/tree
	need qemu-system-x86_64 cpio busybox
	[ "$(uname -m)" = x86_64 ] || skip "the kernels are for x86_64"
	kernel=$(kernel_of "$suite")
	mkdir -p "$tree"/{bin,etc,proc,dev,tmp,share,other,d}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	ln -s busybox "$tree/bin/sh"
	cp "$BINARY" "$RECEIVER" "$PRISONER" "$tree/bin/"
	echo "127.0.0.1 localhost" >"$tree/etc/hosts"
	echo "root:x:0:0::/:/bin/sh" | tee "$tree/etc/passwd" >"$tree/etc/shadow"
	echo x | tee "$tree"/d/{a,b} >/dev/null
	chmod 0600 "$tree/etc/shadow"
	chmod -R a+rwX "$tree/d"
	cat >"$tree/init" <<-'END'
		#!/bin/sh
		export PATH=/bin
		busybox mount -t proc proc /proc
		busybox mount -t devtmpfs dev /dev
		exec >/dev/ttyS0 2>&1 </dev/null
		busybox ip link set lo up
		receiver --dir /share --port 8443 &
		receiver --dir /other --port 8444 &
		while [ ! -e /share/port ] || [ ! -e /other/port ]; do busybox sleep 0.1; done
		echo "LINUX $(busybox uname -r)"
		SSL_CERT_FILE=/share/ca.pem install-record send -f PRODUCT_FAMILY_PS -v 1 -c 30 -t 60 --verbose -u https://localhost:8443/
		echo "STATUS $?"
		busybox grep -q '"deployment","value":"PACKAGE"' /share/body-1 && echo PACKAGE
		echo "RECORDS $(busybox ls /share | busybox grep -c body-)"
		prisoner all /d 8443 8444
		echo END
		busybox sleep 1
		busybox reboot -f
	END
	chmod +x "$tree/init"
	touch "$tree/.dockerenv"
	(cd "$tree" && find . -print0 | cpio --quiet --null --create --format=newc) >"$case_dir/initrd"
	# An emulated processor: KVM within a virtual machine may hang.
	timeout 110 qemu-system-x86_64 -accel tcg -m 512 -display none -nic none -no-reboot -serial "file:$case_dir/serial" \
		-kernel "$kernel" -initrd "$case_dir/initrd" -append "console=ttyS0 quiet panic=-1" >"$case_dir/qemu" 2>&1 || :
	tr -d '\r' <"$case_dir/serial" >"$case_dir/said" 2>/dev/null || skip "no virtual machine: $(tail -n 1 "$case_dir/qemu")"
	grep -q '^END$' "$case_dir/said" || skip "the virtual machine did not come to an end: $(tail -n 1 "$case_dir/said")"
	cat "$case_dir/said"
	# With a stray mark, and a process 1 that is no known init, it is no container.
	expect 'status, record' 'STATUS 0 PACKAGE RECORDS 1' "$(grep '^STATUS\|^PACKAGE\|^RECORDS' "$case_dir/said" | paste -sd' ')"
	expect layers "sandbox: credentials, limits, $landlock, seccomp" "$(grep -o 'sandbox: .*' "$case_dir/said")"
	expect 'what is left' "$left" "$(grep ' allowed$' "$case_dir/said" | paste -sd';')"
}
# Without Landlock's rules for TCP, any port may be connected to.
any_port='connect allowed;connect to another port allowed'
run_case "Debian 11's Linux 5.10, without Landlock" 120 on_kernel bullseye \
	'landlock not in full (Function not implemented (os error 38))' "$any_port"
run_case "Debian 12's Linux 6.1, whose Landlock knows no TCP" 120 on_kernel bookworm \
	'landlock not in full (TCP needs ABI 4; files are denied)' "$any_port"
run_case "Debian 13's Linux 6.12" 120 on_kernel trixie landlock 'connect allowed'

# A file system whose server does not answer: what waits for it takes no signal, but it can be killed.
dead_file_server() {
	need unshare
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	mkdir -p "$case_dir/root"/{proc/1,usr/local/percona}
	echo systemd >"$case_dir/root/proc/1/comm"
	in_namespaces '
		mount -t proc proc /proc
		exec 9<>/dev/fuse
		mount -i -t fuse -o "fd=9,rootmode=40000,user_id=0,group_id=0" dead "$case_dir/root/usr/local/percona" 2>"$case_dir/why" || exit 77
		before=$SECONDS
		run "$BINARY" send -f PRODUCT_FAMILY_PS -v 1 -t 1 --root "$case_dir/root" -u https://localhost:1/
		[[ $((SECONDS - before)) = [123] ]] || fail "it took $((SECONDS - before)) s"
	' || {
		[ $? != 77 ] || skip "no file system of one's own: $(cat "$case_dir/why")"
		fail 'see above'
	}
}
run_case "a dead file server under the identity file: in time all the same" 60 dead_file_server

finish
