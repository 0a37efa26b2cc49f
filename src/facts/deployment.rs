//! How the product got here, and whether "here" is an installation at all or an image being built.
//!
//! Evidence first, then a verdict: [`Evidence::gather`] reads, [`Evidence::verdict`] is a pure table. The calling
//! context outranks process 1, and process 1 outranks files. What can be left behind or inherited (a file such as
//! /.dockerenv, a variable, a cgroup's name) is weak evidence: a virtual machine that was made from a container image
//! has a /.dockerenv. What only a runtime can have made for this very process (its mounts) is strong evidence. Only
//! both together make an application container. What cannot be seen never makes an image build look like an
//! installation.

use std::{ffi::OsStr, fs, os::unix::fs::MetadataExt};

use super::{container, container::mounts, package_manager};
use crate::host::{Host, processes::PROCESS_ONE};

/// The inode of the initial PID namespace, `PROC_PID_INIT_INO` in the kernel's include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Names under which an init runs as process 1 (comm, proc(5)). Containers' reapers (tini, dumb-init, docker-init,
/// podman-init, catatonit, s6-svscan, pause) are none of them.
const INITS: [&str; 5] = ["systemd", "init", "openrc-init", "runit", "dinit"];

/// Managers of system containers, by the name that they give process 1 in `container=` (the table in systemd's
/// src/basic/virt.c). Every other name (podman, docker, oci, …) is an application container's.
const SYSTEM_CONTAINERS: [&str; 5] = ["lxc", "lxc-libvirt", "systemd-nspawn", "openvz", "wsl"];

/// How much of a table in /proc is looked at. A container has some 40 mounts.
const MAX_TABLE: usize = 1 << 20;

/// Where this run happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A host, a virtual machine or a system container.
    Package,
    /// A running application container.
    Container,
    /// A system tree that does not run yet: no installation.
    ImageBuild,
}

impl Situation {
    /// The word for it on the wire.
    pub fn deployment(self) -> Option<&'static str> {
        match self {
            Situation::Package => Some("PACKAGE"),
            Situation::Container => Some("DOCKER"),
            Situation::ImageBuild => None,
        }
    }
}

/// A situation, and why it is taken for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is.
    pub situation: Situation,
    /// The row of the table that decided, for an administrator.
    pub because: &'static str,
}

/// What can be seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// dpkg or rpm called us: a maintainer script or scriptlet is among the callers.
    pub maintainer_script: bool,
    /// There is a /proc with processes in it, so the tree is a running system's.
    pub has_proc: bool,
    /// The tree that is being installed into is not `/`: DPKG_ROOT (dpkg(1)), FAKECHROOT_BASE (fakechroot(1), whose
    /// `LD_PRELOAD` a static program does not notice).
    pub foreign_root: bool,
    /// Whoever called the scripts says that the tree is not running: SYSTEMD_OFFLINE (systemd's docs/ENVIRONMENT.md).
    pub is_offline: bool,
    /// The sandbox of a program that does nothing but build images.
    pub builder: Option<&'static str>,
    /// Whether process 1 is an init. If it is this system's own, this is a system, in a container or not. `None` if
    /// /proc does not show it.
    pub is_init: Option<bool>,
    /// Process 1 is outside our cgroup namespace, so it is another system's (`--pid=host`, toolbox). By
    /// cgroup_namespaces(7), its path in /proc/1/cgroup begins with `/..` then.
    pub is_other_cgroup: bool,
    /// Process 1 has another root directory than we, as far as we can see.
    pub is_other_root: bool,
    /// A manager of system containers (LXC, systemd-nspawn) made this one: process 1's `container=`, else
    /// /run/host/container-manager (both systemd's Container Interface).
    pub is_system_container: bool,
    /// This PID namespace is not the first one.
    pub is_pid_namespace: bool,
    /// Weak evidence: what a container runtime leaves, but what can also come from elsewhere.
    pub has_marks: bool,
    /// Strong evidence: a container runtime has mounted things for us.
    pub has_mounts: bool,
    /// A part of proc is mounted over itself, read-only, which is strong evidence as well.
    pub is_masked: bool,
}

impl Evidence {
    /// Reads what there is to see; what cannot be seen is no evidence.
    pub fn gather(host: &Host) -> Evidence {
        let is_set = |name| host.var(name).is_some_and(|value| !value.is_empty());
        let exists = |path| host.exists(path).unwrap_or(false);
        let read = |path| host.read_or_empty(path, MAX_TABLE);
        let name = host.process_name(PROCESS_ONE);
        let manager = container_manager(host);
        let is_system_container = manager.as_deref().is_some_and(|name| SYSTEM_CONTAINERS.contains(&name));
        let is_pid_namespace =
            fs::read_link(host.path("proc/self/ns/pid")).is_ok_and(|ns| ns.as_os_str() != INITIAL_PID_NAMESPACE);
        let (is_other_root, is_other_cgroup) = (is_other_root(host), container::is_outside(&read("proc/1/cgroup")));
        // Docker's daemon makes /.dockerenv in every container (daemon/initlayer in moby), also for the RUN of a
        // classic build. Podman (without --read-only), CRI-O and buildah make /run/.containerenv. The kubelet sets the
        // variable in all of a pod.
        let has_marks = exists(".dockerenv") || exists("run/.containerenv") || is_set("KUBERNETES_SERVICE_HOST")
            // Podman's name is `podman`; images of Red Hat bring `oci`.
            || manager.is_some() && !is_system_container
            // This is seen only without a cgroup namespace. A chroot or another container inside has it, too.
            || container::is_runtime_cgroup(&read("proc/self/cgroup"));
        // A host can have thousands of mounts, and there they are not needed.
        let is_odd = is_pid_namespace || is_other_cgroup || is_other_root || has_marks;
        let mountinfo = if is_odd { read("proc/self/mountinfo") } else { Vec::new() };
        let mounts = mounts(&mountinfo);
        let builder = container::builder(host, name.as_deref(), &mounts);
        let has_mounts = container::are_of_a_runtime(&mounts);
        Evidence {
            maintainer_script: package_manager::is_calling(host),
            has_proc: exists("proc/1") || exists("proc/self"),
            foreign_root: is_set("DPKG_ROOT") || is_set("FAKECHROOT_BASE"),
            is_offline: host.var("SYSTEMD_OFFLINE").is_some_and(|value| is_true(&value)),
            builder,
            is_init: name.map(|name| is_init(&name, has_mounts && !is_system_container)),
            is_other_cgroup,
            is_other_root,
            is_system_container,
            is_pid_namespace,
            has_marks,
            has_mounts,
            is_masked: container::is_masked(&mounts),
        }
    }

    /// The verdict of the table in docs/containers.md. The first row that fits decides.
    pub fn verdict(&self) -> Verdict {
        use Situation::{Container, ImageBuild, Package};
        let script = self.maintainer_script;
        let is_init = self.is_init == Some(true);
        let is_ours = !self.is_other_cgroup && !self.is_other_root;
        let is_unbooted = self.is_pid_namespace && !is_init;
        let unbooted = "a maintainer script where process 1 is no init: a container that has not booted";
        let rows = [
            (!self.has_proc, ImageBuild, "there is no /proc, so nothing runs in this tree"),
            (self.builder.is_some(), ImageBuild, self.builder.unwrap_or_default()),
            (self.foreign_root, ImageBuild, "DPKG_ROOT or FAKECHROOT_BASE: packages go into another root"),
            (self.is_offline, ImageBuild, "SYSTEMD_OFFLINE: this tree is not running"),
            (script && self.is_init.is_none(), ImageBuild, "a maintainer script that cannot see process 1"),
            (script && self.is_other_root, ImageBuild, "a maintainer script in a chroot: process 1 has another root"),
            (script && is_unbooted, ImageBuild, unbooted),
            (is_init && is_ours, Package, "process 1 is this system's own init"),
            (script && self.is_in_runtime(), ImageBuild, "a maintainer script in an application container"),
            (self.is_system_container && is_ours, Package, "a system container (LXC, systemd-nspawn and the like)"),
            (self.is_in_runtime(), Container, "an application container: a runtime has mounted things for it"),
        ];
        let row = rows.into_iter().find(|(fits, ..)| *fits);
        let (_, situation, because) = row.unwrap_or((true, Package, "no container runtime has mounted anything here"));
        Verdict { situation, because }
    }

    /// A PID namespace alone is no container: unshare(1) and service managers make them too. Where process 1 is another
    /// system's, masks are enough, because a chroot has none.
    fn is_in_runtime(&self) -> bool {
        let is_elsewhere = self.is_other_cgroup || self.is_other_root;
        (self.is_pid_namespace || self.has_marks) && (self.has_mounts || self.is_masked)
            || is_elsewhere && self.is_masked
    }

    /// Whether this is inside an application container, whoever calls, or a builder's sandbox.
    pub fn is_container(&self) -> bool {
        let by_hand = Evidence { maintainer_script: false, ..self.clone() };
        self.builder.is_some() || by_hand.verdict().situation == Situation::Container
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
    let mountinfo = |path| host.read_or_empty(path, MAX_TABLE);
    let (one, ours) = (mountinfo("proc/1/mountinfo"), mountinfo("proc/self/mountinfo"));
    let (one, ours) = (mounts(&one), mounts(&ours));
    container::root(&one).is_some() && container::root(&one) != container::root(&ours)
}

/// Whether process 1 is an init, by its name. WSL's own is `init(Ubuntu)`, with the distribution's name. In an
/// application container, a program of the image can have such a name, often /init. Only systemd is believed there.
fn is_init(name: &str, is_in_runtime: bool) -> bool {
    name == "systemd" || !is_in_runtime && (INITS.contains(&name) || name.starts_with("init("))
}

/// The name in process 1's variable `container=`, else in the file that says the same. The file is needed because
/// systemd-nspawn's stub init forgets its environment, and because another user's environment cannot be read.
fn container_manager(host: &Host) -> Option<String> {
    let block = host.process_environ(PROCESS_ONE).unwrap_or_default();
    let value = block.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"container="));
    let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
    value.or_else(|| host.line("run/host/container-manager")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/containers.md, with evidence as it was seen in the real environments of tests/system.
    #[test]
    fn verdicts() {
        use Situation::{Container, ImageBuild, Package};
        let one = |name: &str| Evidence { has_proc: true, is_init: Some(name == "systemd"), ..Evidence::default() };
        let host = one("systemd");
        let unshare = Evidence { is_pid_namespace: true, ..one("bash") };
        let runc = Evidence { is_masked: true, ..unshare.clone() };
        let docker = Evidence { has_marks: true, has_mounts: true, ..unshare.clone() };
        let nspawn = Evidence { is_system_container: true, ..runc.clone() };
        let stray = |evidence: &Evidence| Evidence { has_marks: true, ..evidence.clone() };
        let chroot = |evidence: &Evidence| Evidence { is_other_root: true, ..evidence.clone() };
        // With --pid=host, process 1 is the host's, and so is its root.
        let shared = |evidence: &Evidence| {
            chroot(&Evidence { is_pid_namespace: false, is_init: Some(true), ..evidence.clone() })
        };
        let hidden = Evidence { is_init: None, ..host.clone() };
        for (what, evidence, by_hand, script) in [
            ("a host", host.clone(), Package, Package),
            ("a host with a stray /.dockerenv", stray(&host), Package, Package),
            ("a host whose process 1 is hidden", hidden, Package, ImageBuild),
            ("a virtual machine with its own process 1 and a stray one", stray(&one("launcher")), Package, Package),
            ("unshare --pid", unshare.clone(), Package, ImageBuild),
            ("unshare --pid with a stray one", stray(&unshare), Package, ImageBuild),
            ("docker run", docker.clone(), Container, ImageBuild),
            ("plain runc", runc.clone(), Container, ImageBuild),
            ("docker run of systemd", Evidence { is_init: Some(true), ..docker.clone() }, Package, Package),
            ("docker run --pid=host", Evidence { is_other_cgroup: true, ..shared(&docker) }, Container, ImageBuild),
            ("docker run --pid=host --cgroupns=host", shared(&docker), Container, ImageBuild),
            ("runc with the host's PID and cgroup namespaces", shared(&runc), Container, ImageBuild),
            ("nspawn without an init", nspawn.clone(), Package, ImageBuild),
            ("nspawn with a stray /.dockerenv", stray(&nspawn), Package, ImageBuild),
            ("LXC, nspawn --boot", Evidence { is_init: Some(true), ..nspawn.clone() }, Package, Package),
            ("no /proc", Evidence::default(), ImageBuild, ImageBuild),
            ("a chroot", chroot(&host), Package, ImageBuild),
            ("a chroot in an unshare", chroot(&unshare), Package, ImageBuild),
            ("DPKG_ROOT", Evidence { foreign_root: true, ..host.clone() }, ImageBuild, ImageBuild),
            ("offline", Evidence { is_offline: true, ..host.clone() }, ImageBuild, ImageBuild),
            ("BuildKit", Evidence { builder: Some("BuildKit"), ..runc.clone() }, ImageBuild, ImageBuild),
            ("buildah, chroot", Evidence { builder: Some("buildah"), ..host.clone() }, ImageBuild, ImageBuild),
        ] {
            for (maintainer_script, expected) in [(false, by_hand), (true, script)] {
                let evidence = Evidence { maintainer_script, ..evidence.clone() };
                assert_eq!(evidence.verdict().situation, expected, "{what}, maintainer script: {maintainer_script}");
                let is_container = by_hand == Container || evidence.builder.is_some();
                assert_eq!(evidence.is_container(), is_container, "{what}");
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
