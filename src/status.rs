//! What `status`, `facts` and `check` print, for people and for machines.

use std::{collections::BTreeMap, collections::BTreeSet};

use rustix::process::geteuid;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::facts::{self, Fact, Facts, deployment::Evidence};
use crate::ledger::{IdentityFile, Journal, Store, identity::load};
use crate::profile::{Once, OptionRule, Source};
use crate::{consent, consent::Refusal, host::path_error::PathError, options::Options, options::Run, outcome::Outcome};

/// What is decided and known for one profile.
#[derive(Clone, Serialize)]
pub struct ProfileState {
    /// Its name.
    pub profile: String,
    /// `send` or `skip`.
    decision: &'static str,
    /// Why.
    reason: &'static str,
    /// Who said no.
    source: Option<String>,
    /// Where records go, if the variable that names it can be used.
    endpoint: Option<String>,
    /// The IDs that are stored: `instance_id`, `project_id`.
    #[serde(flatten)]
    ids: BTreeMap<String, Option<String>>,
    /// Why nothing could be sent or kept.
    problem: Option<String>,
    /// The families that the identity file says were reported.
    reported: Vec<String>,
}

/// The state of this machine. The first profile is at the top level as well: the default one, or the one that was asked
/// for.
#[derive(Serialize)]
pub struct Status {
    #[serde(flatten)]
    pub first: Option<ProfileState>,
    /// The state of each product.
    pub profiles: Vec<ProfileState>,
    /// The records that wait, as they are kept.
    pub pending: Vec<Journal>,
    /// The receipts.
    pub sent: Vec<Journal>,
    /// Why there may be more records and receipts than these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl ProfileState {
    /// The state of one product. `build` is why this is taken for an image that is being built.
    pub fn new(run: Run<'_>, options: &Options, build: Option<&str>) -> ProfileState {
        let (host, rules) = (run.host, &options.profile.consent);
        let refusal = consent::decide(host, rules, run.request.refusal.as_deref(), &run.directories()).err();
        let build = || Some(Refusal::Said(build?.to_owned(), "this is no installation"));
        let (decision, reason, source) = match refusal.or_else(build) {
            None => ("send", "nobody said no", None),
            Some(Refusal::Said(source, reason)) => ("skip", reason, Some(source)),
            Some(Refusal::Unplaced(source)) => ("skip", "this cannot be decided here", Some(source)),
        };
        let id = |(fact, file): &(Fact, IdentityFile)| (fact.replace('.', "_"), file.id(host).ok().flatten());
        let lines = options.identity_file().and_then(|file| Some((load(host, &file.path).ok()?, &file.rule)));
        ProfileState {
            profile: options.profile.name.clone(),
            decision,
            reason,
            source,
            endpoint: options.endpoint.as_ref().ok().map(|endpoint| endpoint.url.clone()),
            ids: options.ids.iter().map(id).collect(),
            problem: can_send(run, options).err().map(|problem| problem.of_command().to_string()),
            reported: lines.iter().flat_map(|(text, rule)| text.reported(rule).map(str::to_owned)).collect(),
        }
    }

    fn line(&self) -> String {
        let source = self.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        let endpoint = self.endpoint.as_deref().unwrap_or("no endpoint that can be used");
        let ids = self.ids.iter().filter_map(|(name, id)| Some(format!("; {name} {}", id.as_ref()?)));
        let reported = self.reported.iter().map(|family| format!("; reported {family}"));
        let more: String = ids.chain(reported).chain(self.problem.iter().map(|it| format!("; {it}"))).collect();
        row(14, &format!("{}:", self.profile), &format!("{}, {}{source}; {endpoint}{more}", self.decision, self.reason))
    }
}

/// What keeps a run from sending, although nobody says no.
fn can_send(run: Run<'_>, options: &Options) -> Result<(), Outcome> {
    let host = run.host;
    options.endpoint.clone()?;
    options.placed(run)?;
    for (_, file) in &options.ids {
        if file.id(host)?.is_none() {
            host.can_write(&file.path).map_err(PathError::at(host.path(&file.path)))?;
        }
    }
    Ok(Store::can_keep(host, options.identity_file())?)
}

impl Status {
    /// For people: a line for each profile, each record that waits, and each receipt.
    pub fn text(&self) -> String {
        let mut text: String = self.profiles.iter().map(ProfileState::line).collect();
        // Only root sees what other users have.
        let nothing = if geteuid().is_root() { "nothing" } else { "nothing that this user may see" };
        for (name, journals) in [("pending:", &self.pending), ("sent:", &self.sent)] {
            text.extend(journals.iter().map(|journal| row(14, name, &about(journal))));
            let nothing = Some(nothing).filter(|_| journals.is_empty());
            text.extend(self.unread.as_deref().or(nothing).map(|what| row(14, name, what)));
        }
        text
    }
}

/// What a record reports, and what came of it.
fn about(Journal { record, attempts, answer, .. }: &Journal) -> String {
    let profile = &record.profile;
    let what = record.family.as_ref().map_or_else(|| profile.clone(), |family| format!("{family} ({profile})"));
    if let Some(answer) = answer {
        let (at, verdict) = (&answer.at, if answer.accepted { "accepted" } else { "refused" });
        return format!("{what} on {at} to {}: {} {verdict}", answer.url, answer.status);
    }
    let tried = attempts.last().map(|it| format!(", failed attempts: {} ({}: {})", attempts.len(), it.phase, it.why));
    format!("{what} of {}, for {}{}", record.created, record.url, tried.unwrap_or_default())
}

/// A row whose name takes `width` places. A profile's words cannot make rows of their own.
fn row(width: usize, name: &str, text: &str) -> String {
    format!("{name:<width$}{}\n", text.replace('\n', "?"))
}

/// Every fact with this machine's value, and the evidence for the deployment. The evidence is no fact, so no record can
/// hold it.
pub fn facts(run: Run<'_>) -> String {
    let (mut facts, because) = (Facts::default(), Evidence::gather(run.host).verdict().1);
    facts::detect(&mut facts, run.host, &facts::names().collect::<Vec<_>>(), None);
    let value = |fact: Fact| (fact, facts.get(fact).cloned().unwrap_or_default());
    let all = facts::names().map(value).chain([("deployment.evidence", because.into())]);
    if run.request.has("json") {
        let all: Map<String, Value> = all.map(|(name, value)| (name.to_owned(), value)).collect();
        return format!("{:#}\n", Value::Object(all));
    }
    all.map(|(name, value)| row(24, name, &if value.is_null() { "-".into() } else { facts::text(&value) })).collect()
}

/// What a reviewer asks of a profile: where to, how often, what can leave, and who can say no how.
pub fn check(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = Source::find(run.host, run.request.profile())?.profile()?;
    let row = |name: &str, text: &str| row(16, name, text);
    let moved_by: String =
        profile.endpoint_variables().into_iter().flatten().map(|name| format!(", moved by {name}")).collect();
    let is_alone = profile.once == Once::Family && *profile.option("product-family") == OptionRule::default();
    let often = format!("once for each {:?}", profile.once).to_lowercase();
    let mut text = row("profile:", &format!("{}, good", profile.name))
        + &row("about:", &profile.about)
        + &row("endpoint:", &(profile.endpoint(|_| None) + &moved_by))
        + &row("sent:", if is_alone { "once, or once for each -f" } else { &often })
        + &row("no by:", &profile.consent.sources().join(", "));
    for (event, body) in profile.bodies() {
        let names: BTreeSet<&str> = profile.names(body).collect();
        let names: Vec<&str> = names.into_iter().collect();
        text += &row(&event.map_or("sends:".to_owned(), |event| format!("{event} sends:")), &names.join(", "));
    }
    Ok(Outcome::printed(text))
}
