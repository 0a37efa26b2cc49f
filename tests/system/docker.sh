#!/bin/bash
# Where it runs, and what it says: real environments, each told by the record that arrived, or by its absence and by the files
# that are left. Then the image, the model entrypoint and the example product. The Docker daemon is our own, in namespaces
# of its own. No image is pulled. Trees that are no systems are detection.sh's, virtual machines sandbox.sh's.
# shellcheck disable=SC2086 # words
. "$(dirname "$0")/lib.sh"

export WORK=$work GROUP=install-record-tests-$$
mkdir -p "$work/receiver" "$work/mute" "$work/storage" "$work/extra"
cleanup() {
	[ "$BASHPID" = $$ ] || return 0
	[ ! -s "$work/engine" ] || kill -KILL "$(cat "$work/engine")" 2>/dev/null
	wait 2>/dev/null
	# Control groups belong to no namespace; these are ours by their name.
	find /sys/fs/cgroup -depth -type d -path "*/$GROUP*" -exec rmdir {} \; 2>/dev/null
	rm -rf "${work:?}"
}
trap cleanup EXIT
trap 'exit 143' HUP INT TERM

url=https://localhost:8443/v1/telemetry/GenericReport
# What a container is told so that its record goes to the receiver, or to the one that never answers.
aside=(--network host -e "PERCONA_TELEMETRY_URL=$url" -e SSL_CERT_FILE=/ca.pem -e PERCONA_CONNECT_TIMEOUT=10 -e PERCONA_SEND_TIMEOUT=20)
unanswered=(--network host -e "PERCONA_TELEMETRY_URL=${url/8443/8444}" -e SSL_CERT_FILE=/ca.pem)
INSTALL='DEBIAN_FRONTEND=noninteractive apt-get -q -y install /product.deb'
SEND='install-record --verbose -f PRODUCT_FAMILY_PS -v 8.0.36-28'
UNBOOTED='a maintainer script where process 1 is no init'
# What a package's own files and dpkg's notes about them are called; anything more is a trace.
NO_TRACE='! find / -xdev \( -path /proc -o -path /sys \) -prune -o \( -name "*percona*" -o -name "*telemetry*" -o -name "*install-record*" \) \
	! -path "*/usr/bin/install-record" -print 2>/dev/null | grep .'

# A process that keeps the namespaces, the receiver, a second one that never answers, and dockerd. Every system here has
# the receiver's CA in /ca.pem, and a package whose postinst reports in /product.deb.
start_engine() {
	need docker dockerd runc
	unshare --mount --pid --uts --ipc --net --fork --kill-child bash "$system/docker/engine" >"$work/log" 2>&1 &
	echo $! >"$work/engine"
	(await [ -e "$work/ready" ]) || skip "no private Docker daemon can be had here: $(tail -n 1 "$work/log")"
	pgrep -P "$(cat "$work/engine")" >"$work/inside"
	cp "$work/receiver/ca.pem" "$work/share/product.deb" "$work/extra/"
	tar -c -C "$(root_of bookworm+sudo)" . -C "$work/extra" ca.pem product.deb | docker import - base:1
}

inside() {
	nsenter --target "$(cat "$work/inside")" --mount --pid --uts --ipc --net -- \
		env DOCKER_HOST=unix:///run/docker.sock CONTAINERS_CONF=/run/containers.conf \
		CONTAINERS_STORAGE_CONF=/run/storage.conf TMPDIR=/var/tmp "$@"
}
# The client that came with the daemon, where a person has another one, too.
docker() { inside /usr/bin/docker "$@"; }
podman() { need podman && inside podman "$@"; }
buildah() { need buildah && inside buildah "$@"; }
# to_podman IMAGE: Podman's storage, which is buildah's, gets an image of Docker's.
to_podman() { docker save "$1" | podman load; }

# begin: what arrives from here on is this case's.
begin() {
	[ -s "$work/inside" ] || skip "the private Docker daemon did not start"
	share=$work
	mark=$(requests) connected=$(connections) unconnected=$(lines "$work/mute/connections")
}
arrived() { expect records "$1" "$(($(requests) - mark))"; }
last() { body "$(requests)"; }
one_record() {
	arrived 1
	contains "$(last)" "{\"key\":\"deployment\",\"value\":\"$1\"}"
}
# nothing [REASON]: and that is what was said inside of `run`.
nothing() {
	expect 'records and connections' '0 0 0' \
		"$(($(requests) - mark)) $(($(connections) - connected)) $(($(lines "$work/mute/connections") - unconnected))"
	[ $# = 0 ] || contains "$(cat "$share/said")" "nothing is sent: $1"
}

run_case 'Debian bookworm, and a product' 300 make_product "SSL_CERT_FILE=/ca.pem /usr/bin/$SEND -u $url -c 10 -t 20"
run_case 'a private Docker daemon, with Debian imported' 600 start_engine
run_case 'Podman has it, too' 120 to_podman base:1

# booted START PROCESS-1 RECORDS: a service installs the product, among all the marks that a container may have. By hand,
# both are a PACKAGE.
booted() {
	boots bookworm+dnf+rpm+sudo+nftables+systemd-sysv+dbus "$1" "cp /share/product.deb /share/receiver/ca.pem /
		expect 'process 1' $2 \"\$(cat /proc/1/comm)\"
		touch /.dockerenv /run/.containerenv
		export KUBERNETES_SERVICE_HOST=10.0.0.1 container=docker
		$INSTALL
		expect 'by hand' PACKAGE \"\$(install-record facts | sed -n 's/^deployment  *//p')\""
	expect connections "$3" "$(connections)"
	[ "$3" = 0 ] || sent 1 PACKAGE
}
run_case 'systemd-nspawn --boot: apt-get install: PACKAGE' 120 booted --boot systemd 1
run_case 'systemd-nspawn without an init: apt-get install: nothing' 60 booted /share/probe probe 0

# built ENGINE REASON BY-HAND OPTION...: the postinst ran, as did the command BY-HAND, and left nothing in the image; what is
# started from it reports.
built() {
	begin
	printf 'FROM base:1\nRUN %s && %s\n' "$INSTALL" "$3" >"$case_dir/Dockerfile"
	run "$1" build --no-cache --network host "${@:4}" -t built "$case_dir"
	nothing "$2"
	"$1" run --rm --network none built sh -c "[ -x /usr/bin/install-record ] && dpkg-query -W product && $NO_TRACE" || fail 'not a clean image'
	"$1" run --rm "${aside[@]}" built $SEND
	one_record DOCKER
}
BY_HAND="$SEND -u $url"
DOCKER_BUILDKIT=0 run_case 'docker build, classic: apt-get install: nothing; its container: DOCKER' 120 built docker "$UNBOOTED" true
DOCKER_BUILDKIT=1 run_case 'docker build, BuildKit: apt-get install, and by hand: nothing; its container: DOCKER' 120 \
	built docker 'a BuildKit sandbox' "$BY_HAND" --progress plain
run_case 'podman build: apt-get install, and by hand: nothing; its container: DOCKER' 180 built podman 'a buildah sandbox' "$BY_HAND"
run_case 'podman build --isolation chroot: apt-get install, and by hand: nothing; its container: DOCKER' 120 \
	built podman 'a buildah sandbox' "$BY_HAND" --isolation chroot

# installs_in START EXEC REASON: START prints the container that EXEC installs the product in.
installs_in() {
	begin
	container=$($1)
	run $2 "$container" sh -c "$INSTALL && $NO_TRACE"
	nothing "$3"
}
for engine in docker podman; do
	run_case "$engine exec: apt-get install: nothing" 60 installs_in "$engine run -d --network host base:1 sleep 300" "$engine exec" "$UNBOOTED"
done
run_case 'buildah run: apt-get install: nothing' 60 installs_in 'buildah from base:1' 'buildah run --network host' 'a buildah sandbox'

# by_containerd OPTIONS SCRIPT OUTCOME WORD: what comes of SCRIPT in a copy of Debian. Docker has brought containerd, which is
# Kubernetes' own runtime.
by_containerd() {
	begin
	need ctr
	ROOT=$(root_of bookworm+sudo) inside bash -euc ". $system/ask.sh"'
		mkdir "$case_dir/tree"
		copy_of "$ROOT" "$case_dir/tree"
		cp "$WORK/extra"/* "$case_dir/tree/root/"
		cp "$BINARY" "$case_dir/tree/root/usr/bin/install-record"'
	run inside ctr --address /run/docker/containerd/containerd.sock run --rm --with-ns network:/proc/1/ns/net --cgroup "/$GROUP/test" \
		--env PATH=/usr/sbin:/usr/bin --env "PERCONA_TELEMETRY_URL=$url" --env SSL_CERT_FILE=/ca.pem --env PERCONA_CONNECT_TIMEOUT=10 \
		--env PERCONA_SEND_TIMEOUT=20 $1 --rootfs "$case_dir/tree/root" "test-$BASHPID" sh -c "$2"
	"$3" "$4"
}
# What a kubelet and its runtime give.
POD="--cgroup /$GROUP/kubepods/burstable/pod3f2c/9a1b --env KUBERNETES_SERVICE_HOST=10.96.0.1 --env KUBERNETES_PORT=tcp://10.96.0.1:443"
for file in etc/hosts etc/hostname etc/resolv.conf dev/termination-log var/run/secrets/kubernetes.io/serviceaccount/namespace; do
	install -D /dev/null "$work/pod/$file"
	POD+=" --mount type=bind,src=$work/pod/$file,dst=/$file,options=rbind:rprivate:rw"
done
while IFS='|' read -r what options <&3; do
	run_case "$what: an entrypoint: DOCKER" 60 by_containerd "$options" "$SEND" one_record DOCKER
done 3<<END
containerd|
containerd with the host's processes and control groups|--with-ns pid:/proc/1/ns/pid --with-ns cgroup:/proc/1/ns/cgroup
a Kubernetes pod's look-alike|$POD
a pod's look-alike with the node's processes (hostPID)|$POD --with-ns pid:/proc/1/ns/pid
END
run_case 'a pod, as kaniko builds in: apt-get install: nothing' 60 by_containerd "$POD" "$INSTALL; $NO_TRACE" nothing "$UNBOOTED"

image_for_both() {
	begin
	need cargo make aarch64-linux-gnu-gcc
	run inside make --no-print-directory -C "$tree" DOCKER=/usr/bin/docker IMAGE=made image
	version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$tree/Cargo.toml")
	for arch in amd64 arm64; do
		contains "$(docker image inspect "made:$version-$arch")" "\"$arch\"" "image.version\": \"$version\""
		docker export "$(docker create "made:$version-$arch")" >"$case_dir/tar"
		expect files 'LICENSE install-record' "$(tar -tf "$case_dir/tar" | grep -Ev '^(dev|etc|proc|sys)/|^\.dockerenv$' | sort | paste -sd' ')"
		tar -xf "$case_dir/tar" -O install-record >"$case_dir/$arch"
	done
	expect 'the program' "$shipped" "$(sha256sum <"$case_dir/amd64")"
	contains "$(file "$case_dir/arm64")" 'ARM aarch64' static
	nothing
}
run_case 'make image: amd64 and arm64, the binary and the licence, labels' 600 image_for_both

make_example() {
	begin
	install -D "$BINARY" "$case_dir/context/amd64/usr/bin/install-record"
	cp "$tree/LICENSE" "$case_dir/context/"
	DOCKER_BUILDKIT=0 docker build --file "$tree/docker/Dockerfile" --target prebuilt --tag install-record "$case_dir/context"
	docker build --network host --file "$tree/docker/example/Dockerfile" --build-arg BASE=base:1 --tag example "$tree/docker"
	nothing
	docker run --rm --network none --user 0 --entrypoint sh example -c "$NO_TRACE" || fail 'the image has more than it should'
}
DOCKER_BUILDKIT=1 run_case 'the image and the example' 120 make_example
run_case 'Podman has the example, too' 120 to_podman example:latest

# product OPTION...: starts it as $container, and waits until it says that it is ready. is_ready TIMES: it has said so.
product() {
	container=$("$engine" run -d "$@" example)
	await is_ready 1
}
engine=docker
is_ready() { [ "$("$engine" logs "$container" 2>&1 | grep -c '^productd: ready')" -ge "$1" ]; }
in_product() { docker exec "$container" sh -c "$1"; }
# processes: name and state of all that run in there, but for the question itself.
processes() {
	in_product 'for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || sed "s/.*(\(.*\)) \(.\).*/\1 \2/" $p/stat 2>/dev/null; done' |
		grep -v '^sed ' | sort | paste -sd';'
}
# stops STATUS: on SIGTERM, and long before it would be killed.
stops() {
	local before=$SECONDS
	docker stop -t 20 "$container" >/dev/null
	[ $((SECONDS - before)) -lt 8 ] || fail "SIGTERM did not reach it in $((SECONDS - before)) s"
	expect status "$1" "$(docker inspect --format '{{.State.ExitCode}}' "$container")"
}

life() {
	begin
	product "${aside[@]}" -v life:/data
	one_record DOCKER
	id=$(field instanceId "$(last)")
	expect 'processes, and process 1' 'productd S productd' "$(processes) $(in_product 'cat /proc/1/comm')"
	expect 'the ID on the volume, and receipts' "instanceId:$id 1" \
		"$(in_product 'echo $(head -n 1 /data/telemetry_uuid; ls /data/.install-record/sent | wc -l)')"
	for times in 2 3; do
		docker restart -t 5 "$container" >/dev/null
		await is_ready $times
	done
	stops 0
	contains "$(docker logs "$container" 2>&1)" 'sent one install record' 'productd: stopped'
	product "${aside[@]}" -v life:/data
	arrived 1
	product "${aside[@]}"
	arrived 2
	[ "$(field instanceId "$(last)")" != "$id" ] || fail 'the same ID without the volume'
}
run_case 'the example: only the product runs; restart, new container on the volume: nothing; without it: a new ID' 120 life

opted_out() {
	begin
	product "${aside[@]}" -e PERCONA_TELEMETRY_DISABLE=1
	nothing
	expect 'what it says' 'productd: ready' "$(docker logs "$container" 2>&1)"
	expect 'the volume' '/data /data/db' "$(in_product 'echo $(find /data | sort)')"
	! docker diff "$container" | grep -vE '^[AC] /(dev|etc|run|proc|sys|ca\.pem)' || fail "the container's layer changed"
}
run_case 'docker run -d -e PERCONA_TELEMETRY_DISABLE=1: nothing sent, no file' 60 opted_out

# runs ENGINE OUTCOME OPTION...: with these options the product starts and goes on.
runs() {
	begin
	engine=$1
	product "${aside[@]}" "${@:3}"
	$2
	expect running true "$("$engine" inspect --format '{{.State.Running}}' "$container")"
}
# A user without an entry in /etc/passwd may write by group 0, which OpenShift gives. With --read-only, Podman leaves no mark.
while IFS='|' read -r engine outcome options <&3; do
	run_case "$engine run $options: $outcome" 60 runs "$engine" "$outcome" $options
done 3<<'END'
docker|one_record DOCKER|--user 12345
docker|nothing|--user 12345:12345
docker|one_record DOCKER|--read-only --user 12345 --cap-drop ALL --init --security-opt no-new-privileges --tmpfs /tmp --pids-limit 64 --memory 64m
docker|one_record DOCKER|--pid host --cgroupns host
podman|one_record DOCKER|--read-only
podman|one_record DOCKER|--user 12345 --cap-drop all
END
engine=docker

# A vendor of its own: the same entrypoint, and a profile that the image brings.
other_profile() {
	begin
	block mine.json debian.md |
		sed 's|"options": {|&"product-version": {"variable": "MINE_VERSION"}, |; s|/var/lib/mine/|/data/|' >"$case_dir/mine.json"
	printf '%s\n' 'FROM example' 'COPY mine.json /usr/share/install-record/profiles/' 'ENV INSTALL_RECORD_PROFILE=mine MINE_VERSION=1.4.2' \
		>"$case_dir/Dockerfile"
	docker build -t mine "$case_dir" >/dev/null
	docker run --rm --network host -e "MINE_RECORDS_URL=$url" -e SSL_CERT_FILE=/ca.pem mine true
	contains "$(last)" '"version":"1.4.2"'
	expect 'an unknown profile' started "$(docker run --rm --network host -e INSTALL_RECORD_PROFILE=nosuch mine echo started 2>/dev/null)"
	arrived 1
}
run_case "the entrypoint with a profile of the image's own" 60 other_profile

# Nobody is at the other end: no zombie is left, and SIGTERM is heard meanwhile.
unanswered() {
	begin
	product "${unanswered[@]}"
	expect 'processes after a time-out' 'productd S' "$(processes)"
	unconnected=$(lines "$work/mute/connections")
	container=$(docker run -d "${unanswered[@]}" -e PERCONA_SEND_TIMEOUT=40 example)
	is_connected() { [ "$(lines "$work/mute/connections")" -gt "$unconnected" ]; }
	await is_connected
	stops 143
}
run_case 'no answer: no zombie; docker stop while it reports: over at once' 60 unanswered

transparent() {
	begin
	local what status=0
	offline() { docker run --rm --network none "$@" 2>/dev/null; }
	docker run --rm "${aside[@]}" example sh -c 'exit 42' || status=$?
	expect status 42 "$status"
	expect 'standard input and output' in "$(echo in | docker run -i --rm "${aside[@]}" example cat 2>/dev/null)"
	# Without the program, with one that fails, and with one that cannot run, the product starts.
	expect 'without the program' started "$(offline --entrypoint env example PATH=/bin /entrypoint.sh /bin/echo started)"
	for what in /bin/false /etc/hostname; do
		expect "with $what" started "$(offline -v $what:/usr/bin/install-record:ro example echo started)"
	done
}
run_case "status, stdin and stdout are the product's; never fatal" 120 transparent

finish
