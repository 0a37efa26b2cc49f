//! What a kept record looks like on disk: one JSON object a file, for pending records and for receipts.
//!
//! A type of its own on purpose: renaming a field in memory must not change a byte outside, and files of an older
//! version must stay readable.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// Version of the format, written into every file; files of another one are left alone.
const FORMAT: u64 = 1;

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
        if map.get("format")?.as_u64()? != FORMAT {
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

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self.to_map())
    }

    /// Reads a file; `None` when it is not one of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        Record::from_map(serde_json::from_slice::<Value>(bytes).ok()?.as_object()?)
    }
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
        for mark in [Mark::Line, Mark::None, Mark::Key("medusa:x".to_owned())] {
            let record = Record { mark, ..record() };
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
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
        let text = String::from_utf8(record().to_bytes()).unwrap();
        for other in
            ["", "{}", "[]", "null", "{\"format\":1}", &text.replace("\"format\":1", "\"format\":2"), &text[..40]]
        {
            assert_eq!(Record::from_bytes(other.as_bytes()), None, "{other}");
        }
    }
}
