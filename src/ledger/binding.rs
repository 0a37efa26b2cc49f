//! On which machine an instance ID was made, so that a clone does not report as its original.
//!
//! What is kept is a keyed hash (HMAC-SHA-256, RFC 2104) of the instance ID under the machine-id. It tells "the same
//! machine" from "another one" and nothing else, and never leaves the machine. What cannot be read is "not known".

use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

use crate::facts::machine;
use crate::host::Host;

/// The most IDs that are remembered; the oldest go first.
const MAX_BINDINGS: usize = 256;

/// The version of the format. Before it, the file was called `origins` and had lines `ID:HASH`.
const FORMAT: u32 = 1;

/// An ID of this machine, machine-id(5), that stays in this process.
pub struct MachineBinding(hmac::Key);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bound {
    /// SHA-256 of the instance ID.
    id: String,
    /// The keyed hash.
    machine: String,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bindings {
    format: u32,
    bound: Vec<Bound>,
}

impl Bindings {
    /// Reads the file, or that of an earlier version. What is damaged is not known.
    pub fn parse(bytes: &[u8], legacy: &[u8]) -> Bindings {
        let known = serde_json::from_slice::<Bindings>(bytes).ok().filter(|known| known.format == FORMAT);
        known.unwrap_or_else(|| {
            let is_whole = |hash: &&str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let lines = str::from_utf8(legacy).unwrap_or_default().lines();
            let bound = lines.filter_map(|line| {
                let (id, machine) = line.split_once(':').filter(|(_, hash)| is_whole(hash))?;
                Some(Bound { id: hash_of(id), machine: machine.to_owned() })
            });
            Bindings { format: FORMAT, bound: bound.collect() }
        })
    }

    /// Whether `instance_id` was made on another machine. An ID that is not known is taken as made here.
    pub fn is_foreign(&self, here: &MachineBinding, instance_id: &str) -> bool {
        let known = self.bound.iter().find(|bound| bound.id == hash_of(instance_id));
        known.is_some_and(|known| known.machine != here.hash(instance_id))
    }

    /// Notes that `instance_id` was made here; false when that was known.
    pub fn bind(&mut self, here: &MachineBinding, instance_id: &str) -> bool {
        let new = Bound { id: hash_of(instance_id), machine: here.hash(instance_id) };
        if self.bound.contains(&new) {
            return false;
        }
        self.forget(instance_id);
        self.bound.push(new);
        self.bound.drain(..self.bound.len().saturating_sub(MAX_BINDINGS));
        true
    }

    /// Forgets `instance_id`; false when it was not known.
    pub fn forget(&mut self, instance_id: &str) -> bool {
        let (count, id) = (self.bound.len(), hash_of(instance_id));
        self.bound.retain(|bound| bound.id != id);
        self.bound.len() < count
    }

    /// The file's bytes; `None` where there is nothing to remember.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        (!self.bound.is_empty()).then(|| serde_json::to_vec(self).unwrap_or_default())
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

/// SHA-256 (FIPS 180-4) in hexadecimal digits.
pub fn hash_of(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        let mut bindings = Bindings::parse(b"", b"");
        assert!(!bindings.is_foreign(&here, ID));
        assert!(bindings.bind(&here, ID) && !bindings.bind(&here, ID));
        let bytes = bindings.to_bytes().unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(ID));
        let mut again = Bindings::parse(&bytes, b"");
        assert!(!again.is_foreign(&here, ID) && again.is_foreign(&there, ID));
        assert!(again.forget(ID) && !again.forget(ID) && again.to_bytes().is_none());
    }

    #[test]
    fn what_is_damaged_is_not_known_and_never_another_machine() {
        let (here, there) = (machine('1'), machine('2'));
        let line = format!("{ID}:{}\n", there.hash(ID));
        assert!(Bindings::parse(b"", line.as_bytes()).is_foreign(&here, ID), "the earlier version's file");
        for end in 0..line.len() - 1 {
            assert!(!Bindings::parse(b"", &line.as_bytes()[..end]).is_foreign(&here, ID), "{end}");
        }
        let mut bindings = Bindings::parse(b"", b"");
        bindings.bind(&there, ID);
        let bytes = bindings.to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(!Bindings::parse(&bytes[..end], b"").is_foreign(&here, ID), "{end}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let here = machine('1');
        let mut bindings = Bindings::parse(b"", b"");
        for number in 0..1000 {
            bindings.bind(&here, &number.to_string());
        }
        assert_eq!(bindings.bound.len(), MAX_BINDINGS);
        assert!(!bindings.bind(&here, "999") && bindings.bind(&here, "0"));
    }
}
