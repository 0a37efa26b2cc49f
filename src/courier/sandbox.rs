//! What the courier gives up before it talks to anybody.
//!
//! All of it holds for the calling thread, which is the whole courier when it is a process of its own, and only its
//! own part where it has to be a thread. A layer that this system does not have is lost with a remark, not an error.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, geteuid, set_parent_process_death_signal, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustix::{process, thread};

/// `nobody` and `nogroup` (`nobody`) on every Linux system, whatever /etc/passwd calls them: the kernel's overflow
/// IDs (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

/// Drops what can be dropped; what could not be, with the consequence.
pub fn enter() -> Vec<String> {
    let mut lost = Vec::new();
    let mut layer = |result: Result<(), Errno>, consequence: &str| {
        if let Err(error) = result {
            lost.push(format!("{error}: {consequence}"));
        }
    };
    // No core file of a process that may hold a proxy's password.
    layer(
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }),
        "the courier may leave a core file",
    );
    if geteuid().is_root() {
        layer(become_nobody(), "the courier keeps the user and group that it was started with");
    }
    layer(set_no_new_privs(true), "the courier may gain privileges by executing a file");
    // After the change of user, which resets it: a courier does not outlive its parent.
    layer(set_parent_process_death_signal(Some(Signal::KILL)), "the courier may outlive a parent that is killed");
    lost
}

fn become_nobody() -> Result<(), Errno> {
    let (user, group) = (process::Uid::from_raw(NOBODY), thread::Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}
