//! What a kept record looks like on disk: one JSON object a file, for pending records and for receipts.
//!
//! A type of its own on purpose: renaming a field in memory must not change a byte outside, and files of an older
//! version must stay readable.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::schedule::Retry;

/// Version of the format, written into every file. Version 1 knew no retries; files of a later one are left alone.
const FORMAT: u64 = 2;

/// How a family is remembered as reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Not at all: every call is a record of its own.
    None,
    /// By the line `FAMILY:1` in the identity file.
    Line,
    /// By this line in our own state directory.
    Key(String),
}

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its random UUID, the same at every attempt.
    pub id: String,
    /// The profile that it was made by.
    pub profile: String,
    /// The product family that it reports; empty for a product that has none.
    pub family: String,
    /// How that is remembered once it is delivered.
    pub mark: Mark,
    /// The ID that it is reported under; empty where the product has none.
    pub instance_id: String,
    /// The identity file that holds that ID; absolute, inside the root, and empty where there is none.
    pub identity_file: PathBuf,
    /// Where it goes.
    pub url: String,
    /// Headers of the request, in order.
    pub headers: Vec<(String, String)>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The exact bytes to post.
    pub body: String,
}

impl Record {
    fn to_map(&self) -> Map<String, Value> {
        let headers = self.headers.iter().map(|(name, value)| Value::from(vec![name.as_str(), value.as_str()]));
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("format", FORMAT.into());
        put("id", self.id.as_str().into());
        put("profile", self.profile.as_str().into());
        put("family", self.family.as_str().into());
        let mark = match &self.mark {
            Mark::None => Value::Null,
            Mark::Line => true.into(),
            Mark::Key(key) => key.as_str().into(),
        };
        put("mark", mark);
        put("instance_id", self.instance_id.as_str().into());
        put("identity_file", self.identity_file.to_string_lossy().into());
        put("url", self.url.as_str().into());
        put("headers", headers.collect());
        put("created", self.created.as_str().into());
        put("body", self.body.as_str().into());
        map
    }

    fn from_map(map: &Map<String, Value>) -> Option<Record> {
        if !(1..=FORMAT).contains(&map.get("format")?.as_u64()?) {
            return None;
        }
        let text = |key: &str| map.get(key)?.as_str().map(str::to_owned);
        let header = |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
        Some(Record {
            id: text("id")?,
            profile: text("profile")?,
            family: text("family")?,
            mark: match map.get("mark")? {
                Value::Null => Mark::None,
                Value::Bool(true) => Mark::Line,
                key => Mark::Key(key.as_str()?.to_owned()),
            },
            instance_id: text("instance_id")?,
            identity_file: text("identity_file")?.into(),
            url: text("url")?,
            headers: map.get("headers")?.as_array()?.iter().map(header).collect::<Option<_>>()?,
            created: text("created")?,
            body: text("body")?,
        })
    }
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What is to be sent.
    pub record: Record,
    /// How that went so far.
    pub retry: Retry,
}

impl Pending {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Retry { attempts, since, tried, not_before, is_asked } = self.retry;
        let mut map = self.record.to_map();
        if attempts > 0 {
            let retry = json!({
                "attempts": attempts, "since": since, "tried": tried, "not_before": not_before, "asked": is_asked,
            });
            map.insert("retry".to_owned(), retry);
        }
        to_bytes(map)
    }

    /// Reads a file; `None` when it is not one of ours. What is wrong with its attempts only makes it due.
    pub fn from_bytes(bytes: &[u8]) -> Option<Pending> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let map = value.as_object()?;
        let record = Record::from_map(map)?;
        Some(Pending { record, retry: map.get("retry").and_then(retry_of).unwrap_or_default() })
    }
}

fn retry_of(value: &Value) -> Option<Retry> {
    Some(Retry {
        attempts: u32::try_from(value.get("attempts")?.as_u64()?).ok()?,
        since: value.get("since")?.as_i64()?,
        tried: value.get("tried")?.as_i64()?,
        not_before: value.get("not_before")?.as_i64()?,
        is_asked: value.get("asked")?.as_bool()?,
    })
}

/// A record that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was sent.
    pub record: Record,
    /// When it was answered, RFC 3339.
    pub sent: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The beginning of the answer's body.
    pub answer: String,
    /// Whether it was accepted; otherwise it was refused for good.
    pub accepted: bool,
    /// Whether the identity file could be written; where not, the receipt is all that remembers the report.
    pub is_marked: bool,
}

impl Receipt {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut map = self.record.to_map();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("sent", self.sent.as_str().into());
        put("status", self.status.into());
        put("answer", self.answer.as_str().into());
        put("accepted", self.accepted.into());
        put("marked", self.is_marked.into());
        to_bytes(map)
    }

    /// Reads a file; `None` when it is not one of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Receipt> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let map = value.as_object()?;
        Some(Receipt {
            record: Record::from_map(map)?,
            sent: map.get("sent")?.as_str()?.to_owned(),
            status: u16::try_from(map.get("status")?.as_u64()?).ok()?,
            answer: map.get("answer")?.as_str()?.to_owned(),
            accepted: map.get("accepted")?.as_bool()?,
            is_marked: map.get("marked")?.as_bool()?,
        })
    }
}

fn to_bytes(map: Map<String, Value>) -> Vec<u8> {
    let mut bytes = Value::Object(map).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "13f5fc62-35b4-4716-b3e6-96c761fc204d".to_owned(),
            profile: "percona".to_owned(),
            family: "PRODUCT_FAMILY_PS".to_owned(),
            mark: Mark::Line,
            instance_id: "6e5ff5d4-5617-11ee-8c99-0242ac120002".to_owned(),
            identity_file: "/usr/local/percona/telemetry_uuid".into(),
            url: "https://localhost/".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            created: "2023-11-01T10:46:23Z".to_owned(),
            body: "{\"a\":\"\\u0001\u{fffd}\"}".to_owned(),
        }
    }

    #[test]
    fn files_come_back_as_they_were_written() {
        let retry = Retry { attempts: 3, since: -1, tried: 1, not_before: i64::MAX, is_asked: true };
        for retry in [Retry::default(), retry] {
            let pending = Pending { record: record(), retry };
            assert_eq!(Pending::from_bytes(&pending.to_bytes()), Some(pending));
        }
        for mark in [Mark::Line, Mark::None, Mark::Key("medusa:x".to_owned())] {
            let record = Record { mark, ..record() };
            let pending = Pending { record, retry: Retry::default() };
            assert_eq!(Pending::from_bytes(&pending.to_bytes()), Some(pending));
        }
        let receipt = Receipt {
            record: record(),
            sent: "2023-11-01T10:46:24Z".to_owned(),
            status: 200,
            answer: "{}".to_owned(),
            accepted: true,
            is_marked: false,
        };
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()), Some(receipt));
    }

    #[test]
    fn what_is_not_ours_is_no_record() {
        let text = text_of(Retry::default());
        for other in
            ["", "{}", "[]", "null", "{\"format\":1}", &text.replace("\"format\":2", "\"format\":3"), &text[..40]]
        {
            assert_eq!(Pending::from_bytes(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn files_of_version_1_and_odd_attempts_are_due_records() {
        let first = text_of(Retry::default()).replace("\"format\":2", "\"format\":1");
        let second = text_of(Retry { attempts: 3, ..Retry::default() });
        for text in [first, second.replace("\"attempts\":3", "\"attempts\":-3"), second.replace("\"since\":0,", "")] {
            let pending = Pending { record: record(), retry: Retry::default() };
            assert_eq!(Pending::from_bytes(text.as_bytes()), Some(pending), "{text}");
        }
    }

    fn text_of(retry: Retry) -> String {
        String::from_utf8(Pending { record: record(), retry }.to_bytes()).unwrap()
    }
}
