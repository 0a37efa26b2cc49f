//! What "the same report" means, so that it is made once.

use serde::{Deserialize, Serialize};

use crate::{facts::machine::hash_of, profile::Once};

/// What must not be reported twice: a hash of profile, instance ID and family, and of the version where each counts.
/// The first 16 digits are of the profile, by which `forget` finds its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReportKey(pub(super) String);

impl ReportKey {
    fn new(profile: &str, text: &str) -> ReportKey {
        ReportKey(format!("{}{}", &hash_of(profile)[..16], &hash_of(text)[..48]))
    }

    /// Reads a line of the list; `None` for what is no key.
    pub(super) fn parse(line: &str) -> Option<ReportKey> {
        (line.len() == 64).then(|| ReportKey(line.to_owned()))
    }

    pub(super) fn is_of(&self, profile: &str) -> bool {
        self.0.starts_with(&hash_of(profile)[..16])
    }
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

impl<'a> Subject<'a> {
    /// The product's name, for people. Without families, it is the profile's name.
    pub fn name(&self) -> &'a str {
        self.family.unwrap_or(self.profile)
    }

    /// What must not be reported twice under `id`; `None` where every call is a report of its own.
    pub fn key(&self, id: Option<&str>) -> Option<ReportKey> {
        let version = self.version.map(|version| format!(":{version}")).unwrap_or_default();
        let (id, family) = (id.unwrap_or_default(), self.family.unwrap_or_default());
        let key = ReportKey::new(self.profile, &format!("{}:{id}:{family}{version}", self.profile));
        Some(key).filter(|_| self.once != Once::Call)
    }
}
