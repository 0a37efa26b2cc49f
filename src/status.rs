//! What `status`, `facts` and `check` print, for people and for machines.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::consent::Decision;
use crate::facts::deployment::Evidence;
use crate::facts::time::Time;
use crate::facts::{self, Fact, Facts};
use crate::host::Host;
use crate::ledger::{Journal, MAX_DAYS, MAX_PENDING, MAX_PENDING_BYTES, MAX_SENT, Store};
use crate::options::Place;
use crate::outcome::Outcome;
use crate::profile::{ConsentRules, Once, Profile};

/// What is decided and known for one profile.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileState {
    /// Its name.
    pub profile: String,
    /// `send` or `skip`.
    decision: &'static str,
    /// Why.
    reason: String,
    /// Who said no.
    source: Option<String>,
    /// Where records go.
    endpoint: String,
    /// The ID that is stored.
    instance_id: Option<String>,
    /// Why there is none, or why nothing could be kept.
    problem: Option<String>,
    /// What was reported under that ID.
    reported: Vec<String>,
}

/// A record that waits.
#[derive(Clone, Debug, Serialize)]
struct Pending {
    profile: String,
    family: Option<String>,
    id: String,
    created: String,
    url: String,
    attempts: usize,
    /// What the last attempt came to.
    why: Option<String>,
    /// Until when the server asked to be left alone, RFC 3339.
    not_before: Option<String>,
}

/// A receipt.
#[derive(Clone, Debug, Serialize)]
struct Sent {
    profile: String,
    family: Option<String>,
    /// The version, where each version is reported.
    version: Option<String>,
    id: String,
    sent: Option<String>,
    url: String,
    status: Option<u16>,
    accepted: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Limits {
    pending_records: usize,
    pending_bytes: usize,
    pending_days: i64,
    receipts: usize,
}

/// The state of this machine. The default profile, or the one that was asked for, is at the top level as well.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    #[serde(flatten)]
    first: Option<ProfileState>,
    profiles: Vec<ProfileState>,
    pending: Vec<Pending>,
    sent: Vec<Sent>,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
}

/// The state of one profile.
pub fn state(host: &Host, profile: &str, decision: &Decision, place: &Place) -> ProfileState {
    let file = place.identity_file();
    let (decision, reason, source) = match decision {
        Decision::Send(_) => ("send", "nobody said no".to_owned(), None),
        Decision::Skip(refusal) => ("skip", refusal.reason().to_owned(), Some(refusal.to_string())),
    };
    let unread = file.and_then(|file| Some(file.load(host).err()?.to_string()));
    let missing = place.missing.map(|missing| format!("not known here without {missing}"));
    let unkept = || Store::problem(host, file.map(|file| &*file.path)).map(|problem| problem.to_string());
    let identity = file.and_then(|file| file.load(host).ok()).unwrap_or_default();
    ProfileState {
        profile: profile.to_owned(),
        decision,
        reason,
        source,
        endpoint: place.endpoint.as_ref().map_or_else(ToString::to_string, |endpoint| endpoint.url().to_owned()),
        instance_id: file.and_then(|file| file.id(host).ok().flatten()),
        problem: unread.or(missing).or_else(unkept),
        reported: file.map(|file| identity.reported(&file.rule).map(str::to_owned).collect()).unwrap_or_default(),
    }
}

impl Status {
    /// The state of these profiles, with the records that wait and the receipts, the newest first.
    pub fn new(
        mut profiles: Vec<ProfileState>,
        pending: Vec<Journal>,
        sent: Vec<Journal>,
        evidence: Option<&Evidence>,
    ) -> Status {
        let sent: Vec<Sent> = sent.into_iter().map(Sent::of).collect();
        for state in &mut profiles {
            let of_state = sent.iter().rev().filter(|sent| sent.accepted && sent.profile == state.profile);
            let name = |sent: &Sent| sent.version.clone().or(sent.family.clone()).unwrap_or(sent.profile.clone());
            for name in of_state.map(name) {
                if !state.reported.contains(&name) {
                    state.reported.push(name);
                }
            }
        }
        let first = profiles.iter().find(|state| state.profile == crate::profile::DEFAULT).or(profiles.first());
        Status {
            first: first.cloned(),
            profiles,
            pending: pending.into_iter().map(Pending::of).collect(),
            sent,
            limits: Limits {
                pending_records: MAX_PENDING,
                pending_bytes: MAX_PENDING_BYTES,
                pending_days: MAX_DAYS,
                receipts: MAX_SENT,
            },
            deployment: evidence.and_then(|evidence| evidence.verdict().situation.deployment()),
            evidence: evidence.map(because),
        }
    }

    /// For machines: one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// For people: one profile in full, or a line for each.
    pub fn text(&self, is_overview: bool) -> String {
        let mut text = String::new();
        for state in &self.profiles {
            text += &if is_overview { state.line() } else { state.text() };
        }
        if let Some(evidence) = &self.evidence {
            text += &format!("deployment:   {}, {evidence}\n", self.deployment.unwrap_or("-"));
        }
        let none = |label: &str| format!("{:<14}nothing\n", format!("{label}:"));
        if self.pending.is_empty() {
            text += &none("pending");
        }
        text.extend(self.pending.iter().map(Pending::line));
        if self.sent.is_empty() {
            text += &none("sent");
        }
        text.extend(self.sent.iter().map(Sent::line));
        text + &format!(
            "limits:       {MAX_PENDING} records, {} KiB and {MAX_DAYS} days pending; {MAX_SENT} receipts; the oldest go first\n",
            MAX_PENDING_BYTES >> 10
        )
    }
}

impl ProfileState {
    fn line(&self) -> String {
        let source = self.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        let name = format!("{}:", self.profile);
        format!("{name:<14}{}, {}{source}; {}\n", self.decision, self.reason, self.endpoint)
    }

    fn text(&self) -> String {
        let source = self.source.as_ref().map(|source| format!("source:       {source}\n")).unwrap_or_default();
        let id = self.instance_id.as_deref().unwrap_or(self.problem.as_deref().unwrap_or("none yet"));
        let problem = self.problem.as_ref().filter(|_| self.instance_id.is_some());
        let problem = problem.map(|problem| format!("problem:      {problem}\n")).unwrap_or_default();
        let reported = if self.reported.is_empty() { "nothing".to_owned() } else { self.reported.join(", ") };
        format!(
            "profile:      {}\ndecision:     {}, {}\n{source}endpoint:     {}\ninstance ID:  {id}\n{problem}reported:     {reported}\n",
            self.profile, self.decision, self.reason, self.endpoint
        )
    }
}

impl Pending {
    fn of(journal: Journal) -> Pending {
        let pause = journal.attempts.last().and_then(|last| last.pause());
        Pending {
            attempts: journal.attempts.len(),
            why: journal.attempts.last().map(|last| format!("{}: {}", last.phase, last.why)),
            not_before: pause.map(|pause| Time::at(pause.end).in_seconds()),
            profile: journal.record.profile,
            family: journal.record.family,
            id: journal.record.id,
            created: journal.record.created,
            url: journal.record.url,
        }
    }

    fn line(&self) -> String {
        let what = named(self.family.as_deref(), &self.profile);
        let tried = match (self.attempts, &self.why) {
            (0, _) | (_, None) => String::new(),
            (1, Some(why)) => format!(", tried once ({why})"),
            (many, Some(why)) => format!(", tried {many} times ({why})"),
        };
        let until = self.not_before.as_ref().map(|until| format!(", not before {until}")).unwrap_or_default();
        format!("pending:      {what} of {}, for {}{tried}{until}\n", self.created, self.url)
    }
}

impl Sent {
    fn of(journal: Journal) -> Sent {
        let answer = journal.answer;
        Sent {
            sent: answer.as_ref().map(|answer| answer.at.clone()),
            status: answer.as_ref().map(|answer| answer.status),
            accepted: answer.as_ref().is_some_and(|answer| answer.accepted),
            url: answer.map_or(journal.record.url, |answer| answer.url),
            profile: journal.record.profile,
            family: journal.record.family,
            version: journal.record.version,
            id: journal.record.id,
        }
    }

    fn line(&self) -> String {
        let verdict = if self.accepted { "accepted" } else { "refused" };
        format!(
            "sent:         {} on {} to {}: {} {verdict}\n",
            named(self.family.as_deref(), &self.profile),
            self.sent.as_deref().unwrap_or("-"),
            self.url,
            self.status.unwrap_or_default()
        )
    }
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

/// Valid JSON with a line for every value. The keys stay in their order, which a map of serde_json would not keep.
pub fn indented(json: &str) -> String {
    let (mut text, mut depth, mut is_string, mut is_escaped) = (String::new(), 0, false, false);
    for (index, c) in json.char_indices() {
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match c {
            _ if is_string => text.push(c),
            '{' | '[' => {
                depth += 1;
                text.push(c);
                if !json[index + 1..].starts_with(['}', ']']) {
                    text += &line(depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !json[..index].ends_with(['{', '[']) {
                    text += &line(depth);
                }
                text.push(c);
            }
            ',' => text += &format!(",{}", line(depth)),
            ':' => text += ": ",
            _ => text.push(c),
        }
        is_string ^= c == '"' && !is_escaped;
        is_escaped = is_string && c == '\\' && !is_escaped;
    }
    text + "\n"
}

/// What was reported: a product without families is its profile's.
fn named(family: Option<&str>, profile: &str) -> String {
    family.map_or_else(|| profile.to_owned(), |family| format!("{family} ({profile})"))
}

fn because(evidence: &Evidence) -> String {
    evidence.verdict().because.to_owned()
}

fn object<'k>(members: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn printed_json(value: Value) -> Outcome {
    Outcome::Printed { text: format!("{value:#}\n").into_bytes(), remark: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_own_order() {
        let json = r#"{"z":[1,{"a":"x, {\"y\": \\"}],"e":{},"l":[]}"#;
        let expected = "{\n  \"z\": [\n    1,\n    {\n      \"a\": \"x, {\\\"y\\\": \\\\\"\n    }\n  ],\n  \"e\": {},\n  \"l\": []\n}\n";
        assert_eq!(indented(json), expected);
    }
}
