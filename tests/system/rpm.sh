#!/bin/bash
# Real dnf and rpm on systems that call themselves Oracle Linux 8.8: a product whose scriptlet is one macro; a vendor that has
# only docs/rpm.md; Percona's packages with the shim in them. dnf runs in bootstrapped Debian roots (bullseye: rpm 4.16,
# bookworm: 4.18, trixie: 4.20), where a shim rpm provides /bin/sh. What runs inside is in rpm/cases.sh and packages.sh.
# shellcheck disable=SC2086 # words
. "$(dirname "$0")/lib.sh"

os_release=$tree/tests/roots/oracle-8/etc/os-release
cp "$system/packages.sh" "$system/rpm/"* "$os_release" "$work/share/"
repo=$work/share/repo packages=$work/dist
mkdir "$repo" "$work/sources"

# build_rpm SPEC: without anybody's own settings.
build_rpm() {
	HOME=$work rpmbuild -bb --quiet --nodeps --define "_topdir $work/top" --define "_sourcedir $work/sources" \
		--define '_build_id_links none' --define 'dist .el8' --load "$tree/rpm/macros.install-record" \
		--define "__install_record_profiles $tree/profiles" "$1"
}

# product NAME VERSION RELEASE LINE...: a vendor's package, as docs/rpm.md says to write one. The lines are its files and its
# scriptlet.
product() {
	printf '%s\n' "Name: $1" "Version: $2" "Release: $3%{?dist}" 'Summary: s' 'License: l' 'BuildArch: noarch' \
		"${needs:-Recommends: (install-record or no-install-record)}" '%description' s '%files' "${@:4}" >"$work/$1.spec"
	build_rpm "$work/$1.spec"
}

build_packages() {
	need rpmbuild createrepo_c busybox cargo aarch64-linux-gnu-gcc
	[ "$(uname -m)" = x86_64 ] || skip 'the test systems are x86_64'
	CFLAGS=-O0 "$tree/rpm/build" "$packages"
	# The smallest tree that scriptlets run in. In the database of a bootstrapped Debian, it stands for what that has as debs.
	needs='Provides: /bin/sh /bin/bash' product distribution 8.8 1 /usr/bin/busybox /usr/bin/sh /bin /etc/os-release /dev \
		'%attr(1777,root,root) /var/tmp' '%define _binaries_in_noarch_packages_terminate_build 0' %install 'cd %{buildroot}' \
		'mkdir -p usr/bin etc dev var/tmp' "cp $(command -v busybox) usr/bin/" 'ln -s busybox usr/bin/sh' 'ln -s usr/bin bin' \
		"cp $os_release etc/"
	local version form family=PRODUCT_FAMILY_PSMDB
	for version in '4.4.26 25' '4.4.27 26'; do
		product product $version %posttrans "%install_record_posttrans -f $family"
		product early $version %post "%install_record_post -f $family"
	done
	# What a vendor could do without our macros: Lua in rpm's own process, and another shell.
	product lua 4.4.26 25 '%post -p <lua>' "os.execute(\"/usr/bin/install-record -f $family -v 4.4.26-25 </dev/null\")"
	product other 8.0.36 28 %posttrans '%install_record_posttrans -f PRODUCT_FAMILY_PS'
	product shell 4.4.26 25 '%post -p /bin/bash' 'install-record -f PRODUCT_FAMILY_PXC -v 4.4.26-25'
	# Percona's, whose %post is bash's: /bin/sh is bash on Enterprise Linux.
	for form in $CALL_HOME_FORMS; do
		product "percona-$form" 4.4.26 25 '%post -p /bin/bash' "$(call_home "$form" "PRODUCT_FAMILY_$form" '%{version}-%{release}')"
	done
	# What docs/rpm.md shows, and nothing else.
	block mine.json rpm.md >"$work/sources/mine.json"
	block mine.spec rpm.md >"$work/mine.spec"
	build_rpm "$work/mine.spec"
	cp "$work"/top/RPMS/*/*.rpm "$packages"/install-record-[0-9]*."$(uname -m)".rpm "$packages"/no-install-record-*.rpm "$repo/"
	createrepo_c --quiet "$repo"
}

# system SUITE COMMANDS: COMMANDS of rpm/cases.sh on that system. in_image, booted: where no init is process 1, and where
# systemd is.
system() { in_system "$(root_for "$1")" "$(script "$2")"; }
in_image() { PROCESS_1=/bin/bash system "$@"; }
booted() { boots "$(root_for "$1")" --boot "$(script "$2")"; }
script() {
	printf '%s\n' "CALL_HOME_FORMS='$CALL_HOME_FORMS'" '. /share/packages.sh' '. /share/cases.sh' "$1"
}
# The one of bookworm is also the one that is booted, here and by docker.sh.
root_for() {
	case $1 in
		zypper) echo bookworm+zypper+rpm ;;
		bookworm) echo bookworm+dnf+rpm+sudo+nftables+systemd-sysv+dbus ;;
		*) echo "$1+dnf+rpm+sudo" ;;
	esac
}

packaged() {
	need rpm rpm2cpio cpio file
	for package in "$packages"/*.rpm; do
		! rpm -qp --requires "$package" | grep -vE '^(rpmlib|config)\(' || fail "$package requires more than rpm"
		scripts=$(rpm -qp --scripts "$package")
		[[ -z $scripts || $package == */no-install-record-* ]] || fail "$package has scriptlets: $scripts"
	done
	expect architectures 'aarch64 noarch x86_64' "$(rpm -qp --queryformat '%{arch}\n' "$packages"/*.rpm | sort -u | paste -sd' ')"
	expect 'the program' "$shipped" \
		"$(rpm2cpio "$packages"/install-record-[0-9]*.x86_64.rpm | cpio --quiet -i --to-stdout ./usr/bin/install-record | sha256sum)"
	contains "$(rpm2cpio "$packages"/install-record-[0-9]*.aarch64.rpm | cpio --quiet -i --to-stdout ./usr/bin/install-record | file -)" \
		'ARM aarch64' static
	contains "$(rpm -qp --changelog "$packages"/install-record-[0-9]*.x86_64.rpm)" '.invalid>'
}

lint() {
	need rpmlint
	said=$(rpmlint --config "$tree/rpm/rpmlint.toml" "$packages"/*.rpm "$tree/rpm/install-record.spec" 2>&1) || fail "$said"
	contains "$said" ' 0 errors, 0 warnings'
}

macros() {
	need rpmspec
	# expanded MACRO [VERSION [RELEASE]]
	expanded() {
		local release=${3:-'3%{?dist}.1'}
		printf '%s\n' 'Name: p' "Version: ${2:-1.2}" "Release: $release" 'Summary: s' 'License: l' '%description' '%post' 'set -e' "$1" \
			'echo the end' '%files' >"$case_dir/spec"
		HOME=$work rpmspec --load "$tree/rpm/macros.install-record" --define "__install_record_profiles $tree/profiles" \
			--define "_sourcedir $case_dir" --define 'dist .el8' -P "$case_dir/spec" 2>&1
	}
	while IFS='|' read -r shell sent; do
		said=$(expanded "%install_record_post $shell") && fail "accepted: $shell: $said"
		contains "$shell: $said" "error: install_record: $sent"
	done <<-'END'
		|which product? The profile percona requires -f FAMILY
		-p nosuch|no profile 'nosuch'
		-f "PRODUCT_FAMILY_PS" -v %{version}-%{release}|the values of -f and -p
		-f $(touch${IFS}x)|the values of -f and -p
		-f PRODUCT_FAMILY_PS -v "%{version}-%{release}"|the value of -v
		-f "A B"|a word too many
	END
	contains "$(expanded '%install_record_posttrans -f F')" 'the profile percona does not know the product family F'
	while read -r version _ sent; do
		said=$(expanded '%install_record_post -f PRODUCT_FAMILY_PS' "${version%%-*}" "${version#*-}")
		contains "$said" " send -f 'PRODUCT_FAMILY_PS' -v '$sent' </dev/null"
		[[ $said != *warning:* ]] || fail "$said"
	done < <(versions | grep . && printf '%s\n' '1.2-3%{?dist} - 1.2-3' '1.2-x - 1.2')
	echo '{}' >"$case_dir/mine.json"
	contains "$(expanded '%install_record_posttrans -p mine')" " send --profile 'mine' -v '1.2-3' </dev/null"
	# Run by every shell that may be a system's /bin/sh, with a hook that fails and notes its arguments.
	expanded '%install_record_posttrans -f PRODUCT_FAMILY_PS -v $(touch${IFS}x)`touch${IFS}y`;false#' | sed -n '/^set -e/,/^echo the end/p' |
		sed "s|/usr/bin/install-record|$case_dir/hook|g" >"$case_dir/scriptlet"
	printf '%s\n' '#!/bin/sh' 'printf "%s\n" "$@" >"$0.arguments"' 'ls -l /proc/self/fd >"$0.descriptors"' 'exit 3' >"$case_dir/hook"
	chmod +x "$case_dir/hook"
	for shell in sh 'bash --posix' 'busybox sh'; do
		rm -f "$case_dir/hook.arguments"
		said=$(cd "$case_dir" && $shell ./scriptlet 1 3</etc/passwd 9</etc/passwd </etc/passwd) || fail "$shell: status $?"
		expect "$shell" 'the end|send|-f|PRODUCT_FAMILY_PS|-v|$(touch${IFS}x)`touch${IFS}y`;false#' "$said|$(paste -sd '|' "$case_dir/hook.arguments")"
		! grep passwd "$case_dir/hook.descriptors" || fail "$shell: a descriptor is left open"
		absent "$case_dir"/{x,y}
	done
}

run_case "macros: profile, family, version, quoting, descriptors, status, three shells" 60 macros
run_case "packages are built: x86_64, aarch64, noarch; products; a repository" 900 build_packages
[ "$failed$skipped" = 00 ] || finish
for suite in bullseye bookworm trixie zypper; do
	run_case "$suite: its root" 900 make_root "$(root_for "$suite")"
done
run_case "the packages require nothing, and hold the program that make builds" 60 packaged
run_case "rpmlint" 120 lint
for suite in bullseye bookworm trixie; do
	while IFS='|' read -r what how commands <&3; do
		run_case "$suite: $what" 180 "$how" "$suite" "$commands"
	done 3<<-'END'
		yum, from %posttrans: one record, the documentation's example|system|once "yum -y install" product
		dnf, from %post: the same|system|once "dnf -y install" early
		a vendor that has only docs/rpm.md; it stays when install-record goes|system|adopted
		where there is no program for it, and a switch from before|system|without_the_program
		Percona's packages with the shim, every form|system|percona 4.4.26-25.el8
		said no: export X=1; sudo yum install|system|refused yum -y
		a "no" that no-install-record meets|system|a_persons_no
		scriptlets in Lua and in another shell|system|other_scriptlets
		in a container, scriptlets are an image build|in_image|image_build
		--installroot and rpm --root are an image build|system|installroot
	END
done
run_case "zypper install, twice: one record" 180 system zypper 'by_zypper; zypper install --force product; sent 1 PACKAGE'
run_case "zypper in a container: an image build" 180 in_image zypper 'become_container; by_zypper; no_trace'
run_case "the service: verified, exposure at most 3.0; it delivers in a booted system" 180 booted bookworm the_service
finish
