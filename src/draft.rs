//! What a run reports: the profile's template and the caller's values, then the machine's facts, then a record.

use crate::facts::{self, Fact, process::Watch, time};
use crate::ledger::{FORMAT, Record, Subject};
use crate::template::{Template, Values, render, render_line};
use crate::{id::fresh_uuid, options::Options, options::Run, outcome::Outcome, profile::Once};

/// A record in the making.
pub struct Draft<'a> {
    run: Run<'a>,
    /// What was asked for.
    pub options: &'a Options<'a>,
    /// What it reports, so that it can be told whether that was reported before.
    pub subject: Subject<'a>,
    body: &'a Template,
    values: Values,
}

impl<'a> Draft<'a> {
    /// Begins a record with the caller's options and the profile's template.
    ///
    /// # Errors
    /// [`Outcome::Skipped`] where the profile has no record for this event, or where an ID is missing that the product
    /// itself makes; [`Outcome::Usage`].
    pub fn new(run: Run<'a>, options: &'a Options<'a>) -> Result<Draft<'a>, Outcome> {
        let Options { profile, family, version, deployment, os, event, .. } = options;
        let (name, known) = (&profile.name, &profile.option("product-family").known);
        if let Some(family) = family.as_ref().filter(|family| !known.is_empty() && !known.contains(family)) {
            run.reporter.explain(format_args!("{family}: {name} does not know this family; it is sent all the same"));
        }
        let body = profile.body(event.as_deref(), &run.request.given)?;
        options.placed(run)?;
        let event = event.iter().map(|event| ("event".to_owned(), event.clone()));
        let given: Vec<_> = run.request.given.iter().cloned().chain(event).collect();
        let (mut values, left_out) = profile.supplied(body, &given)?;
        for counter in left_out {
            run.reporter.explain(format_args!("--set {counter}: {name} knows no such counter, so it is left out"));
        }
        let facts = ["product.family", "product.version", "deployment", "os.pretty_name"];
        let given = facts.into_iter().zip([family, version, deployment, os]);
        values.facts = given.filter_map(|(fact, value)| Some((fact, value.as_deref()?.into()))).collect();
        let once = profile.once;
        let version = version.as_deref().filter(|_| once == Once::Version);
        let subject = Subject { profile: name, family: family.as_deref(), version, once };
        Ok(Draft { run, options, subject, body, values })
    }

    /// Reads those facts from the machine that the record names and that are not known yet. A process is watched until
    /// the deadline at most.
    pub fn detect(&mut self) {
        let wanted: Vec<&str> = self.options.profile.names(self.body).collect();
        let watch = self.options.pid.map(|pid| Watch { pid, deadline: self.options.deadline });
        facts::detect(&mut self.values.facts, self.run.host, &wanted, watch);
        // If the machine has no machine-id, a random number takes the place of its hash, so that the product can count
        // it.
        self.values.facts.entry("machine.id_hash").or_insert_with(|| fresh_uuid().into());
    }

    /// The record under `ids`, of which the first is the instance ID.
    pub fn record(&mut self, ids: &[(Fact, String)]) -> Record {
        self.detect();
        let (id, now) = (fresh_uuid(), self.run.host.now());
        self.values.facts.extend([
            ("record.uuid", id.as_str().into()),
            ("record.time", time::in_seconds(now).into()),
            ("record.time_millis", time::in_milliseconds(now).into()),
            ("record.time_epoch", time::epoch(now).into()),
        ]);
        self.values.facts.extend(ids.iter().map(|(fact, id)| (*fact, id.as_str().into())));
        let Subject { profile, family, version, .. } = self.subject;
        let instance_id = ids.first().map(|(_, id)| id.clone());
        let headers = self.options.profile.headers.iter();
        Record {
            format: FORMAT,
            id,
            profile: profile.to_owned(),
            family: family.map(str::to_owned),
            version: version.map(str::to_owned),
            key: self.subject.key(instance_id.as_deref()),
            instance_id,
            identity_file: self.options.identity_file().map(|file| file.path.clone()),
            directories: self.options.directories.clone(),
            url: self.options.endpoint.as_ref().map(|endpoint| endpoint.url.clone()).unwrap_or_default(),
            headers: headers.map(|(name, value)| (name.clone(), render_line(value, &self.values))).collect(),
            created: time::in_milliseconds(now),
            body: render(self.body, &self.values),
        }
    }
}
