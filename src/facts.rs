//! The closed vocabulary: every fact that a record can hold, by the name that a template uses for it.
//!
//! What is not in [`Fact`] cannot leave a machine, whatever a profile says. There is no host name, user name,
//! address, path, serial number, raw machine-id, command line or environment among them, and none may be added.
//! Detection does not fail: a fact that the machine cannot tell is absent.

pub mod arch;
pub mod deployment;
pub mod os;

use chrono::{DateTime, SecondsFormat};

use crate::host::Host;

/// A fact that a template may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The record's own random UUID; resent with the record.
    RecordUuid,
    /// When the record was made: RFC 3339, UTC, in seconds.
    RecordTime,
    /// The random ID of this installation of the vendor's products.
    InstanceId,
    /// The product, as given.
    ProductFamily,
    /// Its version, as given.
    ProductVersion,
    /// How it was deployed.
    Deployment,
    /// The operating system's name with its version.
    OsPrettyName,
    /// The kernel's machine name and the processor type.
    ArchMachineProcessor,
}

impl Fact {
    const NAMES: [(&'static str, Fact); 8] = [
        ("record.uuid", Fact::RecordUuid),
        ("record.time", Fact::RecordTime),
        ("instance.id", Fact::InstanceId),
        ("product.family", Fact::ProductFamily),
        ("product.version", Fact::ProductVersion),
        ("deployment", Fact::Deployment),
        ("os.pretty_name", Fact::OsPrettyName),
        ("arch.machine_processor", Fact::ArchMachineProcessor),
    ];

    /// The fact that templates call `name`.
    pub fn named(name: &str) -> Option<Fact> {
        Fact::NAMES.iter().find(|(known, _)| *known == name).map(|(_, fact)| *fact)
    }

    /// The name that templates use.
    pub fn name(self) -> &'static str {
        Fact::NAMES[self as usize].0
    }

    /// All names.
    pub fn known() -> Vec<&'static str> {
        Fact::NAMES.iter().map(|(name, _)| *name).collect()
    }

    /// All facts.
    pub fn all() -> impl Iterator<Item = Fact> {
        Fact::NAMES.iter().map(|(_, fact)| *fact)
    }
}

/// Facts with their values; one that is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    values: Vec<(Fact, String)>,
}

impl Facts {
    /// Facts of known values.
    pub fn of<'v>(values: impl IntoIterator<Item = (Fact, &'v str)>) -> Facts {
        Facts { values: values.into_iter().map(|(fact, value)| (fact, value.to_owned())).collect() }
    }

    /// The value of `fact`.
    pub fn get(&self, fact: Fact) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == fact).map(|(_, value)| value.as_str())
    }

    /// Adds a value; one that is there already stays.
    pub fn add(&mut self, fact: Fact, value: impl Into<String>) {
        if self.get(fact).is_none() {
            self.values.push((fact, value.into()));
        }
    }

    /// Reads from the machine those of `wanted` that are not there yet.
    pub fn detect(&mut self, host: &Host, wanted: &[Fact]) {
        for fact in wanted {
            if self.get(*fact).is_some() {
                continue;
            }
            let value = match fact {
                Fact::RecordTime => Some(rfc3339(host.now())),
                Fact::Deployment => {
                    let situation = deployment::Evidence::gather(host).situation();
                    situation.deployment().map(str::to_owned)
                }
                Fact::OsPrettyName => os::pretty_name(host),
                Fact::ArchMachineProcessor => arch::machine_and_processor(),
                // These come from the command line, the ledger and the run itself.
                Fact::RecordUuid | Fact::InstanceId | Fact::ProductFamily | Fact::ProductVersion => None,
            };
            if let Some(value) = value {
                self.values.push((*fact, value));
            }
        }
    }
}

/// A time in seconds since 1970 as RFC 3339 in UTC, any year that the calendar has.
pub fn rfc3339(seconds: i64) -> String {
    // A clock beyond the calendar (the year 262,143) is as good as none.
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_facts_and_back() {
        for (index, (name, fact)) in Fact::NAMES.iter().enumerate() {
            assert_eq!(*fact as usize, index);
            assert_eq!(Fact::named(name), Some(*fact));
            assert_eq!(fact.name(), *name);
        }
        assert_eq!(Fact::named("os.hostname"), None);
    }

    #[test]
    fn times_of_any_clock() {
        for (seconds, text) in [
            (1_698_835_583, "2023-11-01T10:46:23Z"),
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (7_258_118_400, "2200-01-01T00:00:00Z"),
            (i64::MAX, "1970-01-01T00:00:00Z"),
            (i64::MIN, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
