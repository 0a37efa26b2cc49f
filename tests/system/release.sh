#!/bin/bash
# `make release`, from two clones of this commit in different directories: the same files. What it made is then installed, from
# dist/ alone, on Debian 12 and with dnf. The second time, only what x86_64 needs is built.
. "$(dirname "$0")/lib.sh"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tree/Cargo.toml" | head -n 1)
release=install-record-$version dist=$work/first/dist

clone() {
	need git cargo dpkg-buildpackage dh po2debconf rpmbuild aarch64-linux-gnu-gcc
	git -C "$tree" rev-parse --git-dir >/dev/null 2>&1 || skip 'this is no git checkout'
	git clone -q "$tree" "$work/$1"
}

first() {
	clone first
	make -C "$work/first" release VERSION="$version"
	(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
	for file in "$release"{{,-x86_64,-aarch64}.tar.gz,-{x86_64,aarch64}.cdx.json,-1.{x86_64,aarch64,src}.rpm} \
		install-record_"$version"-1{_{amd64,arm64}.deb,.dsc}; do
		[ -s "$dist/$file" ] || fail "there is no $file: $(ls "$dist")"
	done
}

second() {
	clone 'a second/place'
	(cd "$work/a second/place" && ARCHITECTURES=x86_64 make release VERSION="$version")
	local sums="$work/a second/place/dist/SHA256SUMS"
	[ "$(wc -l <"$sums")" -gt 5 ] || fail "$(cat "$sums")"
	! grep -vxFf "$dist/SHA256SUMS" "$sums" || fail 'these files differ'
}

# One binary in the tarball, the deb and the rpm; one source in the tarball, the source package and the source rpm.
same_content() {
	need dpkg-deb dpkg-source rpm2cpio cpio
	cd "$case_dir"
	tar -xzf "$dist/$release-x86_64.tar.gz"
	tar -xzf "$dist/$release.tar.gz"
	dpkg-deb -x "$dist/install-record_$version-1_amd64.deb" deb
	dpkg-source --no-check -x "$dist/install-record_$version-1.dsc" dsc >/dev/null
	mkdir rpm src
	(cd rpm && rpm2cpio "$dist/$release-1.x86_64.rpm" | cpio -id --quiet)
	(cd src && rpm2cpio "$dist/$release-1.src.rpm" | cpio -id --quiet)
	binary=$release-x86_64/bin/install-record
	cmp "$binary" deb/usr/bin/install-record
	cmp "$binary" rpm/usr/bin/install-record
	[ -n "$(git -C "$tree" status --porcelain)" ] || cmp "$binary" "$BINARY" || fail 'the tests ran another binary'
	cmp "src/$release.tar.gz" "$dist/$release.tar.gz"
	# .pc is dpkg-source's own.
	diff -r --no-dereference --exclude=.pc "$release" dsc || fail 'the source package and the tarball differ'
	# With its crates, it needs no registry.
	(cd dsc && CARGO_HOME=$case_dir/cargo cargo metadata --locked --offline --format-version=1 \
		--config 'source.crates-io.replace-with="vendored-sources"' \
		--config 'source.vendored-sources.directory="vendor"' >/dev/null)
}

software_bills() {
	need python3 jq
	python=$CACHE/cyclonedx/bin/python
	if ! "$python" -c 'import cyclonedx' 2>/dev/null; then
		python3 -m venv "$CACHE/cyclonedx" || skip 'python3-venv is not installed'
		"$CACHE/cyclonedx/bin/pip" -q install 'cyclonedx-python-lib[json-validation]==11.12.0' ||
			skip 'cyclonedx-python-lib cannot be installed'
	fi
	for bill in "$dist"/*.cdx.json; do
		expect valid None "$("$python" -c 'import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))' <"$bill")"
		# What is linked in is listed, and nothing else.
		expect crates 'ring rustls ureq' "$(jq -r '.components[].name' "$bill" | grep -xE 'ring|rustls|ureq|rcgen|uuid|serde_derive' | sort -u | paste -sd' ')"
		expect binary "$(tar -xzOf "${bill%.cdx.json}.tar.gz" --wildcards '*/bin/install-record' | sha256sum | cut -d' ' -f 1)" \
			"$(jq -r '.metadata.component.hashes[0].content' "$bill")"
	done
}

# installed ROOT PREFIX OS SCRIPT: what every installation from /share/dist is asked, whatever it came from.
installed() {
	cp -r "$dist" "$tree/tests/roots/oracle-8/etc/os-release" "$share/"
	in_system "$1" "$4
		cd $2/share
		present install-record/{profiles/strapi.json,profile.schema.json} bash-completion/completions/install-record \
			fish/vendor_completions.d/install-record.fish
		expect version 'install-record $version' \"\$(install-record --version)\"
		run install-record check memgraph
		SSL_CERT_FILE=/share/receiver/ca.pem run sh install-record/call-home.sh -f PRODUCT_FAMILY_PS -v 8.0.36-28 -c 10 -t 20 -u $url
		contains \"\$(install-record status)\" 'sent:         PRODUCT_FAMILY_PS'"
	expect records 1 "$(requests)"
	contains "$(body 1)" "$3"
}

run_case 'make release: everything is there' 1200 first
[ "$failed$skipped" = 00 ] || finish
run_case 'again, in another directory: the same files' 900 second
run_case 'one binary and one source in all of them' 120 same_content
run_case 'CycloneDX: valid, complete, and of this binary' 120 software_bills
run_case 'dist/ alone: deb on bookworm' 60 installed bookworm+sudo /usr 'Debian GNU/Linux 12' \
	'DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /share/dist/install-record_*_amd64.deb'
run_case 'dist/ alone: tarball on bookworm' 60 installed bookworm+sudo /usr/local 'Debian GNU/Linux 12' \
	"tar -xzf /share/dist/$release-x86_64.tar.gz -C /usr/local --strip-components=1
	present /usr/local/{share/man/man1/install-record.1,THIRD-PARTY-LICENSES}"
run_case 'dist/ alone: rpm with dnf on an EL-like system' 60 installed bookworm+dnf+rpm+sudo+nftables+systemd-sysv+dbus /usr \
	'Oracle Linux Server 8.8' "cp --remove-destination /share/os-release /etc/os-release
	mkdir -p /etc/rpm
	echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
	dnf -q -y --releasever=8 --disablerepo='*' --nogpgcheck install /share/dist/$release-1.x86_64.rpm"
finish
