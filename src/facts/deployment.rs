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
        Evidence {
            // deb-postinst(5): dpkg sets it for every maintainer script.
            maintainer_script: is_set("DPKG_MAINTSCRIPT_PACKAGE") || is_rpm_scriptlet(host),
            foreign_root: is_set("DPKG_ROOT"),
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

/// rpm sets no variable of its own; its scriptlets are run from a file in /var/tmp, by rpm or by what links librpm.
fn is_rpm_scriptlet(host: &Host) -> bool {
    host.ancestors().into_iter().any(|process| {
        process.arguments(host).is_some_and(|arguments| {
            arguments.split(|b| *b == 0).any(|argument| argument.starts_with(b"/var/tmp/rpm-tmp."))
        })
    })
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
        assert!(build(script(&Evidence { is_buildkit: true, ..host })));
    }
}
