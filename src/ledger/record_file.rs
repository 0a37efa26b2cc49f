//! A record's file is its own journal, in JSON Lines. The first line is the record as it is sent. Then comes a line for
//! each attempt, and the answer is last.
//!
//! The types here are those of the disk. Lines are only appended, so a power failure can cut only the last one. A line
//! that cannot be read does not count.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{facts::time, profile::file_path::Known};

/// The version of the format. Files of other versions are moved aside.
pub const FORMAT: u32 = 4;

/// A record as it is sent, and what the ledger has to know about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the file.
    pub format: u32,
    /// Its random UUID, the same at every attempt.
    pub id: String,
    /// The profile that it was made by.
    pub profile: String,
    /// The product family that it reports, where the product has one.
    pub family: Option<String>,
    /// Its version, where each version is reported.
    pub version: Option<String>,
    /// What must not be reported twice ([`super::Subject::key`]); `None` where every call is a report of its own.
    pub key: Option<String>,
    /// The ID that it is reported under, where the product has one.
    pub instance_id: Option<String>,
    /// The identity file that holds that ID: absolute, inside the root.
    pub identity_file: Option<PathBuf>,
    /// The directories and files that its run was told, in which a "no" is looked for again.
    pub directories: Known,
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
    /// The family whose line in an identity file says that this was reported. `None` where such a line would not do,
    /// because each version is reported.
    pub(super) fn line_family(&self) -> Option<&str> {
        self.family.as_deref().filter(|_| self.version.is_none())
    }
}

/// An attempt that did not deliver the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended, RFC 3339.
    pub at: String,
    /// Where it went to.
    pub url: String,
    /// The phase in which it failed.
    pub phase: String,
    /// What happened then.
    pub why: String,
    /// For how many seconds the server asked to be left alone, a week at most.
    pub retry_after: Option<u64>,
}

impl Attempt {
    /// Until when the server wants to be left alone, in seconds since 1970; `None` unless `now` is between the attempt
    /// and that time.
    pub fn held_until(&self, now: i64) -> Option<i64> {
        let from = time::parse(&self.at)?;
        // At most a week, whatever the file says.
        let until = from.saturating_add_unsigned(self.retry_after?.min(7 * 24 * 60 * 60));
        (from..until).contains(&now).then_some(until)
    }
}

/// The answer after which the record is not sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When it came, RFC 3339.
    pub at: String,
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
pub(super) enum Line {
    /// An attempt after which it is sent again.
    Attempt(Attempt),
    /// The answer after which it is not.
    Answer(Answer),
}

/// What a record's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// What is sent.
    #[serde(flatten)]
    pub record: Record,
    /// The attempts that failed, the first one first.
    pub attempts: Vec<Attempt>,
    /// How it ended.
    pub answer: Option<Answer>,
    /// How many bytes its whole lines have.
    #[serde(skip)]
    pub length: usize,
    /// The file's name.
    #[serde(skip)]
    pub name: String,
}

impl Journal {
    /// Reads the file `name`; `None` when it is not one of this version.
    pub fn parse(name: String, bytes: &[u8]) -> Option<Journal> {
        let length = memchr::memrchr(b'\n', bytes)? + 1;
        let mut lines = bytes[..length].split_inclusive(|byte| *byte == b'\n');
        let record: Record = serde_json::from_slice(lines.next()?).ok().filter(|it: &Record| it.format == FORMAT)?;
        let mut journal = Journal { record, attempts: Vec::new(), answer: None, length, name };
        for line in lines.flat_map(serde_json::from_slice) {
            match line {
                Line::Attempt(attempt) => journal.attempts.push(attempt),
                Line::Answer(answer) => journal.answer = Some(answer),
            }
        }
        Some(journal)
    }

    /// Whether a server that it was sent to wants to be left alone `now`.
    pub fn is_held(&self, now: i64) -> bool {
        self.attempts.iter().any(|attempt| attempt.held_until(now).is_some())
    }

    /// Whether the record was delivered.
    pub fn is_accepted(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.accepted)
    }
}

/// A line of the file; an error where a path in it is not UTF-8.
pub(super) fn to_line(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(value)? + "\n")
}
