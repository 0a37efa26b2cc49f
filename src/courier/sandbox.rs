//! What the courier gives up before it talks to anybody, layer by layer.
//!
//! If this system lacks a layer, that is a remark and no error: with an old kernel, the record is delivered all the
//! same. The courier has one thread, so what holds for the calling thread holds for all of the process.

mod landlock;
mod seccomp;

use std::io;

use rustix::process::{self, DumpableBehavior, Resource, Rlimit, Signal, Uid, geteuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets, Gid};

/// `nobody` and `nogroup` (`nobody`) on every Linux system, whatever /etc/passwd calls them: the kernel's overflow
/// IDs (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

/// Gives up one kind of privilege. Connecting to these TCP ports stays allowed.
type Layer = fn(&[u16]) -> io::Result<()>;

/// All layers by their names, in the order in which they have to be entered: none takes away what a later one needs.
pub const LAYERS: [(&str, Layer); 4] =
    [("credentials", credentials), ("limits", limits), ("landlock", landlock::enter), ("seccomp", seccomp::enter)];

/// Gives up everything that can be given up. Connecting to the TCP `ports` stays allowed. Returns a line on the layers
/// that hold, and on those that do not hold in full, and why.
pub fn enter(ports: &[u16]) -> String {
    let layers = LAYERS.map(|(name, enter)| match enter(ports) {
        Ok(()) => name.to_owned(),
        Err(error) => format!("{name} not in full ({error})"),
    });
    format!("sandbox: {}", layers.join(", "))
}

fn credentials(_: &[u16]) -> io::Result<()> {
    let changed = if geteuid().is_root() { become_nobody() } else { Ok(()) };
    thread::set_no_new_privs(true)?;
    // A user other than root may have capabilities as well, from its container or its caller.
    let none = CapabilitySet::empty();
    thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    // These come after the change of user, which resets both. The courier does not outlive its parent. No other process
    // of this user reads its memory, and no core file holds it. The limit below would not keep a core file from a pipe
    // (core(5)).
    process::set_parent_process_death_signal(Some(Signal::KILL))?;
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    changed.map_err(|error| io::Error::other(format!("it cannot become nobody: {error}")))
}

fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(group, group, group)?;
    Ok(thread::set_thread_res_uid(user, user, user)?)
}

fn limits(_: &[u16]) -> io::Result<()> {
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // This forbids threads as well. The courier needs none.
        (Resource::Nproc, 0),
        // Three pipes, and the sockets of name servers and of the endpoint.
        (Resource::Nofile, 64),
        // Bytes: several times what the largest bundle of authorities takes.
        (Resource::As, 128 << 20),
    ] {
        // If the caller's own limit is lower, only root could raise it, so it stays.
        let limit = Some(process::getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit)));
        process::setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    Ok(())
}
