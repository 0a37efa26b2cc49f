//! Which hardware this runs on, in the kernel's words.

/// The machine name and the processor type as `uname -mp` prints them on Red Hat systems, where the processor type
/// is the machine name; upstream coreutils would print `unknown` in its place.
pub fn machine_and_processor() -> Option<String> {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_str().ok().filter(|machine| !machine.is_empty())?;
    Some(format!("{machine} {machine}"))
}
