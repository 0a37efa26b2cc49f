//! A record's file: its own journal, in JSON Lines. The first line is exactly what is sent; then comes one line an
//! attempt; the answer is last.
//!
//! The types here are those of the disk. Lines are only appended, so a line that was cut by a power failure is the
//! last one, and counts as none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ReportKey;
use crate::facts::time::Time;

/// The version of the format. Version 2 and 1 were single objects: see [`Legacy`].
const FORMAT: u32 = 3;

/// A record as it is sent, and what the ledger has to know about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the file.
    format: u32,
    /// Its random UUID, the same at every attempt.
    pub id: String,
    /// The profile that it was made by.
    pub profile: String,
    /// The product family that it reports, where the product has one.
    pub family: Option<String>,
    /// Its version, where each version is reported.
    #[serde(default)]
    pub version: Option<String>,
    /// What must not be reported twice; `None` where every call is a report of its own.
    pub key: Option<ReportKey>,
    /// The ID that it is reported under, where the product has one.
    pub instance_id: Option<String>,
    /// The identity file that holds that ID: absolute, inside the root.
    pub identity_file: Option<PathBuf>,
    /// The endpoint that it was made for.
    pub url: String,
    /// Headers of the request, in order.
    pub headers: Vec<(String, String)>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The exact bytes to post.
    pub body: String,
}

impl Record {
    /// A record for `url`, made at `created` (RFC 3339).
    pub fn new(id: String, profile: String, url: String, created: String) -> Record {
        Record {
            format: FORMAT,
            id,
            profile,
            family: None,
            version: None,
            key: None,
            instance_id: None,
            identity_file: None,
            url,
            headers: Vec::new(),
            created,
            body: String::new(),
        }
    }

    /// The first line of its file.
    ///
    /// # Errors
    /// When a path in it is not UTF-8.
    pub fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        line(self)
    }
}

/// An attempt that did not deliver the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended, in seconds since 1970.
    #[serde(with = "rfc3339")]
    pub at: i64,
    /// Where it went to.
    pub url: String,
    /// How far it came.
    pub phase: String,
    /// What happened then.
    pub why: String,
    /// For how many seconds the server asked to be left alone.
    pub retry_after: Option<u64>,
}

/// The answer after which the record is not sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When it came, in seconds since 1970.
    #[serde(with = "rfc3339")]
    pub at: i64,
    /// Where from.
    pub url: String,
    /// HTTP status.
    pub status: u16,
    /// Whether the record is accepted, or refused for good.
    pub accepted: bool,
    /// The beginning of the answer's body.
    pub text: String,
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Attempt(Attempt),
    Answer(Answer),
}

/// What a record's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// What is sent.
    pub record: Record,
    /// How often that failed, the first attempt first.
    pub attempts: Vec<Attempt>,
    /// How it ended.
    pub answer: Option<Answer>,
    /// How many bytes of the file are whole lines.
    pub length: usize,
}

impl Journal {
    /// Reads a file; `None` when it is not one of ours.
    pub fn parse(bytes: &[u8]) -> Option<Journal> {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let first = lines.next()?;
        let mut journal = match serde_json::from_slice::<Record>(first) {
            Ok(record) if record.format == FORMAT => {
                Journal { record, attempts: Vec::new(), answer: None, length: first.len() }
            }
            _ => serde_json::from_slice::<Legacy>(first).ok().filter(|old| old.format < FORMAT)?.journal(first.len()),
        };
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(Line::Attempt(attempt)) => journal.attempts.push(attempt),
                Ok(Line::Answer(answer)) => journal.answer = Some(answer),
                Err(_) => break,
            }
            journal.length += line.len();
        }
        Some(journal)
    }

    /// The line for an attempt.
    pub fn attempt_line(attempt: &Attempt) -> Vec<u8> {
        line(&Line::Attempt(attempt.clone())).unwrap_or_default()
    }

    /// The line for an answer.
    pub fn answer_line(answer: &Answer) -> Vec<u8> {
        line(&Line::Answer(answer.clone())).unwrap_or_default()
    }
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Times in files are RFC 3339, for people.
mod rfc3339 {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Time;

    pub fn serialize<S: Serializer>(at: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Time::at(*at).in_seconds())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| D::Error::custom("no RFC 3339 time"))
    }
}

/// The files of versions 1 and 2: one object for a record that waits, and one with its answer for a receipt.
#[derive(Deserialize)]
struct Legacy {
    format: u32,
    id: String,
    profile: String,
    family: String,
    mark: Value,
    instance_id: String,
    identity_file: String,
    url: String,
    headers: Vec<(String, String)>,
    created: String,
    body: String,
    retry: Option<Value>,
    sent: Option<String>,
    status: Option<u16>,
    answer: Option<String>,
    accepted: Option<bool>,
}

#[derive(Deserialize)]
struct LegacyRetry {
    since: i64,
    tried: i64,
    not_before: i64,
    asked: bool,
}

impl Legacy {
    fn journal(self, length: usize) -> Journal {
        let given = |text: String| (!text.is_empty()).then_some(text);
        let key = match &self.mark {
            Value::Bool(true) => Some(ReportKey::of(&self.profile, &self.instance_id, &self.family, "")),
            Value::String(text) => Some(ReportKey::of_text(&self.profile, text)),
            _ => None,
        };
        let retry = self.retry.and_then(|retry| serde_json::from_value::<LegacyRetry>(retry).ok());
        let attempt = |at, retry_after| Attempt {
            at,
            url: self.url.clone(),
            phase: String::new(),
            why: "an earlier version did not note why".to_owned(),
            retry_after,
        };
        let attempts = retry.map_or_else(Vec::new, |retry| {
            let asked = retry.asked.then(|| u64::try_from(retry.not_before.saturating_sub(retry.tried)).ok()).flatten();
            vec![attempt(retry.since, None), attempt(retry.tried, asked)]
        });
        let answer = self.status.zip(self.accepted).map(|(status, accepted)| Answer {
            at: self.sent.as_deref().and_then(Time::parse).unwrap_or_default(),
            url: self.url.clone(),
            status,
            accepted,
            text: self.answer.unwrap_or_default(),
        });
        let record = Record {
            format: FORMAT,
            id: self.id,
            profile: self.profile,
            family: given(self.family),
            version: None,
            key,
            instance_id: given(self.instance_id),
            identity_file: given(self.identity_file).map(PathBuf::from),
            url: self.url,
            headers: self.headers,
            created: self.created,
            body: self.body,
        };
        Journal { record, attempts, answer, length }
    }
}
