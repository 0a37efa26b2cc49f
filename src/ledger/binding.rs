//! Remembers on which machine an instance ID was made, so that a clone does not report as its original.
//!
//! What is kept is a keyed hash (HMAC-SHA-256, RFC 2104) of the instance ID under the machine-id. It tells "the same
//! machine" from "another one" and nothing else, and never leaves the machine. What cannot be read is "not known".

use ring::hmac;

use crate::{facts::machine, facts::machine::hash_of, facts::machine::hex, host::Host};

/// A key made of machine-id(5), which stays in this process.
pub struct MachineBinding(hmac::Key);

impl MachineBinding {
    /// This machine's; `None` where it has no machine-id yet, as in most containers and freshly made images.
    pub fn of(host: &Host) -> Option<MachineBinding> {
        machine::id(host).map(|id| MachineBinding(hmac::Key::new(hmac::HMAC_SHA256, id.as_bytes())))
    }

    /// The line that says that `instance_id` was made here: its SHA-256, a colon, and the keyed hash.
    pub fn line(&self, instance_id: &str) -> String {
        let keyed = hmac::sign(&self.0, format!("install-record {instance_id}").as_bytes());
        format!("{}:{}", hash_of(instance_id), hex(keyed.as_ref()))
    }

    /// Whether one of the lines says that `instance_id` was made on another machine. An ID that is not known is taken as
    /// made here. A damaged line does not count.
    pub fn is_foreign(&self, lines: &[String], instance_id: &str) -> bool {
        let own = self.line(instance_id);
        let is_whole = |line: &str| line.len() == own.len() && line.bytes().all(|b| b == b':' || b.is_ascii_hexdigit());
        lines.iter().find(|line| line.starts_with(&own[..64]) && is_whole(line)).is_some_and(|line| *line != own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";

    fn machine(id: char) -> MachineBinding {
        MachineBinding(hmac::Key::new(hmac::HMAC_SHA256, id.to_string().repeat(32).as_bytes()))
    }

    #[test]
    fn a_clone_is_told_from_its_original() {
        let (here, there) = (machine('1'), machine('2'));
        assert!(!here.is_foreign(&[], ID));
        let lines = ["other", ID].map(|id| here.line(id));
        assert!(!lines.concat().contains(ID));
        assert!(!here.is_foreign(&lines, ID) && there.is_foreign(&lines, ID));
        assert!(!there.is_foreign(&lines, "unknown"));
    }

    #[test]
    fn what_is_damaged_is_not_known_and_never_another_machine() {
        let (here, line) = (machine('1'), machine('2').line(ID));
        assert!(here.is_foreign(std::slice::from_ref(&line), ID));
        for end in 0..line.len() {
            assert!(!here.is_foreign(&[line[..end].to_owned()], ID), "{end}");
            let damaged = format!("{}?{}", &line[..end], &line[end + 1..]);
            assert!(!here.is_foreign(&[damaged], ID), "{end}");
        }
    }
}
