#!/bin/bash
# Debian packages on real systems: what a vendor builds with the add-on, what apt does with it, Percona's packages with the
# shim in them, and what debconf, dpkg and no-install-record leave behind. What runs inside is in debian/cases.sh and packages.sh.
#   DEBS=DIRECTORY               packages of install-record that are there already (make deb); by default they are built
#   SUITES='bookworm ...'        the systems to test on
. "$(dirname "$0")/lib.sh"
: "${SUITES:=bookworm bullseye trixie}"

repo=$work/share/repo
mkdir "$repo"
cp -r "$system/packages.sh" "$system/debian/"* "$tree/debian/dh" "$tree/debian/tests" "$tree/profiles" "$work/share/"
versions | cut -d' ' -f 2,3 >"$work/share/versions"

debian() {
	in_system "$1" "CALL_HOME_FORMS='$CALL_HOME_FORMS'; . /share/packages.sh; . /share/cases.sh; $2"
}
building() { debian bookworm+build-essential+debhelper+apt-utils+openssl+python3 "$1"; }
on() { debian "$1+sudo+nftables+apt-utils" "$2"; }

build_install_record() {
	local home=${CARGO_HOME:-$HOME/.cargo} part package
	if [ -n "${DEBS:-}" ]; then
		cp "$DEBS"/*install-record_*.deb "$repo/"
	else
		need dpkg-buildpackage dh cargo
		# From a copy in another directory, with another CARGO_HOME, nothing compiled before, and flags of the caller.
		mkdir "$case_dir/cargo"
		for part in registry git; do [ ! -e "$home/$part" ] || ln -s "$home/$part" "$case_dir/cargo/"; done
		(cd "$tree" && RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=$case_dir/cargo CARGO_TARGET_DIR=$case_dir/target \
			CARGO_NET_OFFLINE=true CFLAGS='-g -O0 -fstack-protector-strong' debian/build "$case_dir/debs" amd64)
		cp "$case_dir/debs"/*.deb "$repo/"
	fi
	package=$(echo "$repo"/install-record_*_amd64.deb)
	expect 'the program' "$shipped" "$(dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/bin/install-record | sha256sum)"
	! grep -qaF -e "$case_dir" -e "$tree" -e "$home" "$BINARY" || fail 'it names directories of the machine that built it'
	contains "$(dpkg-deb -f "$package" Maintainer)" '.invalid>'
}

# source_package NAME VERSION [LINE...]: a vendor's product. The add-on comes from Build-Depends alone; the lines are
# debian/NAME.install-record, and with none it is a product without the hook.
source_package() {
	local name=$1 into=$share/sources/$1-$2/debian
	mkdir -p "$into"
	printf '%s\n' "Source: $name" 'Maintainer: A <a@b.example>' 'Build-Depends: debhelper-compat (= 13), dh-sequence-install-record' '' \
		"Package: $name" 'Architecture: all' 'Depends: ${misc:Depends}' 'Recommends: ${misc:Recommends}' 'Description: a product' \
		>"$into/control"
	printf '%s (%s) unstable; urgency=low\n\n  * x\n\n -- A <a@b.example>  Sun, 01 Nov 2026 12:00:00 +0000\n' "$1" "$2" >"$into/changelog"
	printf '#!/usr/bin/make -f\n%%:\n\tdh $@\n' >"$into/rules"
	chmod +x "$into/rules"
	shift 2
	[ $# = 0 ] || printf '%s\n' "$@" >"$into/$name.install-record"
}

build_products() {
	for form in 1.0 2.0; do source_package product "$form" "--product-family PRODUCT_FAMILY_PS" "--url $url"; done
	source_package product-b 3:8.0.36~rc1 '# a comment' "-f PRODUCT_FAMILY_PXC -u $url" '--os "$(id) it'\''s #PROGRAM# \\`id\\`"'
	source_package product-embed 1 "-f PRODUCT_FAMILY_PXB -u $url" --embed
	# What docs/debian.md shows, and what every Debian source package has besides.
	source_package mine 2:1.4.2-3+deb12u1
	for file in debian/control debian/mine.install-record debian/mine.install debian/mine.postrm mine.json; do
		block "$file" debian.md >"$share/sources/mine-2:1.4.2-3+deb12u1/$file"
	done
	for form in $CALL_HOME_FORMS; do
		(echo '#!/bin/bash' && call_home "$form" "PRODUCT_FAMILY_$form" 8.4.10-10-1) |
			package_deb "$repo/percona-${form}_1_all.deb" "$case_dir/$form" "percona-$form"
	done
	touch "$repo/Packages"
	building products
	cp "$share/repo"/* "$repo/"
	# It comes from the add-on, and not for the one that carries the program.
	expect Recommends 'install-record | no-install-record' "$(dpkg-deb -f "$repo/product_1.0_all.deb" Recommends)"
	expect 'Recommends of product-embed' '' "$(dpkg-deb -f "$repo/product-embed_1_all.deb" Recommends)"
}

run_case 'debian/build makes the packages, with the program that make builds' 1800 build_install_record
run_case "products are built: with the add-on from Build-Depends, by docs/debian.md alone, Percona's" 300 build_products
[ "$failed$skipped" = 00 ] || finish

run_case 'dh_installrecord: options, versions, refusals, quoting, not installed' 60 building add_on
run_case 'debian/tests' 120 building autopkgtests

for suite in $SUITES; do
	while IFS='|' read -r what commands <&3; do
		run_case "$suite: $what" 120 on "$suite" "$commands"
	done 3<<-'END'
		one record, and no second one|once
		a product that carries the program|embedded
		a vendor that has only docs/debian.md; it stays when install-record goes|adopted
		where there is no program for it, and a switch from before|without_the_program
		Percona's packages with the shim, every form|shim
		said no: export X=1; sudo apt-get, and preseeded|preseeded
		debconf, remove and purge|debconf
		a "no" that no-install-record meets|a_persons_no
		asked before the first product|asked_first
	END
done
finish
