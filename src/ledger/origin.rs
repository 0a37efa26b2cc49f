//! On which machine an instance ID was made, so that a clone does not report as its original.
//!
//! What is kept is a keyed hash (HMAC-SHA-256, RFC 2104) of the instance ID under the machine-id: it tells "the same
//! machine" from "another one" and nothing else, and never leaves the machine.

use ring::hmac;

use crate::facts::machine;
use crate::host::Host;

/// An ID of this machine, machine-id(5), that stays in this process.
pub struct Origin(hmac::Key);

impl Origin {
    /// This machine's; `None` where it has no machine-id yet, as in most containers and freshly made images.
    pub fn of(host: &Host) -> Option<Origin> {
        machine::id(host).map(|id| Origin(hmac::Key::new(hmac::HMAC_SHA256, id.as_bytes())))
    }

    /// The line for `instance_id` in the origins file.
    fn line(&self, instance_id: &str) -> String {
        let tag = hmac::sign(&self.0, format!("install-record {instance_id}").as_bytes());
        let hash: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{instance_id}:{hash}")
    }

    /// Whether `origins` says that `instance_id` was made elsewhere. An ID that it does not know is taken as ours.
    pub fn is_foreign(&self, origins: &str, instance_id: &str) -> bool {
        let known = origins.lines().find(|line| is_of(line, instance_id));
        known.is_some_and(|known| known != self.line(instance_id))
    }

    /// `origins` with `instance_id` as made here, and without `gone`; `None` when that changes nothing.
    pub fn claimed(&self, origins: &str, instance_id: &str, gone: Option<&str>) -> Option<String> {
        let ours = self.line(instance_id);
        let stays = |line: &&str| !is_of(line, instance_id) && !gone.is_some_and(|gone| is_of(line, gone));
        let mut text: String = origins.lines().filter(stays).map(|line| format!("{line}\n")).collect();
        text.push_str(&ours);
        text.push('\n');
        (text != origins).then_some(text)
    }
}

/// `origins` without `instance_id`.
pub fn forgotten(origins: &str, instance_id: &str) -> String {
    origins.lines().filter(|line| !is_of(line, instance_id)).map(|line| format!("{line}\n")).collect()
}

fn is_of(line: &str, instance_id: &str) -> bool {
    line.split_once(':').is_some_and(|(id, _)| id == instance_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";

    fn origin(machine_id: &str) -> Origin {
        Origin(hmac::Key::new(hmac::HMAC_SHA256, machine_id.as_bytes()))
    }

    #[test]
    fn a_clone_is_told_from_its_original() {
        let (here, there) = (origin(&"1".repeat(32)), origin(&"2".repeat(32)));
        assert!(!here.is_foreign("", ID));
        let origins = here.claimed("", ID, None).unwrap();
        assert!(!here.is_foreign(&origins, ID));
        assert!(there.is_foreign(&origins, ID));
        assert_eq!(here.claimed(&origins, ID, None), None);
        assert_eq!(forgotten(&origins, ID), "");
    }

    #[test]
    fn the_machine_id_is_not_in_it() {
        let machine_id = "0123456789abcdef0123456789abcdef";
        assert!(!origin(machine_id).claimed("", ID, None).unwrap().contains(machine_id));
    }

    #[test]
    fn a_new_id_takes_the_place_of_the_one_that_is_gone() {
        let here = origin(&"1".repeat(32));
        let other = "6e5ff5d4-5617-11ee-8c99-0242ac120002";
        let origins = here.claimed("", ID, None).unwrap();
        let after = here.claimed(&origins, other, Some(ID)).unwrap();
        assert!(after.starts_with(other) && !after.contains(ID));
    }
}
