//! What the courier gives up before it talks to anybody, layer by layer.
//!
//! A layer that this system does not have is lost with a remark, not an error: old kernels lose layers, not
//! deliveries. The courier is a process of one thread, so what holds for the calling thread holds for all of it.

mod landlock;
mod seccomp;

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, Uid, geteuid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// `nobody` and `nogroup` (`nobody`) on every Linux system, whatever /etc/passwd calls them: the kernel's overflow
/// IDs (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

/// The address space in bytes: several times what the largest bundle of authorities takes.
const MAX_MEMORY: u64 = 128 << 20;

/// Descriptors: three pipes and a socket an address.
const MAX_FILES: u64 = 64;

/// One thing to give up.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// What it is called in tests.
    pub name: &'static str,
    enter: fn(&[u16]) -> io::Result<String>,
    without: &'static str,
}

/// All layers, in the order in which they have to be entered: none takes away what a later one needs.
pub const LAYERS: [Layer; 6] = [
    Layer { name: "user", enter: user, without: "the courier keeps its user and groups" },
    Layer { name: "capabilities", enter: capabilities, without: "the courier keeps its capabilities" },
    Layer { name: "no_new_privileges", enter: no_new_privileges, without: "executing a file may give privileges" },
    Layer { name: "limits", enter: limits, without: "memory and core files have no limits" },
    Layer {
        name: "landlock",
        enter: landlock::enter,
        without: "the courier may read what its user may read, listen, and connect to any port",
    },
    Layer { name: "seccomp", enter: seccomp::enter, without: "the courier may make any system call" },
];

/// A layer that this system lacks, and the consequence.
#[derive(Debug, thiserror::Error)]
#[error("no {}: {source}: {without}", name.replace('_', " "))]
pub struct LayerError {
    name: &'static str,
    source: io::Error,
    without: &'static str,
}

impl Layer {
    /// Gives it up, but for connecting to the TCP `ports`; says by what, for `--verbose`.
    ///
    /// # Errors
    /// What this system lacks.
    pub fn enter(&self, ports: &[u16]) -> Result<String, LayerError> {
        (self.enter)(ports).map_err(|source| LayerError { name: self.name, source, without: self.without })
    }
}

/// Gives everything up that can be given up, but for connecting to the TCP `ports`. What holds, as one line, and a line for each layer that could not be had.
pub fn enter(ports: &[u16]) -> Vec<String> {
    let (mut held, mut lost) = (Vec::new(), Vec::new());
    for layer in LAYERS {
        match layer.enter(ports) {
            Ok(what) => held.push(what),
            Err(why) => lost.push(format!("sandbox: {why}")),
        }
    }
    lost.insert(0, format!("sandbox: {}", held.join(", ")));
    lost
}

fn user(_: &[u16]) -> io::Result<String> {
    let changed = if geteuid().is_root() { become_nobody() } else { Ok(()) };
    // After the change of user, which resets both: a courier does not outlive its parent, and no other process of
    // this user reads its memory, nor does a core file, which the limit would not keep from a pipe (core(5)).
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    changed?;
    Ok(match geteuid().as_raw() {
        NOBODY => "user nobody".to_owned(),
        other => format!("user {other}"),
    })
}

fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// A user that is not root may have them as well, from its container or its caller.
fn capabilities(_: &[u16]) -> io::Result<String> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok("no capabilities".to_owned())
}

fn no_new_privileges(_: &[u16]) -> io::Result<String> {
    set_no_new_privs(true)?;
    Ok("no new privileges".to_owned())
}

fn limits(_: &[u16]) -> io::Result<String> {
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // No thread either: we have none.
        (Resource::Nproc, 0),
        (Resource::Nofile, MAX_FILES),
        (Resource::As, MAX_MEMORY),
    ] {
        // Where the caller's own limit is lower, only root could raise it.
        let limit = Some(getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit)));
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    Ok("limits".to_owned())
}
