//! The persistent opt-out: a file that is there. `/etc/install-record/off` is for everything,
//! `/etc/install-record/off.d/PROFILE` for one product.
//!
//! What is in the file does not matter, so that `install -D /dev/null /etc/install-record/off` from a configuration
//! management tool, before anything is installed, is all it takes.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::host::Host;

const DIRECTORY: &str = "etc/install-record";
const FOR_ALL: &str = "off";
const FOR_ONE: &str = "off.d";
const TEXT: &[u8] = b"No install records are sent while this file exists (install-record off).\n";

/// The switch that holds for `profile`, as an absolute path.
pub fn find(host: &Host, profile: &str) -> Option<String> {
    [format!("{DIRECTORY}/{FOR_ALL}"), format!("{DIRECTORY}/{FOR_ONE}/{profile}")].into_iter().find_map(|path| {
        // What keeps us from looking may hide a no.
        host.exists(&path).unwrap_or(true).then(|| format!("/{path}"))
    })
}

/// Switches records off, for one profile or for all; off twice is off.
///
/// # Errors
/// The path that could not be written, with the error.
pub fn off(host: &Host, profile: Option<&str>) -> Result<PathBuf, (PathBuf, Errno)> {
    let (directory, name) = place(profile);
    let path = host.path(&directory).join(name);
    let written = host.directory(&directory, true).and_then(|directory| {
        // Rewriting what is there would touch a file that may be under configuration management.
        if directory.holds(name) { Ok(()) } else { directory.replace(name, TEXT, 0o644) }
    });
    written.map(|()| path.clone()).map_err(|error| (path, error))
}

/// Removes the switch of one profile, or every switch.
///
/// # Errors
/// The path that could not be removed, with the error.
pub fn on(host: &Host, profile: Option<&str>) -> Result<(), (PathBuf, Errno)> {
    let mut switches = vec![place(profile)];
    let each = host.names(format!("{DIRECTORY}/{FOR_ONE}")).unwrap_or_default();
    if profile.is_none() {
        let names = each.iter().filter_map(|name| name.to_str());
        switches.extend(names.map(|name| place(Some(name))));
    }
    for (directory, name) in switches {
        let removed = match host.directory(&directory, false) {
            Ok(opened) => opened.remove(name).map(drop),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| (host.path(&directory).join(name), error))?;
    }
    Ok(())
}

fn place(profile: Option<&str>) -> (String, &str) {
    match profile {
        None => (DIRECTORY.to_owned(), FOR_ALL),
        Some(profile) => (format!("{DIRECTORY}/{FOR_ONE}"), profile),
    }
}
