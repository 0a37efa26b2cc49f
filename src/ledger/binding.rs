//! Remembers on which machine an instance ID was made, so that a clone does not report as its original.
//!
//! What is kept is a keyed hash (HMAC-SHA-256, RFC 2104) of the instance ID under the machine-id. It tells "the same
//! machine" from "another one" and nothing else, and never leaves the machine. What cannot be read is "not known".

use ring::hmac;

use crate::{facts::machine, facts::machine::hash_of, facts::machine::hex, host::Host};

/// The most IDs that are remembered; the oldest go first.
const MAX_BINDINGS: usize = 256;

/// A key made of machine-id(5), which stays in this process.
pub struct MachineBinding(hmac::Key);

/// The file's content, the oldest first: lines of the SHA-256 of an instance ID, a colon, and the keyed hash.
#[derive(Debug, PartialEq, Eq)]
pub struct Bindings(Vec<(String, String)>);

impl Bindings {
    /// Reads the file, line by line. Damaged lines are passed over.
    pub fn parse(bytes: &[u8]) -> Bindings {
        let is_hash = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lines = String::from_utf8_lossy(bytes);
        let bound = lines.lines().filter_map(|line| {
            let (id, machine) = line.split_once(':').filter(|(id, machine)| is_hash(id) && is_hash(machine))?;
            Some((id.to_owned(), machine.to_owned()))
        });
        Bindings(bound.collect())
    }

    /// Whether `instance_id` was made on another machine. An ID that is not known is taken as made here.
    pub fn is_foreign(&self, here: &MachineBinding, instance_id: &str) -> bool {
        let (id, machine) = (hash_of(instance_id), here.hash(instance_id));
        self.0.iter().find(|(known, _)| *known == id).is_some_and(|(_, known)| *known != machine)
    }

    /// Notes that `instance_id` was made here; false when that was known.
    pub fn bind(&mut self, here: &MachineBinding, instance_id: &str) -> bool {
        let new = (hash_of(instance_id), here.hash(instance_id));
        if self.0.contains(&new) {
            return false;
        }
        self.forget(instance_id);
        self.0.push(new);
        self.0.drain(..self.0.len().saturating_sub(MAX_BINDINGS));
        true
    }

    /// Forgets `instance_id`.
    pub fn forget(&mut self, instance_id: &str) {
        self.0.retain(|(id, _)| *id != hash_of(instance_id));
    }

    /// The file's bytes; none where there is nothing to remember.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(id, machine)| format!("{id}:{machine}\n").into_bytes()).collect()
    }
}

impl MachineBinding {
    /// This machine's; `None` where it has no machine-id yet, as in most containers and freshly made images.
    pub fn of(host: &Host) -> Option<MachineBinding> {
        machine::id(host).map(|id| MachineBinding(hmac::Key::new(hmac::HMAC_SHA256, id.as_bytes())))
    }

    fn hash(&self, instance_id: &str) -> String {
        hex(hmac::sign(&self.0, format!("install-record {instance_id}").as_bytes()).as_ref())
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
        let mut bindings = Bindings::parse(b"");
        assert!(!bindings.is_foreign(&here, ID));
        assert!(bindings.bind(&here, ID) && !bindings.bind(&here, ID));
        let bytes = bindings.to_bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains(ID));
        let mut again = Bindings::parse(&bytes);
        assert!(!again.is_foreign(&here, ID) && again.is_foreign(&there, ID));
        again.forget(ID);
        assert!(again.to_bytes().is_empty());
    }

    #[test]
    fn what_is_damaged_is_not_known_and_never_another_machine() {
        let (here, there) = (machine('1'), machine('2'));
        let mut bindings = Bindings::parse(b"");
        bindings.bind(&there, ID);
        let bytes = bindings.to_bytes();
        assert!(Bindings::parse(&bytes).is_foreign(&here, ID));
        for end in 0..bytes.len() - 1 {
            assert!(!Bindings::parse(&bytes[..end]).is_foreign(&here, ID), "{end}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let here = machine('1');
        let mut bindings = Bindings::parse(b"");
        for number in 0..1000 {
            bindings.bind(&here, &number.to_string());
        }
        assert_eq!(bindings.0.len(), MAX_BINDINGS);
        assert!(!bindings.bind(&here, "999") && bindings.bind(&here, "0"));
    }
}
