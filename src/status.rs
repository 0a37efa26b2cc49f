//! What `status`, `facts` and `check` print, for people and for machines.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::consent::Decision;
use crate::facts::deployment::Evidence;
use crate::facts::time::Time;
use crate::facts::{self, Fact, Facts};
use crate::host::Host;
use crate::ledger::schedule::{MAX_DAYS, Occasion};
use crate::ledger::store::{MAX_PENDING, MAX_PENDING_BYTES, MAX_SENT, Store};
use crate::ledger::{self, Dropped, Pending, Receipt, Record};
use crate::options::Place;
use crate::outcome::Outcome;
use crate::profile::{ConsentRules, Once, Profile};

/// The state of one profile on this machine; with evidence, also where this would be an installation.
pub fn status(
    host: &Host,
    profile: &str,
    decision: &Decision,
    place: &Place,
    evidence: Option<&Evidence>,
    json: bool,
) -> Outcome {
    let file = place.identity_file();
    let stores: Vec<Store> = ledger::places(file).iter().filter_map(|place| Store::existing(host, place)).collect();
    let names = |store: &Store| store.pending_names();
    let pending: Vec<(PathBuf, Option<Pending>)> = stores
        .iter()
        .flat_map(|store| names(store).into_iter().map(|name| (store.path().join(&name), store.pending(&name))))
        .filter(|(_, pending)| pending.as_ref().is_none_or(|pending| pending.record.profile == profile))
        .collect();
    let mut sent: Vec<Receipt> = stores.iter().flat_map(Store::receipts).collect();
    sent.retain(|receipt| receipt.record.profile == profile);
    let mut dropped: Vec<Dropped> = stores.iter().flat_map(Store::dropped).collect();
    dropped.retain(|dropped| dropped.profile == profile);
    let now = host.now();
    let (decided, reason, source) = match decision {
        Decision::Send(_) => ("send", "nobody said no", None),
        Decision::Skip(refusal) => ("skip", refusal.reason(), Some(refusal.to_string())),
    };
    let problem = file.and_then(|file| file.load(host).err().map(|problem| (host.path(&file.path), problem)));
    let identity = file.and_then(|file| file.load(host).ok()).unwrap_or_default();
    let instance_id = file.and_then(|file| file.id(host));
    let mut reported: Vec<String> =
        file.map(|file| identity.reported(&file.rule).map(str::to_owned).collect()).unwrap_or_default();
    // `PROFILE:ID:FAMILY` and perhaps `:VERSION`, either of which may be empty.
    let keys = stores.iter().flat_map(|store| store.reported().lines().map(str::to_owned).collect::<Vec<_>>());
    reported.extend(keys.filter_map(|key| {
        let what = key.strip_prefix(profile)?.strip_prefix(':')?.split_once(':')?.1;
        Some(named(what.trim_start_matches(':'), profile))
    }));

    if json {
        let pending = pending.iter().map(|(path, pending)| {
            let retry = pending.as_ref().map(|pending| pending.retry);
            let next = retry.filter(|retry| !retry.is_due(now, Occasion::Passing));
            object([
                ("file", path.to_string_lossy().into()),
                ("id", text_of(pending, |record| &record.id)),
                ("family", text_of(pending, |record| &record.family)),
                ("created", text_of(pending, |record| &record.created)),
                ("url", text_of(pending, |record| &record.url)),
                ("days", retry.map(|retry| retry.days(now)).into()),
                ("attempts", retry.map(|retry| retry.attempts).into()),
                ("not_before", next.map(|retry| Time::at(retry.not_before).in_seconds()).into()),
            ])
        });
        let dropped = dropped.iter().map(|dropped| {
            object([
                ("id", dropped.id.as_str().into()),
                ("family", dropped.family.as_str().into()),
                ("created", dropped.created.as_str().into()),
                ("dropped", dropped.dropped.as_str().into()),
                ("why", dropped.why.as_str().into()),
            ])
        });
        let limits = object([
            ("pending_records", MAX_PENDING.into()),
            ("pending_bytes", MAX_PENDING_BYTES.into()),
            ("pending_days", MAX_DAYS.into()),
            ("receipts", MAX_SENT.into()),
        ]);
        let sent = sent.iter().map(|receipt| {
            object([
                ("id", receipt.record.id.as_str().into()),
                ("family", receipt.record.family.as_str().into()),
                ("sent", receipt.sent.as_str().into()),
                ("url", receipt.record.url.as_str().into()),
                ("status", receipt.status.into()),
                ("accepted", receipt.accepted.into()),
            ])
        });
        let mut members = vec![
            ("profile", profile.into()),
            ("decision", decided.into()),
            ("reason", reason.into()),
            ("source", source.into()),
            ("endpoint", place.endpoint.as_ref().ok().map(|endpoint| endpoint.url()).into()),
            ("instance_id", instance_id.into()),
            ("reported", reported.into()),
            ("pending", pending.collect()),
            ("sent", sent.collect()),
            ("dropped", dropped.collect()),
            ("limits", limits),
        ];
        if let Some(evidence) = evidence {
            members.push(("deployment", evidence.situation().deployment().into()));
            members.push(("evidence", because(evidence).into()));
        }
        return printed_json(object(members));
    }

    let mut text = format!("profile:      {profile}\ndecision:     {decided}, {reason}\n");
    if let Some(source) = source {
        text += &format!("source:       {source}\n");
    }
    let endpoint = place.endpoint.as_ref().map_or_else(ToString::to_string, |endpoint| endpoint.url().to_owned());
    text += &format!("endpoint:     {endpoint}\n");
    if let Some(evidence) = evidence {
        text += &format!("deployment:   {}\nevidence:     {evidence}\n", evidence.verdict());
    }
    text += &match (&problem, place.missing) {
        (Some((path, problem)), _) => format!("instance ID:  {}: {problem}\n", path.display()),
        (None, Some(missing)) => format!("instance ID:  not known here without {missing}\n"),
        (None, None) => format!("instance ID:  {}\n", instance_id.as_deref().unwrap_or("none yet")),
    };
    text +=
        &format!("reported:     {}\n", if reported.is_empty() { "nothing".to_owned() } else { reported.join(", ") });
    if pending.is_empty() {
        text += "pending:      nothing\n";
    }
    for (path, pending) in &pending {
        text += &match pending {
            Some(Pending { record, retry }) => format!(
                "pending:      {} of {}, for {}{}\n",
                named(&record.family, profile),
                record.created,
                record.url,
                match retry.attempts {
                    0 => String::new(),
                    1 => format!(", {} days, tried once", retry.days(now)),
                    many => format!(", {} days, tried {many} times", retry.days(now)),
                } + &match retry.is_due(now, Occasion::Passing) {
                    true => String::new(),
                    false => format!(", not before {}", Time::at(retry.not_before).in_seconds()),
                }
            ),
            None => format!("pending:      {}, which only its owner may read\n", path.display()),
        };
    }
    for dropped in &dropped {
        let Dropped { family, created, dropped, why, .. } = dropped;
        let family = named(family, profile);
        text += &format!("dropped:      {family} of {created}, on {dropped}: {why}\n");
    }
    if sent.is_empty() {
        text += "sent:         nothing\n";
    }
    for receipt in &sent {
        let record = &receipt.record;
        let verdict = if receipt.accepted { "accepted" } else { "refused" };
        text += &format!(
            "sent:         {} on {} to {}: {} {verdict}\n",
            named(&record.family, profile),
            receipt.sent,
            record.url,
            receipt.status
        );
    }
    text += &format!(
        "limits:       {MAX_PENDING} records, {} KiB and {MAX_DAYS} days pending; {MAX_SENT} receipts; the oldest go first\n",
        MAX_PENDING_BYTES >> 10
    );
    Outcome::Printed { text: text.into_bytes(), remark: None }
}

/// What a run's own facts, and those of its caller, have in place of a value here.
const MADE_BY_A_RUN: &str = "(made by a run)";
const GIVEN_BY_THE_CALLER: &str = "(given by the caller: --set KEY=VALUE)";

/// Every fact with this machine's value, and what the deployment was told by, which is no fact: no record can hold it.
pub fn facts(facts: &Facts, evidence: &Evidence, json: bool) -> Outcome {
    let because = because(evidence);
    if json {
        let all = Fact::all().map(|fact| (fact.name(), facts.get(fact).cloned().into()));
        let only_in_a_run: Vec<&str> = Fact::all().filter(|fact| fact.is_of_a_run()).map(Fact::name).collect();
        let more = [("deployment.evidence", because.into()), ("only_in_a_run", only_in_a_run.into())];
        return printed_json(object(all.chain(more)));
    }
    let value = |fact: Fact| match facts.get(fact) {
        Some(Value::Null) => "none".into(),
        Some(value) => facts::text(value),
        None if fact.is_of_a_run() => MADE_BY_A_RUN.into(),
        None => "-".into(),
    };
    let line = |name: &str, value: &str| format!("{name:<24}{value}\n");
    let mut text: String = Fact::all().map(|fact| line(fact.name(), &value(fact))).collect();
    text += &line("set.KEY", GIVEN_BY_THE_CALLER);
    text += &line("deployment.evidence", &because);
    Outcome::Printed { text: text.into_bytes(), remark: None }
}

/// What a reviewer asks of a profile: what can leave when, where to, under which ID, and who can say no how.
pub fn check(rules: &ConsentRules, profile: &Profile) -> Outcome {
    let remarks = profile.remarks(rules);
    let verdict = match remarks.len() {
        0 => "good".to_owned(),
        1 => "good, with 1 warning".to_owned(),
        count => format!("good, with {count} warnings"),
    };
    let mut text = format!("{:<16}{}, {verdict}\n", "profile:", profile.name);
    // One item a line, under the name of the first.
    let mut list = |name: &str, items: Vec<String>| {
        for (index, item) in items.iter().enumerate() {
            text += &format!("{:<16}{item}\n", if index == 0 { name } else { "" });
        }
    };
    list("about:", (!profile.about.is_empty()).then(|| profile.about.clone()).into_iter().collect());
    let variables: Vec<&str> = profile.endpoint_variables().collect();
    let elsewhere = if variables.is_empty() { String::new() } else { format!(", or by {}", variables.join(" and ")) };
    list("endpoint:", vec![profile.endpoint(|_| None) + &elsewhere]);
    list("headers:", profile.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect());
    list("arrived by:", vec![profile.success.to_string()]);
    let often = match profile.once {
        Once::Family => "once for each product family",
        Once::Version => "once for each version of a product family",
        Once::Call => "at every call",
    };
    let under = profile.identity.first().filter(|_| profile.once != Once::Call);
    list(
        "sent:",
        vec![often.to_owned() + &under.map(|(id, _)| format!(" under one {}", id.fact().name())).unwrap_or_default()],
    );
    list("no by:", rules.phrases());
    for (fact, rule) in &profile.identity {
        let also = rule.also.iter().map(|file| format!("else the one in {}", file.as_str()));
        list(&format!("{}:", fact.fact().name()), [rule.to_string()].into_iter().chain(also).collect());
    }
    list("copy on stdout:", profile.debug.clone());
    for (event, body) in profile.bodies() {
        let facts = body.facts().into_iter().map(|fact| fact.name().to_owned());
        let needed = profile.needed(body);
        let given = body
            .given()
            .into_iter()
            .map(|key| format!("set.{key}{}", if needed.contains(&key) { " (required)" } else { "" }));
        let mut names: Vec<String> = facts.chain(given).collect();
        names.sort();
        names.dedup();
        let what = event.map_or("sends:".to_owned(), |event| format!("{event} sends:"));
        list(&what, names);
    }
    list("warning:", remarks);
    Outcome::Printed { text: text.into_bytes(), remark: None }
}

/// What was reported: a product without families is its profile's.
fn named(family: &str, profile: &str) -> String {
    if family.is_empty() { profile.to_owned() } else { family.to_owned() }
}

fn because(evidence: &Evidence) -> String {
    format!("{} (seen: {evidence})", evidence.verdict().because)
}

fn object<'k>(members: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn text_of(pending: &Option<Pending>, field: impl Fn(&Record) -> &String) -> Value {
    pending.as_ref().map(|pending| field(&pending.record).as_str()).into()
}

fn printed_json(value: Value) -> Outcome {
    Outcome::Printed { text: format!("{value:#}\n").into_bytes(), remark: None }
}
