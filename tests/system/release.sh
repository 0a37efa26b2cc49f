#!/bin/bash
# `make release`, from two clones of this commit in different directories: the same files. What it made is then installed, from
# dist/ alone, on a fresh Debian 12 and with dnf on a system that calls itself Oracle Linux 8.8. The second time, only
# what x86_64 needs is built.
# Started by tests/run; see lib.sh for what it expects.
# shellcheck disable=SC1091,SC2016,SC2154,SC2317
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)

work=$(mktemp -d) || exit 1
trap '[ "$BASHPID" != $$ ] || rm -rf "${work:?}"' EXIT
dist=$work/first/dist

# clone DIRECTORY
clone() {
	need git cargo dpkg-buildpackage dh po2debconf rpmbuild aarch64-linux-gnu-gcc
	git -C "$top" rev-parse --git-dir >/dev/null 2>&1 || skip 'this is no git checkout'
	git clone -q "$top" "$work/$1"
}

first() {
	clone first
	make -C "$work/first" release VERSION="$version"
	touch "$work/made"
	(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
	local file
	for file in install-record-"$version"{,-x86_64,-aarch64}.tar.gz install-record-"$version"-{x86_64,aarch64}.cdx.json \
		install-record_"$version"-1_{amd64,arm64}.deb install-record_"$version"-1.dsc \
		install-record-"$version"-1.{x86_64,aarch64,src}.rpm; do
		[ -s "$dist/$file" ] || fail "there is no $file: $(ls "$dist")"
	done
}

made() { [ -e "$work/made" ] || skip 'the release was not made'; }

second() {
	made
	clone 'a second/place'
	(cd "$work/a second/place" && ARCHITECTURES=x86_64 make release VERSION="$version")
	local sums="$work/a second/place/dist/SHA256SUMS"
	[ "$(wc -l <"$sums")" -gt 5 ] || fail "$(cat "$sums")"
	! grep -vxFf "$dist/SHA256SUMS" "$sums" || fail 'these files differ'
}

other_version() {
	made
	! make -C "$work/first" release VERSION=99.0.0 2>"$case_dir/said" || fail 'a version that nothing states was released'
	grep -q "Cargo.toml says version '$version', not '99.0.0'" "$case_dir/said" || fail "$(cat "$case_dir/said")"
	[ -e "$dist/SHA256SUMS" ] || fail 'dist/ is gone'
}

# One binary in the tarball, the deb and the rpm; one source in the tarball, the source package and the source rpm.
same_content() {
	made
	need dpkg-deb dpkg-source rpm2cpio cpio
	local name=install-record-$version
	mkdir "$case_dir"/{tar,deb,rpm,src}
	tar -xzf "$dist/$name-x86_64.tar.gz" -C "$case_dir/tar"
	dpkg-deb -x "$dist/install-record_$version-1_amd64.deb" "$case_dir/deb"
	(cd "$case_dir/rpm" && rpm2cpio "$dist/$name-1.x86_64.rpm" | cpio -id --quiet)
	cmp "$case_dir/tar/$name-x86_64/bin/install-record" "$case_dir/deb/usr/bin/install-record"
	cmp "$case_dir/tar/$name-x86_64/bin/install-record" "$case_dir/rpm/usr/bin/install-record"
	if [ -z "$(git -C "$top" status --porcelain)" ]; then
		cmp "$case_dir/tar/$name-x86_64/bin/install-record" "$BINARY" || fail 'the tests ran another binary'
	fi
	(cd "$case_dir/src" && rpm2cpio "$dist/$name-1.src.rpm" | cpio -id --quiet)
	cmp "$case_dir/src/$name.tar.gz" "$dist/$name.tar.gz"
	tar -xzf "$dist/$name.tar.gz" -C "$case_dir"
	dpkg-source --no-check -x "$dist/install-record_$version-1.dsc" "$case_dir/dsc" >/dev/null
	# .pc is dpkg-source's own.
	diff -r --exclude=.pc "$case_dir/$name" "$case_dir/dsc" || fail 'the source package and the tarball differ'
	# With its crates, it needs no registry.
	(cd "$case_dir/dsc" && CARGO_HOME=$case_dir/cargo cargo metadata --locked --offline --format-version=1 \
		--config 'source.crates-io.replace-with="vendored-sources"' \
		--config 'source.vendored-sources.directory="vendor"' >/dev/null)
}

software_bills() {
	made
	need python3
	local python=$CACHE/cyclonedx/bin/python
	if ! "$python" -c 'import cyclonedx' 2>/dev/null; then
		python3 -m venv "$CACHE/cyclonedx" || skip 'python3-venv is not installed'
		"$CACHE/cyclonedx/bin/pip" -q install 'cyclonedx-python-lib[json-validation]==11.12.0' ||
			skip 'cyclonedx-python-lib cannot be installed'
	fi
	"$python" - "$dist"/*.cdx.json <<-'END'
		import hashlib, json, sys, tarfile
		from cyclonedx.schema import SchemaVersion
		from cyclonedx.validation.json import JsonStrictValidator

		for name in sys.argv[1:]:
		    text = open(name).read()
		    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
		    assert error is None, f"{name}: {error}"
		    bill = json.loads(text)
		    names = {component["name"] for component in bill["components"]}
		    assert {"ring", "rustls", "ureq"} <= names, names
		    assert not {"rcgen", "uuid", "serde_derive"} & names, "what is not linked in is listed"
		    archive = name.removesuffix(".cdx.json") + ".tar.gz"
		    with tarfile.open(archive) as tar:
		        binary = next(member for member in tar if member.name.endswith("/bin/install-record"))
		        digest = hashlib.sha256(tar.extractfile(binary).read()).hexdigest()
		    assert bill["metadata"]["component"]["hashes"][0]["content"] == digest, "another binary's"
	END
}

# What every installation is asked, whatever it came from. PREFIX is where it is.
ASK='
ask() {
	[ "$(install-record --version)" = "install-record $1" ]
	install-record show -f PRODUCT_FAMILY_PS -v 8.0.36-28 | grep -qF "\"product_family\":\"PRODUCT_FAMILY_PS\""
	install-record check memgraph >/dev/null
	SSL_CERT_FILE=/share/receiver/ca.pem sh $2/share/install-record/call-home.sh -f PRODUCT_FAMILY_PS -v 8.0.36-28 -c 10 -t 20 \
		-u https://check.percona.com:8443/v1/telemetry/GenericReport
	install-record status | grep -q "^sent: .*PRODUCT_FAMILY_PS"
	install-record off
	install-record status | grep -q "^percona: .*skip"
	for file in install-record/profiles/strapi.json install-record/profile.schema.json \
		bash-completion/completions/install-record fish/vendor_completions.d/install-record.fish; do
		[ -s $2/share/$file ] || { echo "no $file"; exit 1; }
	done
}
set -eu
'

# from ROOT SCRIPT: with dist/ in /share/dist.
from() {
	made
	need_namespaces
	mkdir -p "$case_dir/share"
	cp -r "$dist" "$case_dir/share/dist"
	in_system "$1" "$ASK$2"
	expect records 1 "$(requests)"
}

debian_package() {
	from "$(root_of bookworm sudo,nftables,apt-utils)" '
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /share/dist/install-record_*_amd64.deb
		ask '"$version"' /usr
	'
}

tarball() {
	from "$(root_of bookworm sudo,nftables,apt-utils)" '
		tar -xzf /share/dist/install-record-'"$version"'-x86_64.tar.gz -C /usr/local --strip-components=1
		[ -s /usr/local/share/man/man1/install-record.1 ] && [ -s /usr/local/THIRD-PARTY-LICENSES ]
		ask '"$version"' /usr/local
	'
}

rpm_package() {
	local root
	root=$(root_of bookworm dnf,rpm,sudo,nftables,systemd-sysv,dbus)
	mkdir -p "$case_dir/share"
	cp "$top/tests/system/rpm/os-release" "$case_dir/share/"
	from "$root" '
		rm -f /etc/os-release
		cp /share/os-release /etc/os-release
		mkdir -p /etc/rpm /etc/dnf/vars
		echo "%_dbpath /var/lib/rpm" >/etc/rpm/macros
		echo 8 >/etc/dnf/vars/releasever
		dnf -q -y --disablerepo="*" --nogpgcheck install /share/dist/install-record-'"$version"'-1.x86_64.rpm
		ask '"$version"' /usr
		grep -q "Oracle Linux Server 8.8" /share/receiver/body-1
	'
}

run_case 'make release: everything is there' 1200 first
run_case 'again, in another directory: the same files' 900 second
run_case 'a version that nothing states is refused' 60 other_version
run_case 'one binary and one source in all of them' 120 same_content
run_case 'CycloneDX: valid, complete, and of this binary' 120 software_bills
run_case 'dist/ alone: deb on bookworm' 60 debian_package
run_case 'dist/ alone: tarball on bookworm' 60 tarball
run_case 'dist/ alone: rpm with dnf on an EL-like system' 60 rpm_package
finish
