//! What container runtimes and image builders leave behind and mount.
//!
//! Reads texts of /proc and returns evidence. [`super::deployment`] decides what it means.

use memchr::memmem;

use crate::host::Host;

/// The builder in whose sandbox this is, if any: a program that starts containers only to build images.
pub fn builder(host: &Host, process_one: Option<&str>, mounts: &[Mount]) -> Option<&'static str> {
    // The default host name of BuildKit's RUN steps (solver/llbsolver/ops/exec.go in moby/buildkit), and the file of
    // its executor that each of them gets (executor/oci/resolvconf.go).
    let is_executors = |mount: &Mount| memmem::find(mount[3], b"/executor/resolv").is_some();
    if host.line("proc/sys/kernel/hostname").as_deref() == Some("buildkitsandbox")
        || at(mounts, "/etc/resolv.conf").is_some_and(is_executors)
    {
        return Some("a BuildKit sandbox");
    }
    // rpm-ostree runs scriptlets for the tree of the next boot.
    if process_one == Some("bwrap") && host.may_exist("run/ostree-booted") {
        return Some("an rpm-ostree sandbox");
    }
    // buildah and `podman build` write it for every RUN (run_common.go in containers/buildah), --isolation chroot
    // included, where process 1 may be the host's init; Podman's own names `podman-VERSION` or is empty.
    let containerenv = host.read_or_empty("run/.containerenv", 1 << 20);
    let is_buildah = containerenv.split(|b| *b == b'\n').any(|line| line.starts_with(b"engine=\"buildah"));
    is_buildah.then_some("a buildah sandbox")
}

/// A line of /proc/PID/mountinfo by proc(5), in its fields: `ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE
/// SUPER`.
type Mount<'m> = Vec<&'m [u8]>;

/// The lines of a mountinfo that are whole.
pub fn mounts(mountinfo: &[u8]) -> Vec<Mount<'_>> {
    let lines = mountinfo.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b' ').collect());
    lines.filter(|fields: &Mount| fields.len() > 5).collect()
}

/// Device and root of what is mounted at `/`; the last line is what is seen.
pub fn root(mountinfo: &[u8]) -> Option<(&[u8], &[u8])> {
    mounts(mountinfo).iter().rev().find(|mount| mount[4] == b"/").map(|mount| (mount[2], mount[3]))
}

fn at<'t, 'm>(mounts: &'t [Mount<'m>], point: &str) -> Option<&'t Mount<'m>> {
    mounts.iter().find(|mount| mount[4] == point.as_bytes())
}

/// Whether a part of proc is mounted over itself, read-only: readonlyPaths of the OCI runtime specification, which
/// every engine sets. systemd does the same to services (ProtectKernelTunables=) and in nspawn, and is told apart by
/// what else it mounts: files of its own over other parts of proc, and nspawn's directory for mounts to come (at
/// /run/host/incoming), which is all that there is where the host has no systemd.
pub fn is_masked(mounts: &[Mount]) -> bool {
    let is_read_only = |mount: &Mount| mount[3] == b"/sys" && mount[5].split(|b| *b == b',').any(|o| o == b"ro");
    let parts = [&b"/systemd/inaccessible/"[..], b"/host/inaccessible/", b"/systemd/nspawn/propagate/"];
    let is_of_systemd = |mount: &Mount| parts.iter().any(|part| memmem::find(mount[3], part).is_some());
    at(mounts, "/proc/sys").is_some_and(is_read_only) && !mounts.iter().any(is_of_systemd)
}

/// Whether a container runtime has made some of the mounts.
pub fn are_of_a_runtime(mounts: &[Mount]) -> bool {
    let is_there = |point: &str| at(mounts, point).is_some();
    // `ip netns exec`, packages of resolvers and administrators mount one or two of these as well.
    let names = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].into_iter().all(is_there);
    // The directories of an overlay in the storage of Docker (`…/overlay2/ID/diff`), Podman, CRI-O
    // (`…/containers/storage/overlay/…`) and containerd (`…/io.containerd.snapshotter.v1.overlayfs/…`). Any other
    // overlay says nothing: live systems have one, too.
    let storages = [&b"/overlay2/"[..], b"/containers/storage/overlay/", b"/io.containerd.snapshotter."];
    let is_stored = |options: &&[u8]| storages.iter().any(|storage| memmem::find(options, storage).is_some());
    let layers = at(mounts, "/").and_then(|mount| mount.last()).is_some_and(is_stored);
    // Podman, CRI-O and buildah mount the first of these files (a stray one is no mount), and the kubelet mounts the
    // second (terminationMessagePath).
    names || layers || is_there("/run/.containerenv") || is_there("/dev/termination-log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buildkit_is_known_by_its_resolv_conf_under_any_host_name() {
        let host = Host::new(Some("/nosuch".into()));
        for (source, is_builder) in [
            ("/var/lib/docker/buildkit/executor/resolv.conf", true),
            ("/buildkit/executor/resolv-host.conf", true),
            ("/var/lib/docker/containers/18/resolv.conf", false),
        ] {
            let line = format!("221 181 254:0 {source} /etc/resolv.conf ro - ext4 /dev/vda rw\n");
            assert_eq!(builder(&host, Some("sh"), &mounts(line.as_bytes())).is_some(), is_builder, "{source}");
        }
    }

    /// Lines as the runtimes left them. Bars separate the cases. Fields at the end that do not count are left out.
    #[test]
    fn what_runtimes_mount() {
        const DOCKER: &str = "\
181 149 0:54 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/C2:/var/lib/docker/overlay2/l/OH
221 181 254:0 /var/lib/docker/containers/18/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw,discard
220 181 254:0 /var/lib/docker/containers/18/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw,discard
154 182 0:57 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
";
        // No container: a service that systemd masks (ProtectKernelTunables=), nspawn on a host without systemd, a host, a
        // live system, `ip netns exec`.
        const NONE: &str = "154 182 0:57 /sys /proc/sys ro,relatime - proc proc rw\n\
            155 182 0:25 /systemd/inaccessible/reg /proc/kcore ro - tmpfs tmpfs rw|\
            192 190 0:59 /sys /proc/sys ro,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
            185 183 254:0 /run/systemd/nspawn/propagate/root /run/host/incoming ro,relatime master:10 - ext4 /dev/vda rw|\
            154 182 0:57 /sys /proc/sys rw,nosuid,nodev,noexec,relatime - proc proc rw|\
            27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n22 27 0:21 / /proc rw,relatime - proc proc rw|\
            27 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/run/live/rootfs,upperdir=/run/live/rw|\
            99 27 254:0 /etc/netns/vpn/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda rw\n\
            98 27 254:0 /etc/netns/vpn/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw|nonsense\n1 2 3|";
        const OF_A_RUNTIME: &str = "27 1 0:40 / / rw - overlay overlay rw,lowerdir=/var/lib/containers/storage/overlay/l/A|\
            155 27 0:25 /c /run/.containerenv rw - tmpfs tmpfs rw|155 27 254:0 /c /dev/termination-log rw - ext4 /dev/vda rw";
        for (texts, masked, of_a_runtime) in [
            (DOCKER, true, true),
            ("154 182 0:57 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw", true, false),
            (NONE, false, false),
            (OF_A_RUNTIME, false, true),
        ] {
            for mountinfo in texts.split('|') {
                let mounts = mounts(mountinfo.as_bytes());
                assert_eq!((is_masked(&mounts), are_of_a_runtime(&mounts)), (masked, of_a_runtime), "{mountinfo}");
            }
        }
    }

    #[test]
    fn what_is_mounted_at_the_root() {
        for (mountinfo, expected) in [
            ("27 1 254:0 / / rw - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n", Some(("254:0", "/"))),
            ("1 1 0:1 / / rw - rootfs rootfs rw\n27 1 254:0 /@ / rw - btrfs /dev/vda rw\n", Some(("254:0", "/@"))),
            ("22 27 0:21 / /proc rw - proc proc rw\n", None),
            ("nonsense\n1 2 3\n", None),
            ("", None),
        ] {
            let found = root(mountinfo.as_bytes());
            assert_eq!(found, expected.map(|(device, root)| (device.as_bytes(), root.as_bytes())), "{mountinfo}");
        }
    }
}
