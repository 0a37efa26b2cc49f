//! How the product got here, and whether "here" is an installation at all or an image being built.
//!
//! Evidence first, then a verdict: [`Evidence::gather`] reads, [`Evidence::verdict`] is a pure table. The calling
//! context outranks process 1, and process 1 outranks mounts. What can be left behind or inherited (a file such as
//! /.dockerenv, a variable, a cgroup's name) is no evidence of a container: a virtual machine that was made from a
//! container image has a /.dockerenv. Only what a runtime can have made for this very process counts: its mounts. What
//! cannot be seen never makes an image build look like an installation.

use std::{ffi::OsStr, fs, os::unix::fs::MetadataExt};

use super::{container, package_manager};
use crate::host::Host;

/// The inode of the initial PID namespace, `PROC_PID_INIT_INO` in the kernel's include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Names under which an init runs as process 1 (comm, proc(5)). Containers' reapers (tini, dumb-init, docker-init,
/// podman-init, catatonit, s6-svscan, pause) are none of them.
const INITS: [&str; 5] = ["systemd", "init", "openrc-init", "runit", "dinit"];

/// The largest table of mounts that is looked at. A container has some 40 mounts.
const MAX_TABLE: usize = 16 << 20;

/// Where this run happens, by the word for it on the wire. There is none for what is no installation.
pub type Situation = Option<&'static str>;

/// A host, a virtual machine or a system container.
pub const PACKAGE: Situation = Some("PACKAGE");

/// A running application container.
pub const CONTAINER: Situation = Some("DOCKER");

/// A system tree that does not run yet.
pub const IMAGE_BUILD: Situation = None;

/// What can be seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// dpkg or rpm called us: a maintainer script or scriptlet is among the callers.
    pub maintainer_script: bool,
    /// There is a /proc with processes in it, so the tree is a running system's.
    pub has_proc: bool,
    /// Whoever called says that packages go into a tree that is not running: DPKG_ROOT (dpkg(1)), FAKECHROOT_BASE
    /// (fakechroot(1), whose `LD_PRELOAD` a static program does not notice), SYSTEMD_OFFLINE (systemd's
    /// docs/ENVIRONMENT.md).
    pub is_offline: bool,
    /// The sandbox of a program that does nothing but build images.
    pub builder: Option<&'static str>,
    /// Whether process 1 is an init. If it is this system's own, this is a system, in a container or not. `None` if
    /// /proc does not show it.
    pub is_init: Option<bool>,
    /// Process 1 has another root directory than we, as far as we can see.
    pub is_other_root: bool,
    /// This PID namespace is not the first one.
    pub is_pid_namespace: bool,
    /// A runtime of application containers has mounted things for us.
    pub is_in_runtime: bool,
}

impl Evidence {
    /// Reads what there is to see; what cannot be seen is no evidence.
    pub fn gather(host: &Host) -> Evidence {
        let name = host.line("proc/1/comm");
        let is_other_root = is_other_root(host);
        // The kernel's link, which leads nowhere.
        let pid_namespace = fs::read_link(host.path("proc/self/ns/pid"));
        let is_pid_namespace = pid_namespace.is_ok_and(|link| link.as_os_str() != INITIAL_PID_NAMESPACE);
        // Elsewhere mounts say nothing: `ip netns exec` makes some, too. And a host can have thousands.
        let can_be_container = is_pid_namespace || is_other_root;
        let mountinfo =
            if can_be_container { host.read_or_empty("proc/self/mountinfo", MAX_TABLE) } else { Vec::new() };
        let mounts = container::mounts(&mountinfo);
        let has_mounts = container::are_of_a_runtime(&mounts);
        Evidence {
            maintainer_script: package_manager::is_calling(host),
            has_proc: host.file_id("proc/1").or(host.file_id("proc/self")).is_some(),
            is_offline: ["DPKG_ROOT", "FAKECHROOT_BASE"].iter().any(|name| host.var(name).is_some())
                || host.var("SYSTEMD_OFFLINE").is_some_and(|value| is_true(&value)),
            builder: container::builder(host, name.as_deref(), &mounts),
            is_init: name.map(|name| is_init(&name, has_mounts)),
            is_other_root,
            is_pid_namespace,
            is_in_runtime: has_mounts || container::is_masked(&mounts),
        }
    }

    /// The verdict of the table in docs/containers.md, and why: the row that decided, for an administrator. The first row
    /// that fits decides.
    pub fn verdict(&self) -> (Situation, &'static str) {
        let script = self.maintainer_script;
        let is_init = self.is_init == Some(true);
        let is_unbooted = self.is_pid_namespace && !is_init;
        let unbooted = "a maintainer script where process 1 is no init: a container that has not booted";
        let rows = [
            (!self.has_proc, IMAGE_BUILD, "there is no /proc, so nothing runs in this tree"),
            (self.builder.is_some(), IMAGE_BUILD, self.builder.unwrap_or_default()),
            (self.is_offline, IMAGE_BUILD, "DPKG_ROOT, FAKECHROOT_BASE or SYSTEMD_OFFLINE: this tree is not running"),
            (script && self.is_init.is_none(), IMAGE_BUILD, "a maintainer script that cannot see process 1"),
            (script && self.is_other_root, IMAGE_BUILD, "a maintainer script in a chroot: process 1 has another root"),
            (script && is_unbooted, IMAGE_BUILD, unbooted),
            (is_init && !self.is_other_root, PACKAGE, "process 1 is this system's own init"),
            (script && self.is_in_runtime, IMAGE_BUILD, "a maintainer script in an application container"),
            (self.is_in_runtime, CONTAINER, "an application container: a runtime has mounted things for it"),
        ];
        let row = rows.into_iter().find(|(fits, ..)| *fits);
        row.map_or((PACKAGE, "no container runtime has mounted anything here"), |(_, what, because)| (what, because))
    }
}

/// A boolean as systemd reads it (parse_boolean in its src/basic/parse-util.c).
fn is_true(value: &OsStr) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether process 1 has another root directory than we. If we may not look at it, the mounts of both at `/` are
/// compared, which everybody may read. A chroot into a directory has no mount there.
fn is_other_root(host: &Host) -> bool {
    // The kernel's link leads out of `--root`, so it is not resolved inside the root.
    let id = |path| fs::metadata(host.path(path)).ok().map(|it| (it.dev(), it.ino()));
    if let (Some(one), Some(ours)) = (id("proc/1/root/."), id(".")) {
        return one != ours;
    }
    let [one, ours] = ["proc/1/mountinfo", "proc/self/mountinfo"].map(|path| host.read_or_empty(path, MAX_TABLE));
    let one = container::root(&one);
    one.is_some() && one != container::root(&ours)
}

/// Whether process 1 is an init, by its name. WSL's own is `init(Ubuntu)`, with the distribution's name. In an
/// application container, a program of the image can have such a name, often /init. Only systemd is believed there.
fn is_init(name: &str, is_in_runtime: bool) -> bool {
    name == "systemd" || !is_in_runtime && (INITS.contains(&name) || name.starts_with("init("))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/containers.md, with evidence as it was seen in the real environments of tests/system.
    #[test]
    fn verdicts() {
        let one = |name: &str| Evidence { has_proc: true, is_init: Some(name == "systemd"), ..Evidence::default() };
        let host = one("systemd");
        let unshare = Evidence { is_pid_namespace: true, ..one("bash") };
        let docker = Evidence { is_in_runtime: true, ..unshare.clone() };
        let booted = |evidence: &Evidence| Evidence { is_init: Some(true), ..evidence.clone() };
        let chroot = |evidence: &Evidence| Evidence { is_other_root: true, ..evidence.clone() };
        // With --pid=host, process 1 is the host's, and so is its root.
        let shared = chroot(&booted(&Evidence { is_pid_namespace: false, ..docker.clone() }));
        let hidden = Evidence { is_init: None, ..host.clone() };
        for (what, evidence, by_hand, script) in [
            ("a host", host.clone(), PACKAGE, PACKAGE),
            ("a host whose process 1 is hidden", hidden, PACKAGE, IMAGE_BUILD),
            ("a virtual machine with its own process 1", one("launcher"), PACKAGE, PACKAGE),
            ("unshare --pid, nspawn without an init", unshare.clone(), PACKAGE, IMAGE_BUILD),
            ("docker run, plain runc", docker.clone(), CONTAINER, IMAGE_BUILD),
            ("docker run of systemd; LXC, nspawn --boot", booted(&docker), PACKAGE, PACKAGE),
            ("docker run --pid=host, runc with the host's PID and cgroup namespaces", shared, CONTAINER, IMAGE_BUILD),
            ("no /proc", Evidence::default(), IMAGE_BUILD, IMAGE_BUILD),
            ("a chroot", chroot(&host), PACKAGE, IMAGE_BUILD),
            ("a chroot in an unshare", chroot(&unshare), PACKAGE, IMAGE_BUILD),
            ("DPKG_ROOT, offline", Evidence { is_offline: true, ..host.clone() }, IMAGE_BUILD, IMAGE_BUILD),
            ("BuildKit", Evidence { builder: Some("BuildKit"), ..docker.clone() }, IMAGE_BUILD, IMAGE_BUILD),
            ("buildah, chroot", Evidence { builder: Some("buildah"), ..host.clone() }, IMAGE_BUILD, IMAGE_BUILD),
        ] {
            for (maintainer_script, expected) in [(false, by_hand), (true, script)] {
                let evidence = Evidence { maintainer_script, ..evidence.clone() };
                assert_eq!(evidence.verdict().0, expected, "{what}, maintainer script: {maintainer_script}");
            }
        }
    }

    #[test]
    fn booleans_of_systemd() {
        for (values, expected) in [("1|true|YES|On|t|y", true), ("|0|false|no|off|2|junk| 1", false)] {
            for value in values.split('|') {
                assert_eq!(is_true(OsStr::new(value)), expected, "{value:?}");
            }
        }
    }
}
