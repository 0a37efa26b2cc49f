//! What `status`, `facts` and `check` print, for people and for machines.

use std::collections::BTreeSet;

use rustix::process::geteuid;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::facts::{self, Fact, Facts, deployment::Evidence};
use crate::ledger::{IdentityFile, Journal, Store, View, identity::load};
use crate::profile::{Once, Profile};
use crate::{consent::Permit, consent::Refusal, host::path_error::PathError, options::Options, options::Run};

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
    /// The ID that is stored.
    instance_id: Option<String>,
    /// The ID of the project, where the product has one beside its own.
    project_id: Option<String>,
    /// Why one of these is missing, or why nothing could be kept.
    problem: Option<String>,
    /// What was reported under that ID.
    reported: BTreeSet<String>,
}

/// The state of this machine. The default profile, or the one that was asked for, is at the top level as well.
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
    /// The state of one product; `sent` are the receipts.
    pub fn new(view: View, decision: Result<Permit, Refusal>, options: &Options, sent: &[Journal]) -> ProfileState {
        let (name, file) = (&options.profile.name, options.identity_file());
        let (decision, reason, source) = match decision {
            Ok(_) => ("send", "nobody said no", None),
            Err(Refusal::Said(source, reason)) => ("skip", reason, Some(source)),
            Err(Refusal::Unplaced(source)) => ("skip", "this cannot be decided here", Some(source)),
        };
        let instance_id = file.and_then(|file| own_id(view, file));
        let project = options.ids.iter().find(|(fact, _)| *fact == Fact::ProjectId);
        let second = project.filter(|_| options.profile.identity.len() > 1);
        let own = file.filter(|_| instance_id.is_some());
        let identity = own.and_then(|file| Some((load(view.host, &file.path).ok()?, &file.rule)));
        let lines = identity.iter().flat_map(|(identity, rule)| identity.reported(rule).map(str::to_owned));
        let receipts = sent.iter().filter(|journal| journal.is_accepted()).map(|journal| &journal.record);
        let receipts = receipts.filter(|record| record.profile == *name && record.instance_id == instance_id);
        let receipts = receipts.map(|it| it.version.as_ref().or(it.family.as_ref()).unwrap_or(name).clone());
        ProfileState {
            profile: name.clone(),
            decision,
            reason,
            source,
            endpoint: options.endpoint.as_ref().ok().map(|endpoint| endpoint.url.clone()),
            problem: problem(view, options),
            reported: lines.chain(receipts).collect(),
            project_id: second.and_then(|(_, file)| own_id(view, file)),
            instance_id,
        }
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("none that can be used")
    }

    fn line(&self) -> String {
        let source = self.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        let id = self.instance_id.iter().chain(&self.problem).map(|it| format!("; {it}")).collect::<String>();
        let text = format!("{}, {}{source}; {}{id}", self.decision, self.reason, self.endpoint());
        row(&format!("{}:", self.profile), &text)
    }

    fn lines(&self) -> String {
        let reported: Vec<&str> = self.reported.iter().map(String::as_str).collect();
        row("profile:", &self.profile)
            + &row("decision:", &format!("{}, {}", self.decision, self.reason))
            + &self.source.iter().map(|source| row("source:", source)).collect::<String>()
            + &row("endpoint:", self.endpoint())
            + &row("instance ID:", self.instance_id.as_deref().unwrap_or("none yet"))
            + &self.project_id.iter().map(|id| row("project ID:", id)).collect::<String>()
            + &self.problem.iter().map(|problem| row("problem:", problem)).collect::<String>()
            + &row("reported:", if reported.is_empty() { nothing().into() } else { reported.join(", ") }.as_str())
    }
}

/// The ID in a file, unless it is another machine's.
fn own_id(view: View, file: &IdentityFile) -> Option<String> {
    file.id(view.host).ok().flatten().filter(|id| !view.is_cloned(id))
}

/// What keeps a run from sending, or from using the ID that is there.
fn problem(view: View, options: &Options) -> Option<String> {
    let (host, file) = (view.host, options.identity_file());
    let endpoint = options.endpoint.as_ref().err().map(ToString::to_string);
    let unread = file.and_then(|file| Some(load(host, &file.path).err()?.to_string()));
    let missing = options.missing.map(|missing| format!("not known here without {missing}"));
    let can_keep = |file: &IdentityFile| {
        let written = load(host, &file.path)?.with_id("", &file.rule).map(drop);
        written.and_then(|()| Ok(host.can_write(&file.path)?)).map_err(PathError::at(host.path(&file.path)))
    };
    let files = options.ids.iter().map(|(_, file)| file);
    let unmade = files.filter(|file| file.rule.is_made && own_id(view, file).is_none());
    let unmade = unmade.map(can_keep).find_map(Result::err);
    let unkept = || Some(unmade.or(Store::problem(host, file.map(|file| &*file.path)))?.to_string());
    let is_clone = file.is_some_and(|file| file.id(host).is_ok_and(|id| id != own_id(view, file)));
    let cloned = is_clone.then(|| "the ID is another machine's, so this clone gets its own".to_owned());
    endpoint.or(unread).or(missing).or_else(|| options.without_id(host)).or_else(unkept).or(cloned)
}

impl Status {
    /// For machines: one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// For people: one profile in full, or a line for each.
    pub fn text(&self, is_overview: bool) -> String {
        let of = |state: &ProfileState| if is_overview { state.line() } else { state.lines() };
        let mut text: String = self.profiles.iter().map(of).collect();
        for (name, journals) in [("pending:", &self.pending), ("sent:", &self.sent)] {
            text.extend(journals.iter().map(|journal| row(name, &about(journal))));
            let nothing = Some(nothing()).filter(|_| journals.is_empty());
            text.extend(self.unread.as_deref().or(nothing).map(|what| row(name, what)));
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

/// Only root sees what other users have.
fn nothing() -> &'static str {
    if geteuid().is_root() { "nothing" } else { "nothing that this user may see" }
}

fn row(name: &str, text: &str) -> String {
    wide_row(14, name, text)
}

/// A row whose name takes `width` places. A profile's words cannot make rows of their own.
fn wide_row(width: usize, name: &str, text: &str) -> String {
    format!("{name:<width$}{}\n", text.replace('\n', "?"))
}

/// Every fact with this machine's value, and the evidence for the deployment. The evidence is no fact, so no record can
/// hold it.
pub fn facts(run: Run<'_>) -> String {
    let (mut facts, because) = (Facts::default(), Evidence::gather(run.host).verdict().1);
    facts.detect(run.host, &Fact::all().collect::<Vec<_>>(), None);
    if run.request.has("json") {
        let value = |fact: Fact| facts.get(fact).cloned().unwrap_or_default();
        let mut all: Map<String, Value> = Fact::all().map(|fact| (fact.name().to_owned(), value(fact))).collect();
        let only_in_a_run = Fact::all().filter(|fact| fact.is_of_a_run()).map(Fact::name);
        all.insert("only_in_a_run".to_owned(), only_in_a_run.collect());
        all.insert("deployment.evidence".to_owned(), because.into());
        return format!("{:#}\n", Value::Object(all));
    }
    let value = |fact: Fact| match facts.get(fact) {
        Some(Value::Null) => "none".into(),
        Some(value) => facts::text(value),
        None if fact.is_of_a_run() => "(made by a run)".into(),
        None => "-".into(),
    };
    Fact::all().map(|fact| wide_row(24, fact.name(), &value(fact))).collect::<String>()
        + &wide_row(24, "set.KEY", "(given by the caller: --set KEY=VALUE)")
        + &wide_row(24, "deployment.evidence", because)
}

/// What a reviewer asks of a profile: what can leave when, where to, under which ID, and who can say no how.
pub fn check(profile: &Profile) -> String {
    let often = match profile.once {
        Once::Family => "once for each product family",
        Once::Version => "once for each version of a product family",
        Once::Call => "at every call",
    };
    let id = profile.identity.first().filter(|_| profile.once != Once::Call);
    let under = id.map_or(String::new(), |(id, _)| format!(" under one {id}"));
    let moved_by = profile.endpoint_variables().map(|name| format!("moved by {name}"));
    let mut rows = vec![
        ("profile:".to_owned(), vec![format!("{}, good", profile.name)]),
        ("about:".to_owned(), vec![profile.about.clone()]),
        ("endpoint:".to_owned(), [profile.endpoint(|_| None)].into_iter().chain(moved_by).collect()),
        ("headers:".to_owned(), profile.headers.iter().map(|(name, value)| format!("{name}: {}", value.0)).collect()),
        ("sent:".to_owned(), vec![format!("{often}{under}")]),
        ("no by:".to_owned(), profile.consent.sources()),
    ];
    for (id, rule) in &profile.identity {
        let also = rule.also.iter().map(|file| format!("else the one in {}", &**file));
        rows.push((format!("{id}:"), [rule.file.to_string()].into_iter().chain(also).collect()));
    }
    rows.push(("copy on stdout:".to_owned(), profile.debug.iter().map(|name| name.to_string()).collect()));
    for (event, body) in profile.bodies() {
        let names: BTreeSet<&str> = body.names().into_iter().collect();
        let names = names.into_iter().map(str::to_owned).collect();
        rows.push((event.map_or("sends:".to_owned(), |event| format!("{event} sends:")), names));
        let needed: BTreeSet<&str> = profile.needed(body).collect();
        rows.push(("needs:".to_owned(), needed.into_iter().map(|key| format!("set.{key}")).collect()));
    }
    // One item a line, under the name of the first.
    let lines = rows.iter().flat_map(|(name, items)| {
        let names = [&**name].into_iter().chain(std::iter::repeat(""));
        names.zip(items).map(|(name, item)| wide_row(16, name, item))
    });
    lines.collect()
}
