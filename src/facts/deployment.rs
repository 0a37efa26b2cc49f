//! How the product got here, and whether "here" is an installation at all or an image being built.
//!
//! Evidence first, then a verdict: [`Evidence::gather`] reads, [`Evidence::situation`] is a pure table. The calling
//! context outranks process 1, which outranks marker files; a stray /.dockerenv alone proves nothing, because a
//! virtual machine that was made from a container image has one.

use std::ffi::OsStr;

use crate::host::Host;

/// The inode of the initial PID namespace, `PROC_PID_INIT_INO` in the kernel's include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Names under which an init runs as process 1 (comm, proc(5)). Containers' reapers (tini, dumb-init, docker-init,
/// catatonit, pause) are none of them.
const INITS: [&str; 4] = ["systemd", "init", "openrc-init", "runit"];

/// Programs that run scriptlets through librpm (comm, proc(5)), zypper's and PackageKit's included: libzypp starts
/// %posttrans itself, from a file of its own.
const RPM_PROGRAMS: [&str; 12] = [
    "rpm",
    "dnf",
    "dnf-3",
    "dnf-automatic",
    "dnf5",
    "dnf5daemon-serv",
    "microdnf",
    "packagekitd",
    "tdnf",
    "yum",
    "zypp-rpm",
    "zypper",
];

/// Where this run happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A host, a virtual machine or a system container.
    Package,
    /// A running application container.
    Container,
    /// A maintainer script while an image is built, by the evidence named: no installation yet.
    ImageBuild(&'static str),
}

impl Situation {
    /// The word for it on the wire.
    pub fn deployment(self) -> Option<&'static str> {
        match self {
            Situation::Package => Some("PACKAGE"),
            Situation::Container => Some("DOCKER"),
            Situation::ImageBuild(_) => None,
        }
    }
}

/// What can be seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// dpkg or rpm called us: a maintainer script or scriptlet is among the callers.
    pub maintainer_script: bool,
    /// dpkg works on a tree that is not `/` (DPKG_ROOT, dpkg(1)).
    pub foreign_root: bool,
    /// The tree is not a running system's: whoever called the scripts says so (SYSTEMD_OFFLINE, systemd's
    /// docs/ENVIRONMENT.md; mkosi and rpm-ostree set it), or rpm-ostree did.
    pub is_offline: bool,
    /// /proc shows process 1.
    pub has_process_one: bool,
    /// Process 1 is an init: this is a system, contained or not.
    pub process_one_is_init: bool,
    /// Process 1 has another root directory than we: a chroot. `None`: not ours to see.
    pub is_chroot: Option<bool>,
    /// This PID namespace is not the first one.
    pub is_pid_namespace: bool,
    /// A container runtime has left its mark: /run/.containerenv (Podman), /.dockerenv (Docker),
    /// KUBERNETES_SERVICE_HOST (kubelet), process 1's `container=` (systemd's Container Interface).
    pub has_container_mark: bool,
    /// BuildKit's RUN steps all have this host name.
    pub is_buildkit: bool,
}

impl Evidence {
    /// Reads what there is to see; what cannot be seen is no evidence.
    pub fn gather(host: &Host) -> Evidence {
        let is_set = |name| host.var(name).is_some_and(|value| !value.is_empty());
        let one = host.process_one();
        let one_name = one.name(host);
        let namespace = host.link("proc/self/ns/pid");
        let mark = |path| host.exists(path).unwrap_or(false);
        let is_ostree_compose = one_name.as_deref() == Some("bwrap") && mark("run/ostree-booted");
        Evidence {
            // deb-postinst(5): dpkg sets it for every maintainer script.
            maintainer_script: is_set("DPKG_MAINTSCRIPT_PACKAGE") || is_ostree_compose || is_rpm_scriptlet(host),
            foreign_root: is_set("DPKG_ROOT"),
            is_offline: is_ostree_compose || host.var("SYSTEMD_OFFLINE").is_some_and(|value| value == "1"),
            has_process_one: one_name.is_some(),
            process_one_is_init: one_name.is_some_and(|name| INITS.contains(&name.as_str())),
            is_chroot: host.file_id("proc/1/root/.").zip(host.file_id(".")).map(|(one, ours)| one != ours),
            is_pid_namespace: namespace.is_some_and(|ns| ns != OsStr::new(INITIAL_PID_NAMESPACE)),
            has_container_mark: mark(".dockerenv")
                || mark("run/.containerenv")
                || is_set("KUBERNETES_SERVICE_HOST")
                || one
                    .environ(host)
                    .bytes()
                    .is_some_and(|block| block.split(|b| *b == 0).any(|entry| entry.starts_with(b"container="))),
            is_buildkit: rustix::system::uname().nodename().to_bytes() == b"buildkitsandbox",
        }
    }

    /// The verdict of the contract's table "Where it runs".
    pub fn situation(&self) -> Situation {
        if self.maintainer_script {
            if self.foreign_root {
                return Situation::ImageBuild("dpkg works on another root (DPKG_ROOT)");
            }
            if self.is_offline {
                return Situation::ImageBuild("a maintainer script in a tree that is not running");
            }
            if self.is_buildkit {
                return Situation::ImageBuild("a BuildKit sandbox");
            }
            if !self.has_process_one {
                return Situation::ImageBuild("a maintainer script in a tree without /proc");
            }
            if self.is_chroot == Some(true) {
                return Situation::ImageBuild("a maintainer script in a chroot");
            }
            // A PID namespace alone is no container: unshare(1) and service managers make them too.
            if self.is_application_container() && self.has_container_mark {
                return Situation::ImageBuild("a maintainer script in an application container");
            }
            return Situation::Package;
        }
        if self.is_application_container() { Situation::Container } else { Situation::Package }
    }

    fn is_application_container(&self) -> bool {
        self.has_process_one && !self.process_one_is_init && (self.is_pid_namespace || self.has_container_mark)
    }
}

/// rpm sets no variable of its own. It runs a scriptlet from a file `rpm-tmp.XXXXXX` in its %_tmppath, /var/tmp as a
/// rule (rpmMkTempFile, the same from rpm 4.14 to 4.20); a scriptlet in Lua is no process, and has only the name of the
/// program that runs it. Which name that is says nothing for a program that links librpm itself, Ansible for example.
fn is_rpm_scriptlet(host: &Host) -> bool {
    host.ancestors().into_iter().any(|process| {
        process.name(host).is_some_and(|name| RPM_PROGRAMS.contains(&name.as_str()))
            || process.arguments(host).is_some_and(|arguments| arguments.split(|b| *b == 0).any(is_scriptlet_file))
    })
}

/// An absolute path whose last name is `rpm-tmp.` and six letters or digits.
fn is_scriptlet_file(argument: &[u8]) -> bool {
    let Some(slash) = argument.iter().rposition(|b| *b == b'/') else { return false };
    let is_random = |end: &[u8]| end.len() == 6 && end.iter().all(u8::is_ascii_alphanumeric);
    argument.starts_with(b"/") && argument[slash + 1..].strip_prefix(b"rpm-tmp.").is_some_and(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Situation::{Container, ImageBuild, Package};
        let host = Evidence { has_process_one: true, process_one_is_init: true, ..Evidence::default() };
        let container = Evidence {
            has_process_one: true,
            is_pid_namespace: true,
            has_container_mark: true,
            is_chroot: Some(false),
            ..Evidence::default()
        };
        let script = |evidence: &Evidence| Evidence { maintainer_script: true, ..evidence.clone() };
        let build = |evidence: Evidence| matches!(evidence.situation(), ImageBuild(_));
        for (what, evidence, expected) in [
            ("by hand on a host", host.clone(), Package),
            ("postinst on a host", script(&host), Package),
            (
                "postinst on a host with a stray /.dockerenv",
                script(&Evidence { has_container_mark: true, ..host.clone() }),
                Package,
            ),
            (
                "a system container",
                script(&Evidence { is_pid_namespace: true, has_container_mark: true, ..host.clone() }),
                Package,
            ),
            ("an entrypoint", container.clone(), Container),
            ("an entrypoint, plain runc", Evidence { has_container_mark: false, ..container.clone() }, Container),
            (
                "postinst under unshare --pid",
                script(&Evidence { has_container_mark: false, ..container.clone() }),
                Package,
            ),
            ("no /proc, by hand", Evidence::default(), Package),
        ] {
            assert_eq!(evidence.situation(), expected, "{what}");
        }
        assert!(build(script(&container)));
        assert!(build(script(&Evidence::default())), "an installroot has no /proc");
        assert!(build(script(&Evidence { is_chroot: Some(true), ..host.clone() })));
        assert!(build(script(&Evidence { foreign_root: true, ..host.clone() })));
        assert!(build(script(&Evidence { is_offline: true, ..host.clone() })));
        assert!(build(script(&Evidence { is_buildkit: true, ..host })));
    }

    #[test]
    fn scriptlet_files() {
        for (argument, expected) in [
            ("/var/tmp/rpm-tmp.eYqbTF", true),
            ("/srv/t m p/rpm-tmp.0aZ9zz", true),
            ("/rpm-tmp.abcdef", true),
            ("rpm-tmp.abcdef", false),
            ("/var/tmp/rpm-tmp.abcdefg", false),
            ("/var/tmp/rpm-tmp.abc/x", false),
            ("/var/tmp/rpm-tmp.", false),
            ("", false),
        ] {
            assert_eq!(is_scriptlet_file(argument.as_bytes()), expected, "{argument}");
        }
    }
}
