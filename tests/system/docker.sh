#!/bin/bash
# Where it runs, and what it says: the contract's table in the real environments, one line a case, each told by the
# record that arrived, or by its absence and by the files that are left. Then the image, the model entrypoint and the
# example product: once per volume, signals and exit status, no process left.
#
# Docker, containerd and runc are real, with a daemon of our own in namespaces of its own; likewise Podman, buildah,
# LXC and systemd-nspawn. No image is pulled: everything is FROM scratch or a bootstrapped Debian. Trees that are no
# systems are tests/system/detection.sh's, virtual machines sandbox.sh's.
#
#   tests/system/docker.sh       BINARY and RECEIVER as in lib.sh; started by tests/run
# Scripts in quotes are expanded by the shell inside; run_case calls the functions; case_dir is lib.sh's.
# shellcheck disable=SC2016,SC2154,SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
# `make image` below may leave its own program in the place of this one.
shipped=$(sha256sum <"$BINARY")

# Everything that lives as long as the run: the engine's namespaces, images, the receivers. Not on a tmpfs: overlay
# storage may not be on one in older kernels.
work=$(mktemp -d) || exit 1
share=$work/share
mkdir -p "$share" "$work/receiver" "$work/mute" "$work/storage"

cleanup() {
	[ ! -s "$work/engine" ] || kill -KILL "$(cat "$work/engine")" 2>/dev/null
	wait 2>/dev/null
	# Control groups belong to no namespace; these are ours by their name.
	find /sys/fs/cgroup -depth -type d -path "*/$GROUP*" -exec rmdir {} \; 2>/dev/null
	rm -rf "${work:?}"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM
GROUP=install-record-tests-$$

url=https://localhost:8443/v1/telemetry/GenericReport
silent=https://localhost:8444/v1/telemetry/GenericReport
# What a container is told so that its record goes to the receiver.
aside=(-e "PERCONA_TELEMETRY_URL=$url" -e SSL_CERT_FILE=/ca.pem -e PERCONA_CONNECT_TIMEOUT=10 -e PERCONA_SEND_TIMEOUT=20)

# ---- the engine's namespaces ----

# A process that only keeps them, the receiver, a second one that never answers, and dockerd.
start_engine() {
	need_namespaces
	need docker dockerd runc
	# shellcheck disable=SC2030
	export WORK=$work SHARE=$share GROUP RECEIVER
	unshare --mount --pid --uts --ipc --net --fork --kill-child bash "$here/docker/engine" >"$work/log" 2>&1 &
	echo $! >"$work/engine"
	for _ in $(seq 300); do
		[ ! -e "$work/ready" ] || break
		kill -0 "$(cat "$work/engine")" 2>/dev/null || break
		sleep 0.1
	done
	if [ ! -e "$work/ready" ]; then
		cat "$work/log"
		skip "no private Docker daemon can be had here: $(tail -n 1 "$work/log")"
	fi
	pgrep -P "$(cat "$work/engine")" >"$work/started"
	[ -e "$share/product.deb" ] || make_product
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$work/extra"
	cp "$work/receiver/ca.pem" "$share/product.deb" "$work/extra/"
	tar -c -C "$root" . -C "$work/extra" ca.pem product.deb |
		inside_of "$work/started" /usr/bin/docker import - base:1
	mv "$work/started" "$work/inside"
}

# A package whose postinst reports. Every system here has the receiver's CA in /ca.pem.
make_product() {
	product_deb "$work/product" "$share/product.deb" <<-END
		#!/bin/sh
		set -e
		export SSL_CERT_FILE=/ca.pem
		/usr/bin/install-record --verbose -f PRODUCT_FAMILY_PS -v 8.0.36-28 -u $url -c 10 -t 20 || :
	END
}
INSTALL='DEBIAN_FRONTEND=noninteractive apt-get -q -y install /product.deb'
# What a package's own files and dpkg's notes about them are called; anything more is a trace.
NO_TRACE='! find / -xdev \( -path /proc -o -path /sys \) -prune -o \( -name "*percona*" -o -name "*telemetry*" -o -name "*install-record*" \) \
	! -path "*/usr/bin/install-record" -print 2>/dev/null | grep .'

# inside COMMAND...: in the engine's namespaces, once all is there.
inside() {
	[ -s "$work/inside" ] || skip "the private Docker daemon did not start"
	inside_of "$work/inside" "$@"
}
inside_of() {
	local pid=$1
	shift
	nsenter --target "$(cat "$pid")" --mount --pid --uts --ipc --net -- \
		env DOCKER_HOST=unix:///run/docker.sock CONTAINERS_CONF=/run/containers.conf \
		CONTAINERS_STORAGE_CONF=/run/storage.conf TMPDIR=/var/tmp "$@"
}
docker() {
	local client=docker
	# The one that came with the daemon, where a person has another one, too.
	[ ! -x /usr/bin/docker ] || client=/usr/bin/docker
	inside "$client" "$@"
}
podman() { inside podman "$@"; }
buildah() { inside buildah "$@"; }

# begin: what arrives from here on is this case's.
begin() {
	[ -s "$work/inside" ] || skip "the private Docker daemon did not start"
	mark=$(lines "$work/receiver/requests.jsonl") connected=$(lines "$work/receiver/connections")
	unconnected=$(lines "$work/mute/connections")
}
arrived() { expect "records" "$1" "$(($(lines "$work/receiver/requests.jsonl") - mark))"; }
last() { cat "$work/receiver/body-$(lines "$work/receiver/requests.jsonl")"; }
# one_record DEPLOYMENT
one_record() {
	arrived 1
	[[ $(last) == *'{"key":"deployment","value":"'"$1"'"}'* ]] || fail "not $1: $(last)"
}
nothing() {
	arrived 0
	expect "connections" 0 "$(($(lines "$work/receiver/connections") - connected))"
	expect "connections elsewhere" 0 "$(($(lines "$work/mute/connections") - unconnected))"
}
instance() { last | sed 's/.*"instanceId":"\([^"]*\)".*/\1/'; }

run_case "a private Docker daemon, with Debian imported" 600 start_engine

# ---- a host, and what looks like one ----

# host SCRIPT: `$install` in a copy of Debian with an init, as on a host: one record arrives, PACKAGE.
host() {
	need_namespaces
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/share"
	[ -e "$share/product.deb" ] || make_product
	cp "$share/product.deb" "$case_dir/share/"
	in_system "$root" "set -e
cp /share/receiver/ca.pem /share/product.deb /
$1
$INSTALL"
	expect records 1 "$(requests)"
	[[ $(body 1) == *'{"key":"deployment","value":"PACKAGE"}'* ]] || fail "not PACKAGE: $(body 1)"
}
run_case "a host: apt-get install: PACKAGE" 60 host :
run_case "a host with every stray mark: apt-get install: PACKAGE" 60 host \
	'touch /.dockerenv /run/.containerenv; export KUBERNETES_SERVICE_HOST=10.0.0.1 container=docker'

# A real mmdebstrap whose base is a copy: its own way to run apt and dpkg, without a mirror.
with_mmdebstrap() {
	begin
	need mmdebstrap apt-ftparchive
	local root mode=$1
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/repo"
	cp "$share/product.deb" "$case_dir/repo/"
	(cd "$case_dir/repo" && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release)
	inside mmdebstrap --quiet --mode="$mode" --variant=custom --include=product \
		--setup-hook="tar -C '$root' --exclude=./dev --exclude=./etc/apt/sources.list* -c . | tar -C \"\$1\" -x" \
		'' "$case_dir/tree.tar" "deb [trusted=yes] copy:$case_dir/repo ./" >"$case_dir/said" 2>&1 ||
		fail "mmdebstrap failed: $(cat "$case_dir/said")"
	tar -tf "$case_dir/tree.tar" | grep -qx ./usr/bin/install-record || fail "the product is not in the tree"
	! tar -tf "$case_dir/tree.tar" | grep -E 'percona|lib/install-record' || fail "it left something"
	nothing
}
run_case "mmdebstrap, as root: nothing" 120 with_mmdebstrap root
run_case "mmdebstrap, unshare: nothing" 120 with_mmdebstrap unshare

# booted MANAGER PROCESS-1 OUTCOME...: Debian with systemd as process 1, or none; a service installs the product and ends the system.
booted() {
	begin
	case $1 in
		nspawn*) need systemd-nspawn ;;
		lxc*) need lxc-start ;;
	esac
	local root
	# The one of tests/system/rpm.sh.
	root=$(root_of bookworm dnf,rpm,sudo,nftables,systemd-sysv,dbus)
	mkdir -p "$case_dir/share"
	cp "$work/extra"/* "$case_dir/share/"
	printf '%s\n' '#!/bin/sh' 'exec >/share/log 2>&1 </dev/null' 'cp /share/product.deb /share/ca.pem /' 'cat /proc/1/comm' \
		"$INSTALL" 'sync' >"$case_dir/share/probe"
	chmod +x "$case_dir/share/probe"
	ROOT=$root CASE=$case_dir MANAGER=$1 GROUP=$GROUP inside bash "$here/docker/boot" >"$case_dir/said" 2>&1 || :
	[ -e "$case_dir/share/log" ] || skip "$1 cannot start a system here: $(tail -n 1 "$case_dir/said")"
	cat "$case_dir/share/log"
	expect "process 1" "$2" "$(head -n 1 "$case_dir/share/log")"
	"${@:3}"
}
run_case "systemd-nspawn --boot: apt-get install: PACKAGE" 120 booted nspawn systemd one_record PACKAGE
run_case "systemd-nspawn without an init: apt-get install: nothing" 60 booted nspawn-alone probe nothing
run_case "LXC with systemd: apt-get install: PACKAGE" 120 booted lxc systemd one_record PACKAGE
run_case "LXC without an init: apt-get install: nothing" 60 booted lxc-alone probe nothing

# ---- image builds ----

# An image with nothing in it but the product's own files, although its postinst ran.
is_clean_image() {
	local image=$1
	"$2" run --rm --network none "$image" sh -c '[ -x /usr/bin/install-record ] && dpkg-query -W product' ||
		fail "the product is not in the image"
	"$2" run --rm --network none "$image" sh -c "$NO_TRACE" || fail "the image has more than the product's files"
}
# And what is started from it reports.
starts_and_reports() {
	"$2" run --rm --network host "${aside[@]}" "$1" install-record -f PRODUCT_FAMILY_PS -v 8.0.36-28
	one_record DOCKER
}
dockerfile() {
	mkdir -p "$case_dir/context"
	printf 'FROM %s\nRUN %s\n' "$1" "$INSTALL" >"$case_dir/context/Dockerfile"
}

docker_build() {
	begin
	dockerfile base:1
	DOCKER_BUILDKIT=$1 docker build --no-cache --progress plain --network host -t "built:$1" "$case_dir/context" >"$case_dir/said" 2>&1 ||
		fail "not built: $(cat "$case_dir/said")"
	grep -q "nothing is sent: $2" "$case_dir/said" || fail "another reason: $(cat "$case_dir/said")"
	nothing
	is_clean_image "built:$1" docker
	starts_and_reports "built:$1" docker
}
run_case "docker build, classic: apt-get install: nothing; its container: DOCKER" 120 docker_build 0 "a maintainer script where process 1 is no init"
run_case "docker build, BuildKit: apt-get install: nothing; its container: DOCKER" 120 docker_build 1 "a BuildKit sandbox"

# import_base: Podman's storage gets Debian, once.
import_base() {
	need podman buildah
	podman image exists localhost/base:1 || docker save base:1 | podman load >/dev/null
	podman image exists localhost/base:1 || podman tag docker.io/library/base:1 localhost/base:1
}
podman_build() {
	begin
	import_base
	dockerfile localhost/base:1
	podman build --no-cache --network host "$@" -t built:podman "$case_dir/context" >"$case_dir/said" 2>&1 ||
		fail "not built: $(cat "$case_dir/said")"
	grep -q "nothing is sent: a buildah sandbox" "$case_dir/said" || fail "another reason: $(cat "$case_dir/said")"
	nothing
	is_clean_image built:podman podman
	starts_and_reports built:podman podman
}
run_case "podman build: apt-get install: nothing; its container: DOCKER" 180 podman_build
run_case "podman build --isolation chroot: apt-get install: nothing; its container: DOCKER" 120 podman_build --isolation chroot

buildah_run() {
	begin
	import_base
	local container
	container=$(buildah from localhost/base:1)
	buildah run --network host "$@" "$container" sh -c "$INSTALL" >"$case_dir/said" 2>&1 || fail "$(cat "$case_dir/said")"
	buildah run "$@" "$container" install-record facts >"$case_dir/facts"
	grep -q '^deployment.evidence  *a buildah sandbox' "$case_dir/facts" || fail "$(cat "$case_dir/facts")"
	# Nor does what a Dockerfile runs by itself leave an ID in the image.
	buildah run --network host "$@" "$container" install-record -f PRODUCT_FAMILY_PS -v 1 -u "$url"
	buildah run --network host "$@" "$container" sh -c "$NO_TRACE" || fail "it left something"
	buildah rm "$container" >/dev/null
	nothing
}
run_case "buildah run: apt-get install, and by hand: nothing" 120 buildah_run
run_case "buildah run --isolation chroot: apt-get install, and by hand: nothing" 120 buildah_run --isolation chroot

by_hand_in_buildkit() {
	begin
	mkdir -p "$case_dir/context"
	cp "$BINARY" "$case_dir/context/install-record"
	printf 'FROM base:1\nCOPY install-record /usr/bin/\nRUN install-record -f PRODUCT_FAMILY_PS -v 1 -u %s\nRUN %s\n' \
		"$url" "$NO_TRACE" >"$case_dir/context/Dockerfile"
	DOCKER_BUILDKIT=1 docker build --no-cache --network host -t by-hand "$case_dir/context" >"$case_dir/said" 2>&1 ||
		fail "$(cat "$case_dir/said")"
	nothing
}
run_case "docker build, BuildKit: RUN install-record: nothing" 60 by_hand_in_buildkit

docker_exec() {
	begin
	local container
	container=$("$1" run -d --network host "${2:-base:1}" sleep 300)
	"$1" exec "$container" sh -c "$INSTALL" >"$case_dir/said" 2>&1 || fail "$(cat "$case_dir/said")"
	grep -q "nothing is sent: a maintainer script where process 1 is no init" "$case_dir/said" || fail "$(cat "$case_dir/said")"
	"$1" exec "$container" sh -c "$NO_TRACE" || fail "it left something"
	"$1" rm -f -t 0 "$container" >/dev/null 2>&1 || "$1" rm -f "$container" >/dev/null
	nothing
}
podman_exec() {
	import_base
	docker_exec podman localhost/base:1
}
run_case "docker exec: apt-get install: nothing" 60 docker_exec docker
run_case "podman exec: apt-get install: nothing" 60 podman_exec

# ---- runc alone ----

# bundle EDIT SCRIPT: runs SCRIPT in a copy of Debian by runc, with its own default configuration after the jq filter EDIT.
bundle() {
	need runc jq
	local root
	root=$(root_of bookworm sudo)
	mkdir -p "$case_dir/bundle" "$case_dir/pod"
	(cd "$case_dir/bundle" && runc spec)
	jq --arg dir "$case_dir/pod" --arg group "/$GROUP" --arg url "$url" --arg script "$2" '
		.process.terminal = false | .process.args = ["sh", "-c", $script] | .root.readonly = false |
		.process.env += ["PERCONA_TELEMETRY_URL=" + $url, "PERCONA_CONNECT_TIMEOUT=10", "PERCONA_SEND_TIMEOUT=20",
			"SSL_CERT_FILE=/ca.pem"] |
		.process.capabilities |= map_values(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID",
			"CAP_SETUID", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_MKNOD"]) |
		.linux.namespaces |= map(select(.type != "network" and .type != "cgroup")) |
		.linux.cgroupsPath = $group + "/test" | '"$1" <"$case_dir/bundle/config.json" >"$case_dir/config"
	cp "$case_dir/config" "$case_dir/bundle/config.json"
	ROOT=$root BUNDLE=$case_dir/bundle EXTRA=$work/extra BINARY=$BINARY inside unshare --mount bash -euc '
		mount -t tmpfs none /mnt
		mkdir /mnt/u /mnt/w "$BUNDLE/rootfs"
		mount -t overlay none -o "lowerdir=$ROOT,upperdir=/mnt/u,workdir=/mnt/w" "$BUNDLE/rootfs"
		cp "$EXTRA"/* "$BUNDLE/rootfs/"
		cp "$BINARY" "$BUNDLE/rootfs/usr/bin/install-record"
		install -d -o 12345 "$BUNDLE/rootfs/data"
		echo "127.0.0.1 localhost" >"$BUNDLE/rootfs/etc/hosts"
		runc --root /run/runc run --bundle "$BUNDLE" "test-$$" </dev/null'
}
SEND='install-record --verbose -f PRODUCT_FAMILY_PS -v 8.0.36-28'
# What a kubelet and its runtime give: the names of host and network, the termination log, the account, the variables,
# the control group.
POD='.mounts += ([["hosts", "/etc/hosts"], ["hostname", "/etc/hostname"], ["resolv.conf", "/etc/resolv.conf"],
		["termination-log", "/dev/termination-log"], ["account", "/var/run/secrets/kubernetes.io/serviceaccount"]] |
		map({source: ($dir + "/" + .[0]), destination: .[1], type: "bind", options: ["rbind", "rprivate", "rw"]})) |
	.process.env += ["KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_PORT=tcp://10.96.0.1:443"] |
	.linux.cgroupsPath = $group + "/kubepods/burstable/pod3f2c/9a1b"'
make_pod() {
	mkdir -p "$case_dir/pod/account"
	echo "127.0.0.1 localhost" >"$case_dir/pod/hosts"
	echo pod-0 >"$case_dir/pod/hostname"
	touch "$case_dir/pod/resolv.conf" "$case_dir/pod/termination-log"
	echo default >"$case_dir/pod/account/namespace"
}

runc_reports() {
	begin
	bundle "${1:-.}" "$SEND"
	one_record DOCKER
}
runc_installs() {
	begin
	make_pod
	bundle "$1" "$2; $NO_TRACE" >"$case_dir/said" 2>&1 || fail "$(cat "$case_dir/said")"
	grep -q "nothing is sent: $3" "$case_dir/said" || fail "$(cat "$case_dir/said")"
	nothing
}
pod_reports() {
	begin
	make_pod
	bundle "$POD${1:-}" "$SEND"
	one_record DOCKER
}
run_case "plain runc (like containerd): an entrypoint: DOCKER" 60 runc_reports
run_case "plain runc, with its defaults: apt-get install: nothing" 60 runc_installs . "$INSTALL" \
	"a maintainer script where process 1 is no init"
run_case "a Kubernetes pod's look-alike: an entrypoint: DOCKER" 60 pod_reports
run_case "a privileged pod's look-alike: an entrypoint: DOCKER" 60 pod_reports ' | del(.linux.maskedPaths, .linux.readonlyPaths)'
run_case "a pod's look-alike of user 12345: an entrypoint: DOCKER" 60 pod_reports \
	' | .process.user = {uid: 12345, gid: 0} | .process.env += ["PERCONA_TELEMETRY_CONFIG_FILE_PATH=/data/telemetry_uuid"]'
run_case "a pod's look-alike with the node's processes (hostPID): an entrypoint: DOCKER" 60 pod_reports \
	' | .linux.namespaces |= map(select(.type != "pid")) | .linux.namespaces += [{type: "cgroup"}]'
run_case "runc with the host's processes and control groups: an entrypoint: DOCKER" 60 runc_reports \
	'.linux.namespaces |= map(select(.type != "pid"))'
run_case "kaniko's look-alike, in the pod's own root: apt-get install: nothing" 60 runc_installs "$POD" "$INSTALL" \
	"a maintainer script where process 1 is no init"
run_case "kaniko's look-alike, in a chroot in a pod: apt-get install: nothing" 60 runc_installs "$POD" \
	"mkdir /kaniko && cp -a /bin /sbin /lib /lib64 /usr /etc /var /product.deb /kaniko/ && mkdir /kaniko/tmp /kaniko/dev &&
	chmod 1777 /kaniko/tmp && cp -a /dev/null /kaniko/dev/ && chroot /kaniko sh -c '$INSTALL' && [ ! -e /kaniko/usr/local/percona ]" \
	"there is no /proc"

# ---- the image ----

image_for_both() {
	begin
	need cargo make aarch64-linux-gnu-gcc
	inside make --no-print-directory -C "$tree" DOCKER=/usr/bin/docker IMAGE=made image >"$case_dir/said" 2>&1 ||
		fail "$(cat "$case_dir/said")"
	local version
	version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$tree/Cargo.toml")
	expect "what it says" "install-record $version" "$(docker run --rm --network none made --version)"
	for arch in amd64 arm64; do
		expect "architecture" "$arch" "$(docker image inspect --format '{{.Architecture}}' "made:$version-$arch")"
		expect "version label" "$version" \
			"$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "made:$version-$arch")"
		for label in title description licenses created; do
			[ -n "$(docker image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$label\"}}" "made:$version-$arch")" ] ||
				fail "no label $label"
		done
		container=$(docker create "made:$version-$arch")
		expect "files" "LICENSE install-record" \
			"$(docker export "$container" | tar -t | grep -Ev '^(dev|etc|proc|sys)/|^\.dockerenv$' | sort | tr '\n' ' ' | sed 's/ $//')"
		docker export "$container" | tar -xO install-record >"$case_dir/$arch"
		docker rm "$container" >/dev/null
	done
	chmod +x "$case_dir/amd64" "$case_dir/arm64"
	expect "the program" "$shipped" "$(sha256sum <"$case_dir/amd64")"
	file "$case_dir/arm64" | grep -q 'ARM aarch64.*static' || fail "not for arm64: $(file "$case_dir/arm64")"
	! command -v qemu-aarch64-static >/dev/null ||
		expect "what the other one says" "install-record $version" "$(qemu-aarch64-static "$case_dir/arm64" --version)"
	nothing
}
run_case "make image: amd64 and arm64, the binary and the licence, labels" 600 image_for_both

# From here on: the image of the binary under test, and the example product made with it.
make_example() {
	begin
	mkdir -p "$case_dir/context/amd64/usr/bin"
	cp "$BINARY" "$case_dir/context/amd64/usr/bin/install-record"
	cp "$tree/LICENSE" "$case_dir/context/"
	DOCKER_BUILDKIT=0 docker build --file "$tree/docker/Dockerfile" --target prebuilt --tag install-record "$case_dir/context"
	DOCKER_BUILDKIT=${1:-0} docker build --network host --file "$tree/docker/example/Dockerfile" --build-arg BASE=base:1 --tag example "$tree/docker"
	nothing
	docker run --rm --network none --user 0 --entrypoint sh example -c "$NO_TRACE" || fail "the image has more than it should"
}
run_case "the image and the example, by the classic builder" 120 make_example 0
run_case "the image and the example, by BuildKit" 120 make_example 1

# ---- the example product ----

# product OPTION...: starts it and prints its container, once it is ready.
product() {
	local container
	container=$(docker run -d --network host "${aside[@]}" "$@" example)
	is_ready "$container"
	echo "$container"
}
is_ready() {
	for _ in $(seq 300); do
		! docker logs "$1" 2>&1 | grep -q '^productd: ready' || return 0
		sleep 0.05
	done
	docker logs "$1" >&2
	fail "the product did not start"
}
remove() { docker rm -f -v "$1" >/dev/null; }

life() {
	begin
	local first second id
	docker volume create "life-$$" >/dev/null
	first=$(product -v "life-$$:/data")
	one_record DOCKER
	id=$(instance)
	docker logs "$first" 2>&1 | grep -q 'sent one install record' || fail "it says nothing: $(docker logs "$first" 2>&1)"
	expect "the ID on the volume" "instanceId:$id" "$(docker exec "$first" head -n 1 /data/telemetry_uuid)"
	expect "receipts" 1 "$(docker exec "$first" sh -c 'ls /data/.install-record/sent | wc -l')"
	for _ in 1 2; do
		docker restart -t 5 "$first" >/dev/null
		for _ in $(seq 100); do
			[ "$(docker logs "$first" 2>&1 | grep -c ready)" -gt 1 ] && break
			sleep 0.05
		done
	done
	arrived 1
	remove "$first"
	second=$(product -v "life-$$:/data")
	arrived 1
	remove "$second"
	docker volume rm "life-$$" >/dev/null
	second=$(product)
	arrived 2
	[ "$(instance)" != "$id" ] || fail "the same ID without the volume"
	remove "$second"
}
run_case "the example: once; restart, and a new container on the volume: none; without it: one, new ID" 120 life

opted_out() {
	begin
	local container
	container=$(docker run -d --network host "${aside[@]}" "$@" example)
	is_ready "$container"
	nothing
	expect "what it says" "productd: ready" "$(docker logs "$container" 2>&1)"
	# Nothing but the container's own runtime has written anything; the volume is as it was made.
	docker exec --user 0 "$container" sh -c "$NO_TRACE" || fail "it left something"
	expect "the volume" "/data /data/db" "$(docker exec "$container" find /data | sort | tr '\n' ' ' | sed 's/ $//')"
	docker diff "$container" | grep -vE '^[AC] /(dev|etc|run|proc|sys|ca\.pem)' | grep . && fail "the container's layer changed"
	remove "$container"
}
run_case "docker run -d -e PERCONA_TELEMETRY_DISABLE=1: nothing sent, no file" 60 opted_out -e PERCONA_TELEMETRY_DISABLE=1

# runs COUNT OPTION...: with these options the product starts, and COUNT records arrive, DOCKER.
runs() {
	local count=$1 container
	shift
	begin
	container=$(product "$@")
	arrived "$count"
	[ "$count" = 0 ] || one_record DOCKER
	expect "running" true "$(docker inspect --format '{{.State.Running}}' "$container")"
	remove "$container"
}
run_case "docker run --read-only: DOCKER" 60 runs 1 --read-only
run_case "docker run --user 12345 (no /etc/passwd entry, group 0): DOCKER" 60 runs 1 --user 12345
run_case "docker run --user 12345:12345 (nothing can be written): nothing" 60 runs 0 --user 12345:12345
run_case "docker run, everything at once: DOCKER" 60 runs 1 --read-only --user 12345 --cap-drop ALL --init \
	--security-opt no-new-privileges --tmpfs /tmp --pids-limit 64 --memory 64m
run_case "docker run --pid host --cgroupns private: DOCKER" 60 runs 1 --pid host --cgroupns private
run_case "docker run --pid host --cgroupns host: DOCKER" 60 runs 1 --pid host --cgroupns host
run_case "docker run --security-opt systempaths=unconfined --hostname db: DOCKER" 60 runs 1 --security-opt systempaths=unconfined

without_home() {
	begin
	docker run --rm --network host "${aside[@]}" --user 12345 --entrypoint /usr/bin/env example -u HOME -u HOSTNAME \
		/entrypoint.sh true
	one_record DOCKER
}
run_case "docker run without HOME: DOCKER" 60 without_home

# The record that waited leaves when a container on the volume has a network again, under the same ID.
later() {
	begin
	local container id
	docker volume create "later-$$" >/dev/null
	container=$(docker run -d --network none -e "PERCONA_TELEMETRY_URL=$url" -v "later-$$:/data" example)
	is_ready "$container"
	nothing
	expect pending 1 "$(docker exec "$container" sh -c 'ls /data/.install-record/pending | wc -l')"
	! docker exec "$container" grep -q PRODUCT_FAMILY_PS:1 /data/telemetry_uuid || fail "it is marked as reported"
	id=$(docker exec "$container" sh -c 'cat /data/.install-record/pending/*' | grep -o '"id": *"[-0-9a-f]*"' | head -n 1 | grep -oE '[-0-9a-f]{36}')
	remove "$container"
	container=$(product -v "later-$$:/data")
	one_record DOCKER
	[[ $(last) == *"\"id\":\"$id\""* ]] || fail "another ID than $id: $(last)"
	remove "$container"
	docker volume rm "later-$$" >/dev/null
}
run_case "docker run --network none: it starts; what waits on the volume leaves with the next start, same ID" 60 later

# podman_runs USER OPTION...: as this user, to whom the volume belongs.
podman_runs() {
	local user=$1
	shift
	begin
	import_base
	install -d -o "$user" "$case_dir/data"
	chmod 0711 "$case_dir"
	podman run --rm --network host "${aside[@]}" -v "$BINARY:/usr/bin/install-record:ro" -v "$case_dir/data:/data" \
		-e PERCONA_TELEMETRY_CONFIG_FILE_PATH=/data/telemetry_uuid --user "$user" "$@" localhost/base:1 \
		install-record -f PRODUCT_FAMILY_PS -v 8.0.36-28
	one_record DOCKER
}
run_case "podman run: DOCKER" 60 podman_runs 0
run_case "podman run --read-only (no /run/.containerenv): DOCKER" 60 podman_runs 0 --read-only
run_case "podman run --user 12345 --cap-drop all: DOCKER" 60 podman_runs 12345 --cap-drop all

# An image whose process 1 is a script called init, as s6-overlay's: no init, but a product.
script_called_init() {
	begin
	mkdir -p "$case_dir/context"
	printf '#!/bin/sh\n/bin/true\ninstall-record -f PRODUCT_FAMILY_PS -v 1\nexit 0\n' >"$case_dir/context/init"
	chmod +x "$case_dir/context/init"
	printf 'FROM example\nCOPY init /init\nENTRYPOINT ["/init"]\n' >"$case_dir/context/Dockerfile"
	docker build -t script "$case_dir/context" >/dev/null
	docker run --rm --network host "${aside[@]}" script
	one_record DOCKER
}
run_case "docker run of a script called /init: DOCKER" 60 script_called_init

# A vendor of its own: the same entrypoint, and a profile that the image brings.
other_profile() {
	begin
	mkdir -p "$case_dir/context"
	block mine.json debian.md >"$case_dir/context/mine.json"
	sed -i 's|"options": {|&"product-version": {"variable": "MINE_VERSION"}, |; s|/var/lib/mine/|/data/|' "$case_dir/context/mine.json"
	printf '%s\n' 'FROM example' 'COPY mine.json /usr/share/install-record/profiles/' 'ENV INSTALL_RECORD_PROFILE=mine MINE_VERSION=1.4.2' \
		>"$case_dir/context/Dockerfile"
	docker build -t mine "$case_dir/context" >/dev/null
	docker run --rm --network host -e "MINE_RECORDS_URL=$url" -e SSL_CERT_FILE=/ca.pem mine true
	arrived 1
	[[ $(last) == *'"version":"1.4.2"'* ]] || fail "$(last)"
	expect "an unknown profile" started "$(docker run --rm --network host -e INSTALL_RECORD_PROFILE=nosuch mine echo started 2>/dev/null)"
	arrived 1
}
run_case "the entrypoint with a profile of the image's own" 60 other_profile

# processes CONTAINER: name and state of all that run in there, but for the question itself.
processes() {
	docker exec "$1" sh -c 'for p in /proc/[0-9]*; do
		[ "$p" = "/proc/$$" ] || sed "s/.*(\(.*\)) \(.\).*/\1 \2/" "$p/stat" 2>/dev/null
	done' | grep -v '^sed ' | sort | tr '\n' ';'
}

alone() {
	begin
	local container
	container=$(product)
	expect processes 'productd S;' "$(processes "$container")"
	expect "process 1" productd "$(docker exec "$container" cat /proc/1/comm)"
	local before after
	before=$(date +%s%N)
	docker stop -t 10 "$container" >/dev/null
	after=$(date +%s%N)
	[ $(((after - before) / 1000000)) -lt 3000 ] || fail "SIGTERM did not reach it: $(((after - before) / 1000000)) ms"
	docker logs "$container" 2>&1 | grep -q '^productd: stopped' || fail "it was killed"
	expect "status" 0 "$(docker inspect --format '{{.State.ExitCode}}' "$container")"
	remove "$container"
	# With nobody at the other end there is no zombie either.
	container=$(docker run -d --network host -e "PERCONA_TELEMETRY_URL=$silent" -e SSL_CERT_FILE=/ca.pem example)
	is_ready "$container"
	expect "processes after a time-out" 'productd S;' "$(processes "$container")"
	remove "$container"
}
run_case "only the product runs; no zombie; SIGTERM reaches it at once" 60 alone

transparent() {
	begin
	local status=0
	docker run --rm --network host "${aside[@]}" example sh -c 'exit 42' || status=$?
	expect "status" 42 "$status"
	status=0
	docker run --rm --network none -e PERCONA_TELEMETRY_DISABLE=1 example /no/such/product 2>/dev/null || status=$?
	expect "status of what is missing" 127 "$status"
	expect "process" 1 "$(docker run --rm --network none example sh -c 'echo $$' 2>/dev/null)"
	expect "standard output" "out" "$(docker run --rm --network host "${aside[@]}" example echo out 2>/dev/null)"
	expect "standard input" "in" "$(echo in | docker run -i --rm --network host "${aside[@]}" example cat 2>/dev/null)"
	for what in Sig 'Cap' Seccomp NoNewPrivs; do
		expect "$what of the product" "$(docker run --rm --network none --entrypoint grep example "^$what" /proc/self/status)" \
			"$(docker run --rm --network none example grep "^$what" /proc/self/status 2>/dev/null)"
	done
	# Without the program, with one that cannot run, and with one that fails, the product starts.
	expect "without the program" started "$(docker run --rm --network none --entrypoint env example PATH=/bin /entrypoint.sh /bin/echo started 2>/dev/null)"
	expect "with /bin/false" started "$(docker run --rm --network none -v /bin/false:/usr/bin/install-record:ro example echo started 2>/dev/null)"
	expect "with another file" started "$(docker run --rm --network none -v /etc/hostname:/usr/bin/install-record:ro example echo started 2>/dev/null)"
}
run_case "status, signals, capabilities, stdin and stdout are the product's; never fatal" 120 transparent

stopped_early() {
	begin
	local container before after
	container=$(docker run -d --network host -e "PERCONA_TELEMETRY_URL=$silent" -e SSL_CERT_FILE=/ca.pem example)
	for _ in $(seq 100); do
		[ "$(lines "$work/mute/connections")" -le "$unconnected" ] || break
		sleep 0.02
	done
	before=$(date +%s%N)
	docker stop -t 10 "$container" >/dev/null
	after=$(date +%s%N)
	[ $(((after - before) / 1000000)) -lt 5000 ] || fail "it took $(((after - before) / 1000000)) ms"
	expect "status" 143 "$(docker inspect --format '{{.State.ExitCode}}' "$container")"
	remove "$container"
}
run_case "docker stop while it reports: over within the budget" 60 stopped_early

finish
