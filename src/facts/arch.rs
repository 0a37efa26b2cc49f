//! Which hardware this runs on, in the kernel's words and in Node's.
//!
//! The answer is the running kernel's (uname(2)), also with `--root`, because no file of a system tree has it.

use std::ffi::CStr;

use rustix::system::Uname;

/// A field of uname(2); `None` if it is empty.
pub fn uname(field: fn(&Uname) -> &CStr) -> Option<String> {
    let uname = rustix::system::uname();
    field(&uname).to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The machine name and the processor type as `uname -mp` prints them on Red Hat systems, where the processor type
/// is the machine name; upstream coreutils would print `unknown` in its place.
pub fn machine_and_processor() -> Option<String> {
    uname(Uname::machine).map(|machine| format!("{machine} {machine}"))
}

/// The same in the words of Node's `process.arch`, for the machines that this program is built for; any other keeps the
/// kernel's word.
pub fn node(machine: &str) -> &str {
    match machine {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_node() {
        for row in ["x86_64 x64", "aarch64 arm64", "s390x s390x", "riscv64 riscv64"] {
            let (machine, word) = row.split_once(' ').unwrap();
            assert_eq!(node(machine), word);
        }
    }
}
