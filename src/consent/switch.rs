//! The persistent opt-out: a file that is there. `/etc/install-record/off` is for everything,
//! `/etc/install-record/off.d/PROFILE` for one product.
//!
//! The content of the file does not matter. So a configuration management tool can switch records off before anything
//! is installed: `install -D /dev/null /etc/install-record/off`.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{fs::FlockOperation, io::Errno};

use crate::host::{Host, directory::Synced, path_error::PathError};

const FOR_ALL: &str = "etc/install-record";
const FOR_ONE: &str = "etc/install-record/off.d";
const TEXT: &[u8] = b"No install records are sent while this file exists (install-record off).\n";

/// The text that the package no-install-record writes. That package removes its own file again, so `off` replaces this
/// text.
const OF_PACKAGE: &[u8] = b"No install records are sent while this file exists (package no-install-record).\n";

/// The switch that holds for `profile`, as an absolute path, and whether it has been seen. One that may be there counts.
pub fn find(host: &Host, profile: &str) -> Option<(String, bool)> {
    [None, Some(profile)].map(place).into_iter().find_map(|(directory, name)| {
        let path = format!("{directory}/{name}");
        // If no directory is in the directory's place, that may be meant as a no.
        let is_directory = host.file_id(directory).is_some();
        let switch = if is_directory { &path } else { directory };
        let found = host.exists(switch);
        (found != Ok(false)).then(|| (format!("/{switch}"), found.is_ok()))
    })
}

/// Tells `off` that a run is under way, as long as this lives: whoever can read /etc can have a shared lock of it. It is
/// taken before consent is asked for the last time. A run that cannot have it goes on.
pub fn under_way(host: &Host) -> Option<OwnedFd> {
    host.directory("etc", false).ok()?.lock(FlockOperation::NonBlockingLockShared).ok()
}

/// Waits for the runs that were under way when the switch was written, whoever's they are.
pub fn wait_for_runs(host: &Host) {
    let _ = host.directory("etc", false).and_then(|etc| etc.lock(FlockOperation::LockExclusive));
}

/// Switches records off, for one profile or for all. It is no error if they are off already.
///
/// # Errors
/// What could not be written.
pub fn off(host: &Host, profile: Option<&str>) -> Result<(), PathError> {
    let (directory, name) = place(profile);
    let written = host.directory(directory, true).and_then(|directory| {
        // A file that is there stays as it is, because it may be under configuration management.
        let is_packages = directory.read(name, OF_PACKAGE.len()).is_ok_and(|text| text.as_deref() == Some(OF_PACKAGE));
        let is_there = directory.holds(name) && !is_packages;
        let written = if is_there { Ok(()) } else { directory.replace(name, TEXT, 0o644, Synced::Name).map(drop) };
        // Another `off` may have been faster, and have removed our unfinished file.
        let written = if directory.holds(name) { Ok(()) } else { written };
        directory.sweep(Some(name.as_ref()));
        written
    });
    written.map_err(PathError::at(host.path(directory).join(name)))
}

/// Removes the switch of one profile, or every switch.
///
/// # Errors
/// What could not be removed.
pub fn on(host: &Host, profile: Option<&str>) -> Result<(), PathError> {
    let each = match host.names(FOR_ONE) {
        // The end tells of that.
        Err(Errno::NOTDIR) => Vec::new(),
        found => found.map_err(PathError::at(host.path(FOR_ONE)))?,
    };
    let others = each.iter().filter_map(|name| name.to_str()).filter(|_| profile.is_none());
    // The switch for all goes last, so that it stays if another one does.
    for (directory, name) in others.map(Some).chain([profile]).map(place) {
        let path = Path::new(directory).join(name);
        let removed = host.directory(directory, false).and_then(|directory| directory.remove(name));
        let removed = if host.may_exist(&path) { removed.and(Err(Errno::ISDIR)) } else { Ok(()) };
        removed.map_err(PathError::at(host.path(path)))?;
    }
    // What stands in the place of a directory is a switch as well, and not ours to remove.
    let mut odd = [FOR_ALL, FOR_ONE].into_iter().filter(|path| host.file_id(path).is_none() && host.may_exist(path));
    odd.next().map_or(Ok(()), |path| Err(PathError::at(host.path(path))(Errno::NOTDIR)))
}

fn place(profile: Option<&str>) -> (&'static str, &str) {
    let directory = if profile.is_some() { FOR_ONE } else { FOR_ALL };
    (directory, profile.unwrap_or("off"))
}
