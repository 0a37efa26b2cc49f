//! What container runtimes and image builders leave behind and mount.
//!
//! Texts of /proc in, evidence out. What it means is [`super::deployment`]'s.

use crate::host::Host;

/// Programs that start containers only to build images, and say so.
pub fn builder(host: &Host, process_one: Option<&str>) -> Option<&'static str> {
    // The default host name of BuildKit's RUN steps (solver/llbsolver/ops/exec.go in moby/buildkit).
    if host.line("proc/sys/kernel/hostname").as_deref() == Some("buildkitsandbox") {
        return Some("a BuildKit sandbox");
    }
    // rpm-ostree runs scriptlets for a tree that the next boot will have.
    if process_one == Some("bwrap") && host.exists("run/ostree-booted").unwrap_or(false) {
        return Some("an rpm-ostree sandbox");
    }
    // buildah and `podman build` write it for every RUN (run_common.go in containers/buildah), --isolation chroot
    // included, where process 1 may be the host's init; Podman's own names `podman-VERSION` or is empty.
    let containerenv = host.read("run/.containerenv", 4096).bytes().unwrap_or_default();
    let is_buildah = containerenv.split(|b| *b == b'\n').any(|line| line.starts_with(b"engine=\"buildah"));
    is_buildah.then_some("a buildah sandbox")
}

/// A cgroup that a runtime of application containers has named (cgroups(7): `ID:CONTROLLERS:PATH`). Not docker.service,
/// which is the daemon.
pub fn is_runtime_cgroup(cgroup: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"docker", b"buildkit", b"libpod_parent"];
    const PREFIXES: [&[u8]; 6] = [b"docker-", b"kubepods", b"libpod-", b"crio-", b"cri-containerd-", b"buildah-"];
    let paths = cgroup.split(|b| *b == b'\n').filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    paths.flat_map(|path| path.split(|b| *b == b'/')).any(|name| {
        NAMES.contains(&name)
            || (PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with(b".service"))
    })
}

/// Whether a process's cgroup lies outside of our cgroup namespace (cgroup_namespaces(7)).
pub fn is_outside(cgroup: &[u8]) -> bool {
    let mut paths = cgroup.split(|b| *b == b'\n').filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    paths.any(|path| path == b"/.." || path.starts_with(b"/../"))
}

/// A part of proc is mounted over itself, read-only.
pub const MASKED: &str = "/proc/sys is masked";

/// What container runtimes mount.
pub fn traces(mountinfo: &[u8]) -> Vec<&'static str> {
    const NAMES: [&[u8]; 3] = [b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf"];
    let mounts: Vec<Vec<&[u8]>> =
        mountinfo.split(|b| *b == b'\n').map(fields).filter(|fields| fields.len() > 5).collect();
    let at = |point: &[u8]| mounts.iter().find(|fields| fields[4] == point);
    // readonlyPaths of the OCI runtime specification, which every engine sets: a part of proc over itself.
    let is_masked = at(b"/proc/sys").is_some_and(|m| m[3] == b"/sys" && m[5].split(|b| *b == b',').any(|o| o == b"ro"));
    // systemd does the same to services (ProtectKernelTunables=) and in nspawn, and covers others with files of its own.
    let is_of_systemd =
        |m: &Vec<&[u8]>| m[3].starts_with(b"/systemd/inaccessible/") || m[3].starts_with(b"/host/inaccessible/");
    those([
        // One alone is also what `ip netns exec` and a resolver's packages do.
        (NAMES.iter().filter(|name| at(name).is_some()).count() >= 2, "the names of host and network are mounts"),
        (is_masked && !mounts.iter().any(is_of_systemd), MASKED),
        (at(b"/").is_some_and(|m| is_image_storage(m[m.len() - 1])), "/ is an image's layers"),
        // Podman's, CRI-O's and buildah's is a mount of its own; a stray one is a file.
        (at(b"/run/.containerenv").is_some(), "/run/.containerenv is a mount"),
        // kubelet, terminationMessagePath of every container.
        (at(b"/dev/termination-log").is_some(), "/dev/termination-log is a mount"),
    ])
}

/// The directories of an overlay in the storage of Docker (`…/overlay2/ID/diff`), Podman, CRI-O
/// (`…/containers/storage/overlay/…`) and containerd (`…/io.containerd.snapshotter.v1.overlayfs/…`). Any other overlay
/// says nothing: live systems have one, too.
fn is_image_storage(options: &[u8]) -> bool {
    [&b"/overlay2/"[..], b"/containers/storage/overlay/", b"/io.containerd.snapshotter."]
        .iter()
        .any(|part| options.windows(part.len()).any(|window| window == *part))
}

/// proc(5), /proc/PID/mountinfo: `ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER`.
pub fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|b| *b == b' ').collect()
}

/// The evidence that is there.
pub fn those<const N: usize>(evidence: [(bool, &'static str); N]) -> Vec<&'static str> {
    evidence.into_iter().filter_map(|(is_there, what)| is_there.then_some(what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the runtimes left them.
    #[test]
    fn mounts() {
        const DOCKER: &str = "\
181 149 0:54 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/C2:/var/lib/docker/overlay2/l/OH
221 181 254:0 /var/lib/docker/containers/18/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw,discard
220 181 254:0 /var/lib/docker/containers/18/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw,discard
154 182 0:57 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
";
        for (mountinfo, expected) in [
            (DOCKER, &["the names of host and network are mounts", MASKED, "/ is an image's layers"][..]),
            ("154 182 0:57 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw\n", &[MASKED]),
            // A service with ProtectKernelTunables=.
            (
                "154 182 0:57 /sys /proc/sys ro,relatime - proc proc rw\n\
                 155 182 0:25 /systemd/inaccessible/reg /proc/kcore ro - tmpfs tmpfs rw\n",
                &[],
            ),
            ("154 182 0:57 /sys /proc/sys rw,nosuid,nodev,noexec,relatime - proc proc rw\n", &[]),
            // A host, a live system, `ip netns exec`.
            (
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n22 27 0:21 / /proc rw,relatime - proc proc rw\n",
                &[],
            ),
            ("27 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/run/live/rootfs,upperdir=/run/live/rw\n", &[]),
            ("99 27 254:0 /etc/netns/vpn/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda rw\n", &[]),
            ("nonsense\n1 2 3\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(traces(mountinfo.as_bytes()), expected, "{mountinfo}");
        }
    }

    #[test]
    fn cgroups() {
        for (cgroup, is_runtime, is_other) in [
            ("0::/\n", false, false),
            ("0::/init.scope\n", false, false),
            ("0::/system.slice/docker.service\n", false, false),
            ("0::/user.slice/user-0.slice/session-1.scope\n", false, false),
            ("0::/lxc.payload.web/system.slice/cron.service\n", false, false),
            ("1:cpu:/docker/1802bb22\n0::/docker/1802bb22\n", true, false),
            ("0::/system.slice/docker-1802bb22.scope\n", true, false),
            ("0::/docker/buildkit/j7r9\n", true, false),
            ("0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-1802.scope\n", true, false),
            ("4:memory:/kubepods/burstable/pod12/34\n", true, false),
            ("0::/machine.slice/libpod-9527.scope/container\n", true, false),
            ("0::/../../../init.scope\n", false, true),
            ("0::/..\n", false, true),
            ("", false, false),
            ("nonsense", false, false),
        ] {
            assert_eq!(is_runtime_cgroup(cgroup.as_bytes()), is_runtime, "{cgroup}");
            assert_eq!(is_outside(cgroup.as_bytes()), is_other, "{cgroup}");
        }
    }
}
