//! What `status` and `facts` print, for people and for machines.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::consent::Decision;
use crate::facts::deployment::Evidence;
use crate::facts::{self, Fact, Facts};
use crate::host::Host;
use crate::ledger::store::Store;
use crate::ledger::{self, Receipt, Record};
use crate::outcome::Outcome;
use crate::settings::Place;

/// The state of one profile on this machine; with evidence, also where this would be an installation.
pub fn status(
    host: &Host,
    profile: &str,
    decision: &Decision,
    place: &Place,
    evidence: Option<&Evidence>,
    json: bool,
) -> Outcome {
    let file = &place.identity_file;
    let identity = file.load(host);
    let stores: Vec<Store> =
        ledger::places(&file.path).iter().filter_map(|place| Store::existing(host, place)).collect();
    let names = |store: &Store| store.pending_names();
    let pending: Vec<(PathBuf, Option<Record>)> = stores
        .iter()
        .flat_map(|store| names(store).into_iter().map(|name| (store.path().join(&name), store.pending(&name))))
        .filter(|(_, record)| record.as_ref().is_none_or(|record| record.profile == profile))
        .collect();
    let mut sent: Vec<Receipt> = stores.iter().flat_map(Store::receipts).collect();
    sent.retain(|receipt| receipt.record.profile == profile);
    let (decided, reason, source) = match decision {
        Decision::Send(_) => ("send", "nobody said no", None),
        Decision::Skip(refusal) => ("skip", refusal.reason(), Some(refusal.to_string())),
    };
    let instance_id = identity.as_ref().ok().and_then(|identity| identity.instance_id(&file.rules));
    let reported: Vec<&str> =
        identity.as_ref().map(|identity| identity.reported(&file.rules).collect()).unwrap_or_default();

    if json {
        let pending = pending.iter().map(|(path, record)| {
            object([
                ("file", path.to_string_lossy().into()),
                ("id", text_of(record, |record| &record.id)),
                ("family", text_of(record, |record| &record.family)),
                ("created", text_of(record, |record| &record.created)),
                ("url", text_of(record, |record| &record.url)),
            ])
        });
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
            ("endpoint", place.endpoint.url().into()),
            ("instance_id", instance_id.into()),
            ("reported", reported.into()),
            ("pending", pending.collect()),
            ("sent", sent.collect()),
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
    text += &format!("endpoint:     {}\n", place.endpoint.url());
    if let Some(evidence) = evidence {
        text += &format!("deployment:   {}\nevidence:     {evidence}\n", evidence.verdict());
    }
    text += &match &identity {
        Err(problem) => format!("instance ID:  {}: {problem}\n", host.path(&file.path).display()),
        Ok(_) => format!("instance ID:  {}\n", instance_id.unwrap_or("none yet")),
    };
    text +=
        &format!("reported:     {}\n", if reported.is_empty() { "nothing".to_owned() } else { reported.join(", ") });
    if pending.is_empty() {
        text += "pending:      nothing\n";
    }
    for (path, record) in &pending {
        text += &match record {
            Some(record) => format!("pending:      {} of {}, for {}\n", record.family, record.created, record.url),
            None => format!("pending:      {}, which only its owner may read\n", path.display()),
        };
    }
    if sent.is_empty() {
        text += "sent:         nothing\n";
    }
    for receipt in &sent {
        let record = &receipt.record;
        let verdict = if receipt.accepted { "accepted" } else { "refused" };
        text += &format!(
            "sent:         {} on {} to {}: {} {verdict}\n",
            record.family, receipt.sent, record.url, receipt.status
        );
    }
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

fn because(evidence: &Evidence) -> String {
    format!("{} (seen: {evidence})", evidence.verdict().because)
}

fn object<'k>(members: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn text_of(record: &Option<Record>, field: impl Fn(&Record) -> &String) -> Value {
    record.as_ref().map(|record| field(record).as_str()).into()
}

fn printed_json(value: Value) -> Outcome {
    Outcome::Printed { text: format!("{value:#}\n").into_bytes(), remark: None }
}
