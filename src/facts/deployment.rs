//! How the product got here, and whether "here" is an installation at all or an image being built.
//!
//! Evidence first, then a verdict: [`Evidence::gather`] reads, [`Evidence::verdict`] is a pure table. The calling
//! context outranks process 1, which outranks files. What can be left behind or inherited (a file such as /.dockerenv,
//! a variable, a cgroup's name) is a mark and proves nothing alone: a virtual machine that was made from a container
//! image has a /.dockerenv. What only a runtime can have made for this very process (its mounts) is a trace. An
//! application container is a mark or a PID namespace, and a trace.

use std::ffi::OsStr;
use std::fmt;

use crate::host::Host;

/// The inode of the initial PID namespace, `PROC_PID_INIT_INO` in the kernel's include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Names under which an init runs as process 1 (comm, proc(5)). Containers' reapers (tini, dumb-init, docker-init,
/// podman-init, catatonit, s6-svscan, pause) are none of them. For `init`, see [`is_init`].
const INITS: [&str; 4] = ["systemd", "openrc-init", "runit", "dinit"];

/// Managers of system containers, by the name that they give process 1 in `container=` (the table in systemd's
/// src/basic/virt.c). Every other name (podman, docker, oci, …) is an application container's.
const SYSTEM_CONTAINERS: [&str; 5] = ["lxc", "lxc-libvirt", "systemd-nspawn", "openvz", "wsl"];

/// How much of a mount table is looked at; a container's has some 40 lines.
const MAX_MOUNTS: usize = 1 << 20;

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

/// A situation, and why it is taken for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is.
    pub situation: Situation,
    /// The row of the table that decided.
    pub because: &'static str,
}

/// What can be seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// dpkg or rpm called us: a maintainer script or scriptlet is among the callers.
    pub maintainer_script: bool,
    /// The tree that is being installed into is not `/`: DPKG_ROOT (dpkg(1)), FAKECHROOT_BASE (fakechroot(1), whose
    /// `LD_PRELOAD` a static program does not notice).
    pub foreign_root: bool,
    /// The tree is not a running system's: whoever called the scripts says so (SYSTEMD_OFFLINE, systemd's
    /// docs/ENVIRONMENT.md; mkosi and rpm-ostree set it), or rpm-ostree did.
    pub is_offline: bool,
    /// The sandbox of a program that does nothing but build images: BuildKit's host name, buildah's /run/.containerenv.
    pub builder: Option<&'static str>,
    /// /proc shows process 1, under this name (comm, proc(5)).
    pub process_one: Option<String>,
    /// Process 1 is an init: if it is ours, this is a system, contained or not.
    pub process_one_is_init: bool,
    /// Process 1 lives outside our cgroup namespace: it is another system's, seen through a shared PID namespace
    /// (`--pid=host`, `hostPID`, toolbox). cgroup_namespaces(7): its path in /proc/1/cgroup begins with `/..` then.
    pub is_other_process_one: bool,
    /// Process 1 has another root directory than we: a chroot. `None`: not ours to see.
    pub is_chroot: Option<bool>,
    /// A manager of system containers (LXC, systemd-nspawn) made this one: process 1's `container=`, else
    /// /run/host/container-manager (both systemd's Container Interface).
    pub is_system_container: bool,
    /// This PID namespace is not the first one.
    pub is_pid_namespace: bool,
    /// What a container runtime leaves and what can also be a stray.
    pub marks: Vec<&'static str>,
    /// What a container runtime has mounted for us.
    pub traces: Vec<&'static str>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.situation.deployment() {
            Some(deployment) => write!(f, "{deployment}, {}", self.because),
            None => write!(f, "none while an image is built: {}", self.because),
        }
    }
}

impl Evidence {
    /// Reads what there is to see; what cannot be seen is no evidence.
    pub fn gather(host: &Host) -> Evidence {
        let is_set = |name| host.var(name).is_some_and(|value| !value.is_empty());
        let exists = |path| host.exists(path).unwrap_or(false);
        let process_one = host.process_one().name(host);
        let namespace = host.link("proc/self/ns/pid");
        let is_ostree_compose = process_one.as_deref() == Some("bwrap") && exists("run/ostree-booted");
        let manager = container_manager(host);
        let is_system_container = manager.as_deref().is_some_and(|name| SYSTEM_CONTAINERS.contains(&name));

        let mut marks = Vec::new();
        let mut mark = |is_there: bool, name| {
            if is_there {
                marks.push(name);
            }
        };
        // Docker's daemon makes it in every container (daemon/initlayer in moby), a classic build's RUN included;
        // BuildKit takes it away again.
        mark(exists(".dockerenv"), "/.dockerenv");
        // Podman, CRI-O and buildah (podman-run(1)); Podman does not with --read-only.
        mark(exists("run/.containerenv"), "/run/.containerenv");
        // Podman: `podman`; images of Red Hat bring `oci`.
        mark(manager.is_some() && !is_system_container, "container= of process 1");
        // Set by the kubelet in every container of a pod, enableServiceLinks or not.
        mark(is_set("KUBERNETES_SERVICE_HOST"), "KUBERNETES_SERVICE_HOST");
        let cgroup = host.read("proc/self/cgroup", 16 << 10).bytes().unwrap_or_default();
        // Only without a cgroup namespace; and a chroot or another container inside has it, too.
        mark(is_runtime_cgroup(&cgroup), "cgroup of a container runtime");

        let is_pid_namespace = namespace.is_some_and(|ns| ns != OsStr::new(INITIAL_PID_NAMESPACE));
        // A host can have thousands of mounts, and nobody asks for them there.
        let traces = if is_pid_namespace || !marks.is_empty() {
            traces(&host.read("proc/self/mountinfo", MAX_MOUNTS).bytes().unwrap_or_default())
        } else {
            Vec::new()
        };
        Evidence {
            // deb-postinst(5): dpkg sets it for every maintainer script.
            maintainer_script: is_set("DPKG_MAINTSCRIPT_PACKAGE") || is_ostree_compose || is_rpm_scriptlet(host),
            foreign_root: is_set("DPKG_ROOT") || is_set("FAKECHROOT_BASE"),
            is_offline: is_ostree_compose || host.var("SYSTEMD_OFFLINE").is_some_and(|value| value == "1"),
            builder: builder(host),
            process_one_is_init: process_one.as_deref().is_some_and(|name| is_init(host, name)),
            process_one,
            is_other_process_one: is_outside(&host.read("proc/1/cgroup", 16 << 10).bytes().unwrap_or_default()),
            is_chroot: host.file_id("proc/1/root/.").zip(host.file_id(".")).map(|(one, ours)| one != ours),
            is_system_container,
            is_pid_namespace,
            marks,
            traces,
        }
    }

    /// The verdict of the contract's table "Where it runs"; the first row that fits is it.
    pub fn verdict(&self) -> Verdict {
        let image_build = |because| Verdict { situation: Situation::ImageBuild(because), because };
        // Nothing is installed for good in there, whoever calls.
        if let Some(builder) = self.builder {
            return image_build(builder);
        }
        if self.maintainer_script {
            if self.foreign_root {
                return image_build("a maintainer script for another root (DPKG_ROOT, fakechroot)");
            }
            if self.is_offline {
                return image_build("a maintainer script in a tree that is not running");
            }
            if self.process_one.is_none() {
                return image_build("a maintainer script in a tree without /proc");
            }
            if self.is_chroot == Some(true) {
                return image_build("a maintainer script in a chroot");
            }
        }
        let has_own_init = self.process_one_is_init && !self.is_other_process_one && self.is_chroot != Some(true);
        let package = |because| Verdict { situation: Situation::Package, because };
        if has_own_init {
            return package("process 1 is an init");
        }
        if self.is_system_container {
            return package("a system container");
        }
        // A PID namespace alone is no container: unshare(1) and service managers make them too.
        if (self.is_pid_namespace || !self.marks.is_empty()) && !self.traces.is_empty() {
            if self.maintainer_script {
                return image_build("a maintainer script in an application container");
            }
            return Verdict { situation: Situation::Container, because: "an application container" };
        }
        package("no container runtime has mounted anything here")
    }

    /// Whether this is inside an application container, whoever calls, or a builder's sandbox.
    pub fn is_container(&self) -> bool {
        let by_hand = Evidence { maintainer_script: false, ..self.clone() };
        by_hand.situation() != Situation::Package
    }

    /// The verdict without its reason.
    pub fn situation(&self) -> Situation {
        self.verdict().situation
    }
}

/// What was seen, in words, the strongest first.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process 1: {}", self.process_one.as_deref().unwrap_or("none"))?;
        for (is_there, what) in [
            (self.maintainer_script, "called by a package manager"),
            (self.foreign_root, "DPKG_ROOT or FAKECHROOT_BASE"),
            (self.is_offline, "the caller says offline"),
            (self.is_other_process_one, "process 1 is outside our cgroups"),
            (self.is_chroot == Some(true), "process 1 has another root"),
            (self.is_system_container, "process 1 is a system container's"),
            (self.is_pid_namespace, "a PID namespace"),
        ] {
            if is_there {
                write!(f, ", {what}")?;
            }
        }
        self.traces.iter().chain(&self.marks).try_for_each(|what| write!(f, ", {what}"))
    }
}

/// `init` is also what a shell script /init is called (s6-overlay's images have one), and then the interpreter is the
/// first argument. WSL's is `init(Ubuntu)`, with the distribution's name.
fn is_init(host: &Host, name: &str) -> bool {
    if name != "init" {
        return INITS.contains(&name) || name.starts_with("init(");
    }
    // sysvinit overwrites its arguments: `init [3]`.
    let arguments = host.process_one().arguments(host).unwrap_or_default();
    let first = arguments.split(|b| *b == 0 || *b == b' ').next().unwrap_or_default();
    first.is_empty() || first == b"init" || first.ends_with(b"/init")
}

/// The name that process 1 got in `container=`, else the file that says the same: systemd-nspawn's stub init forgets its
/// environment, and another user's cannot be read.
fn container_manager(host: &Host) -> Option<String> {
    let block = host.process_one().environ(host).bytes().unwrap_or_default();
    let value = block.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"container="));
    let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
    value.or_else(|| host.line("run/host/container-manager")).filter(|name| !name.is_empty())
}

/// Programs that start containers only to build images, and say so.
fn builder(host: &Host) -> Option<&'static str> {
    // The default host name of BuildKit's RUN steps (solver/llbsolver/ops/exec.go in moby/buildkit).
    if host.line("proc/sys/kernel/hostname").as_deref() == Some("buildkitsandbox") {
        return Some("a BuildKit sandbox");
    }
    // buildah and `podman build` write it for every RUN (run_common.go in containers/buildah), --isolation chroot
    // included, where process 1 may be the host's init; Podman's own names `podman-VERSION` or is empty.
    let containerenv = host.read("run/.containerenv", 4096).bytes().unwrap_or_default();
    let is_buildah = containerenv.split(|b| *b == b'\n').any(|line| line.starts_with(b"engine=\"buildah"));
    is_buildah.then_some("a buildah sandbox")
}

/// A cgroup that a runtime of application containers has named (cgroups(7): `ID:CONTROLLERS:PATH`). Not docker.service,
/// which is the daemon.
fn is_runtime_cgroup(cgroup: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"docker", b"buildkit", b"libpod_parent"];
    const PREFIXES: [&[u8]; 6] = [b"docker-", b"kubepods", b"libpod-", b"crio-", b"cri-containerd-", b"buildah-"];
    let paths = cgroup.split(|b| *b == b'\n').filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    paths.flat_map(|path| path.split(|b| *b == b'/')).any(|name| {
        NAMES.contains(&name)
            || (PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with(b".service"))
    })
}

fn is_outside(cgroup: &[u8]) -> bool {
    let mut paths = cgroup.split(|b| *b == b'\n').filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    paths.any(|path| path == b"/.." || path.starts_with(b"/../"))
}

/// What container runtimes mount, by proc(5), /proc/PID/mountinfo:
/// `ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER`.
fn traces(mountinfo: &[u8]) -> Vec<&'static str> {
    const NAMES: [&[u8]; 3] = [b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf"];
    let (mut names, mut is_masked, mut is_image, mut is_marked, mut is_pod) = (0, false, false, false, false);
    for line in mountinfo.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let (Some(root), Some(point), Some(options)) = (fields.get(3), fields.get(4), fields.get(5)) else { continue };
        let is_read_only = options.split(|b| *b == b',').any(|option| option == b"ro");
        match *point {
            // Podman's, CRI-O's and buildah's is a mount of its own; a stray one is a file.
            b"/run/.containerenv" => is_marked = true,
            // kubelet, terminationMessagePath of every container.
            b"/dev/termination-log" => is_pod = true,
            // readonlyPaths of the OCI runtime specification, which every engine sets: a part of proc over itself.
            b"/proc/sys" => is_masked |= *root == b"/sys" && is_read_only,
            b"/" => is_image |= is_image_storage(fields.last().copied().unwrap_or_default()),
            point => names += usize::from(NAMES.contains(&point)),
        }
    }
    [
        // One alone is also what `ip netns exec` and a resolver's packages do.
        (names >= 2, "the names of host and network are mounts"),
        (is_masked, "/proc/sys is masked"),
        (is_image, "/ is an image's layers"),
        (is_marked, "/run/.containerenv is a mount"),
        (is_pod, "/dev/termination-log is a mount"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| is_there.then_some(what))
    .collect()
}

/// The directories of an overlay in the storage of Docker (`…/overlay2/ID/diff`), Podman, CRI-O
/// (`…/containers/storage/overlay/…`) and containerd (`…/io.containerd.snapshotter.v1.overlayfs/…`). Any other overlay
/// says nothing: live systems have one, too.
fn is_image_storage(options: &[u8]) -> bool {
    [&b"/overlay2/"[..], b"/containers/storage/overlay/", b"/io.containerd.snapshotter."]
        .iter()
        .any(|part| options.windows(part.len()).any(|window| window == *part))
}

/// rpm sets no variable of its own. It runs a scriptlet from a file `rpm-tmp.XXXXXX` in its %_tmppath, /var/tmp as a
/// rule (rpmMkTempFile, the same from rpm 4.14 to 4.20); a scriptlet in Lua is no process, and has only the name of the
/// program that runs it. Which name that is says nothing for a program that links librpm itself, Ansible for example.
fn is_rpm_scriptlet(host: &Host) -> bool {
    host.ancestors().processes.iter().any(|process| {
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

    const MASKED: &str = "/proc/sys is masked";

    /// The contract's table, by evidence as it was seen in the real environments of tests/system/docker.sh.
    #[test]
    fn verdicts() {
        use Situation::{Container, ImageBuild, Package};
        let one = |name: &str| Evidence { process_one: Some(name.to_owned()), ..Evidence::default() };
        let host = Evidence { process_one_is_init: true, is_chroot: Some(false), ..one("systemd") };
        let unshare = Evidence { is_pid_namespace: true, is_chroot: Some(false), ..one("bash") };
        let runc = Evidence { traces: vec![MASKED], ..unshare.clone() };
        let docker = Evidence {
            marks: vec!["/.dockerenv"],
            traces: vec!["the names of host and network are mounts"],
            ..unshare.clone()
        };
        let nspawn = Evidence { is_system_container: true, ..runc.clone() };
        let stray = |evidence: &Evidence| Evidence { marks: vec!["/.dockerenv"], ..evidence.clone() };
        let shared = |evidence: &Evidence| Evidence { is_pid_namespace: false, ..evidence.clone() };
        let build = ImageBuild("");
        for (what, evidence, by_hand, script) in [
            ("a host", host.clone(), Package, Package),
            ("a host with a stray /.dockerenv", stray(&host), Package, Package),
            ("a virtual machine with its own process 1 and a stray one", stray(&one("launcher")), Package, Package),
            ("unshare --pid", unshare.clone(), Package, Package),
            ("unshare --pid with a stray one", stray(&unshare), Package, Package),
            ("docker run", docker.clone(), Container, build),
            ("plain runc", runc.clone(), Container, build),
            ("docker run of systemd", Evidence { process_one_is_init: true, ..docker.clone() }, Package, Package),
            (
                "docker run --pid=host",
                Evidence { process_one_is_init: true, is_other_process_one: true, ..shared(&docker) },
                Container,
                build,
            ),
            (
                "docker run --pid=host --privileged",
                Evidence { process_one_is_init: true, is_chroot: Some(true), ..shared(&docker) },
                Container,
                build,
            ),
            ("nspawn without an init", nspawn.clone(), Package, Package),
            ("LXC", Evidence { process_one_is_init: true, ..nspawn.clone() }, Package, Package),
            ("nspawn with a stray /.dockerenv", stray(&nspawn), Package, Package),
            ("no /proc", Evidence::default(), Package, build),
            ("a chroot", Evidence { is_chroot: Some(true), ..host.clone() }, Package, build),
            ("a chroot in an unshare", Evidence { is_chroot: Some(true), ..unshare.clone() }, Package, build),
            ("DPKG_ROOT", Evidence { foreign_root: true, ..host.clone() }, Package, build),
            ("offline", Evidence { is_offline: true, ..host.clone() }, Package, build),
            ("BuildKit", Evidence { builder: Some("a BuildKit sandbox"), ..runc.clone() }, build, build),
            ("buildah, chroot", Evidence { builder: Some("a buildah sandbox"), ..host.clone() }, build, build),
        ] {
            for (maintainer_script, expected) in [(false, by_hand), (true, script)] {
                let evidence = Evidence { maintainer_script, ..evidence.clone() };
                let found = match evidence.verdict().situation {
                    ImageBuild(_) => build,
                    other => other,
                };
                assert_eq!(found, expected, "{what}, maintainer script: {maintainer_script}");
                assert_eq!(evidence.is_container(), by_hand != Package, "{what}");
            }
        }
    }

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
