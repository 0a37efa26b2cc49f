//! What "the same report" means, so that it is made once.

use crate::{facts::machine::hash_of, profile::Once};

/// The beginning of a profile's keys, by which `forget` finds them.
pub fn beginning(profile: &str) -> String {
    hash_of(profile)[..16].to_owned()
}

/// What is reported, so that it can be told whether it was reported before.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The product family, where there is one.
    pub family: Option<&'a str>,
    /// Its version, where each version is reported.
    pub version: Option<&'a str>,
    /// How often it is reported.
    pub once: Once,
}

impl Subject<'_> {
    /// The key of what must not be reported twice: a hash of profile, instance ID and family, and of the version where
    /// each counts. `None` where every call is a report of its own.
    pub fn key(&self, id: Option<&str>) -> Option<String> {
        let text = [Some(self.profile), id, self.family, self.version].map(Option::unwrap_or_default).join(":");
        (self.once != Once::Call).then(|| beginning(self.profile) + &hash_of(&text)[..48])
    }
}
