//! What a run reports: the profile's template and the caller's values, then the machine's facts, then a record.

use std::time::Instant;

use crate::cli::Request;
use crate::facts::process::Watch;
use crate::facts::time::Time;
use crate::facts::{Fact, Facts};
use crate::host::Host;
use crate::ledger::id::fresh_uuid;
use crate::ledger::{Record, Subject};
use crate::options::Options;
use crate::outcome::{Outcome, Reporter};
use crate::profile::given::GivenError;
use crate::profile::{Once, Profile};
use crate::template::{self, Template, Values};

/// A record in the making.
pub struct Draft<'a> {
    profile: &'a Profile,
    options: &'a Options,
    body: &'a Template,
    values: Values,
}

impl<'a> Draft<'a> {
    /// What the caller's options make of the profile's template.
    ///
    /// # Errors
    /// [`Outcome::Skipped`] where the profile has no record for this, or an ID is missing that the product makes itself;
    /// [`Outcome::Usage`].
    pub fn new(
        request: &Request,
        profile: &'a Profile,
        options: &'a Options,
        host: &Host,
        reporter: &Reporter,
    ) -> Result<Draft<'a>, Outcome> {
        let body = profile.body(options.event.as_deref(), &request.given);
        let body = body.map_err(|why| Outcome::Skipped { why: why.to_string() })?;
        options.place.complete(profile)?;
        let values = values(request, profile, options, body, reporter)?;
        let not_made = options.place.ids.iter().map(|(_, file)| file).filter(|file| !file.rule.is_made);
        match not_made.clone().find(|file| file.id(host).ok().flatten().is_none()) {
            None => Ok(Draft { profile, options, body, values }),
            Some(missing) => {
                let (path, format) = (host.path(&missing.path), missing.rule.format.name());
                Err(Outcome::Skipped { why: format!("{} holds no {format}", path.display()) })
            }
        }
    }

    /// What it reports, as far as doing so once goes.
    pub fn subject(&self) -> Subject<'a> {
        Subject {
            profile: &self.profile.name,
            family: self.options.family.as_deref(),
            version: self.options.version.as_deref(),
            once: self.profile.once,
        }
    }

    /// The product and its version, for people.
    pub fn what(&self) -> String {
        [Some(self.subject().name()), self.subject().version].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Reads from the machine what the record names; a process is watched until `deadline` at most.
    pub fn detect(&mut self, host: &Host, deadline: Instant) {
        let wanted = self.profile.named_facts(self.body);
        self.values.facts.detect(host, &wanted, self.options.pid.map(|pid| Watch { pid, deadline }));
        // A product that counts machines counts one without a machine-id by a number of its own.
        if wanted.contains(&Fact::MachineIdHash) {
            self.values.facts.add(Fact::MachineIdHash, fresh_uuid());
        }
    }

    /// The record under `ids`, of which the first is the instance ID.
    pub fn record(&mut self, host: &Host, ids: &[(Fact, String)]) -> Record {
        let (id, time) = (fresh_uuid(), Time::now(host));
        self.values.facts.add(Fact::RecordUuid, id.as_str());
        self.values.facts.add_time(time);
        for (fact, id) in ids {
            self.values.facts.add(*fact, id.as_str());
        }
        let Subject { profile, family, version, once } = self.subject();
        let instance_id = ids.first().map(|(_, id)| id.clone());
        let line = |(name, value): &(String, Template)| (name.clone(), template::render_line(value, &self.values));
        let mut record = Record::new(id, profile.to_owned(), self.options.endpoint.url().to_owned(), time.in_seconds());
        record.family = family.map(str::to_owned);
        record.version = version.filter(|_| once == Once::Version).map(str::to_owned);
        record.key = self.subject().key(instance_id.as_deref());
        record.instance_id = instance_id;
        record.identity_file = self.options.place.identity_file().map(|file| file.path.clone());
        record.headers = self.profile.headers.iter().map(line).collect();
        record.body = template::render(self.body, &self.values);
        record
    }
}

/// What the caller supplies for a record of `body`.
fn values(
    request: &Request,
    profile: &Profile,
    options: &Options,
    body: &Template,
    reporter: &Reporter,
) -> Result<Values, GivenError> {
    let event = options.event.iter().map(|event| ("event".to_owned(), event.clone()));
    let given: Vec<_> = request.given.iter().cloned().chain(event).collect();
    let supplied = profile.supplied(body, &given)?;
    for ignored in supplied.ignored.iter().filter(|ignored| !ignored.starts_with("--set event:")) {
        reporter.explain(format_args!("{ignored}, so it is left out"));
    }
    let mut facts = Facts::default();
    for (fact, given) in [
        (Fact::ProductFamily, options.family.as_ref()),
        (Fact::ProductVersion, options.version.as_ref()),
        (Fact::Deployment, options.deployment.as_ref()),
        (Fact::OsPrettyName, options.os.as_ref()),
    ] {
        if let Some(value) = given {
            facts.add(fact, value.as_str());
        }
    }
    Ok(Values { facts, given: supplied.values })
}
