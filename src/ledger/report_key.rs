//! What "the same report" means, so that it is made once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::IdentityFile;
use super::binding::hash_of;
use crate::profile::{IdLocation, Once};

/// What must not be reported twice: a hash of profile, instance ID and family, and of the version where each counts.
/// The first 16 digits are of the profile, by which `forget` finds its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReportKey(String);

impl ReportKey {
    /// The key of a report; without a version where it does not count.
    pub fn of(profile: &str, id: &str, family: &str, version: &str) -> ReportKey {
        let colon = if version.is_empty() { "" } else { ":" };
        ReportKey::of_text(profile, &format!("{profile}:{id}:{family}{colon}{version}"))
    }

    /// The same from the text of which earlier versions kept a list.
    pub(super) fn of_text(profile: &str, text: &str) -> ReportKey {
        ReportKey(format!("{}{}", &hash_of(profile)[..16], &hash_of(text)[..48]))
    }

    /// Reads a line of the list; `None` for what is no key.
    pub(super) fn parse(line: &str) -> Option<ReportKey> {
        match line.split_once(':') {
            Some((profile, _)) => Some(ReportKey::of_text(profile, line)),
            None => (line.len() == 64).then(|| ReportKey(line.to_owned())),
        }
    }

    pub(super) fn is_of(&self, profile: &str) -> bool {
        self.0.starts_with(&hash_of(profile)[..16])
    }
}

impl fmt::Display for ReportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is reported, as far as doing so once goes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The product family, where there is one.
    pub family: Option<&'a str>,
    /// Its version, where there is one.
    pub version: Option<&'a str>,
    /// How often it is reported.
    pub once: Once,
}

impl<'a> Subject<'a> {
    /// The product, for people: one without families is its profile's.
    pub fn name(&self) -> &'a str {
        self.family.unwrap_or(self.profile)
    }

    /// What must not be reported twice under `id`; `None` where every call is a report of its own.
    pub fn key(&self, id: Option<&str>) -> Option<ReportKey> {
        let version = match self.once {
            Once::Call => return None,
            Once::Family => "",
            Once::Version => self.version.unwrap_or_default(),
        };
        Some(ReportKey::of(self.profile, id.unwrap_or_default(), self.family.unwrap_or_default(), version))
    }

    /// The family whose line in `file` says that it was reported, where files of that kind have such lines.
    pub(super) fn line<'f>(&'f self, file: Option<&IdentityFile>) -> Option<&'f str> {
        let has_lines = file.is_some_and(|file| matches!(file.rule.location, IdLocation::Line { .. }));
        self.family.filter(|_| has_lines && self.once == Once::Family)
    }
}
