//! An identity file's text, pure: text in, text out.
//!
//! Such a file is shared with other software. Lines (Percona's telemetry_uuid: `instanceId:UUID` and, once reported,
//! `FAMILY:1`) are edited as bytes, and every line that is not ours stays as it was, CRLF and all; in a JSON file
//! every other key keeps its value.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::profile::{IdLocation, IdRule};

/// An identity file's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    text: Vec<u8>,
}

impl Identity {
    /// Takes the bytes of a file that may have been written by anybody.
    pub fn new(text: Vec<u8>) -> Identity {
        Identity { text }
    }

    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// The ID, where there is one of the rule's format; of several lines, the last one.
    pub fn id(&self, rule: &IdRule) -> Option<String> {
        let found = match &rule.location {
            IdLocation::Line { key, .. } => {
                let (_, value) = self.entries().rfind(|(known, _)| *known == key.as_bytes())?;
                str::from_utf8(value).ok()?.to_owned()
            }
            IdLocation::Json(pointer) => {
                let json: Value = serde_json::from_slice(&self.text).ok()?;
                json.pointer(pointer)?.as_str()?.to_owned()
            }
            IdLocation::Whole => str::from_utf8(self.text.trim_ascii()).ok()?.to_owned(),
        };
        Some(found).filter(|id| rule.format.holds(id))
    }

    /// The families that are marked as reported, in a file that has marks.
    pub fn reported<'a>(&'a self, rule: &'a IdRule) -> impl Iterator<Item = &'a str> {
        let marks = self.entries().filter(|(key, value)| is_mark(key, value, rule));
        marks.filter_map(|(key, _)| str::from_utf8(key).ok())
    }

    /// Whether `family` is marked as reported.
    pub fn is_reported(&self, family: &str, rule: &IdRule) -> bool {
        self.reported(rule).any(|known| known == family)
    }

    /// The same file under another ID, with no family reported under it yet.
    ///
    /// # Errors
    /// When it is not what the rule says, and belongs to somebody who will want it as it is.
    pub fn with_id(&self, id: &str, rule: &IdRule) -> Result<Identity, String> {
        let text = match &rule.location {
            IdLocation::Line { key, .. } => {
                let mut text = format!("{key}:{id}\n").into_bytes();
                text.extend(self.foreign_lines(rule));
                text
            }
            IdLocation::Json(pointer) => json_with(&self.text, pointer, Some(id.into()))?,
            IdLocation::Whole => format!("{id}\n").into_bytes(),
        };
        Ok(Identity { text })
    }

    /// The same file with `family` marked as reported.
    pub fn with_reported(&self, family: &str, rule: &IdRule) -> Identity {
        let mut text = self.text.clone();
        if !self.is_reported(family, rule) {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(format!("{family}:1\n").as_bytes());
        }
        Identity { text }
    }

    /// What is left when all that is ours is taken out; `None` when nothing is left that anybody would miss.
    ///
    /// # Errors
    /// As [`Identity::with_id`].
    pub fn forgotten(&self, rule: &IdRule) -> Result<Option<Identity>, String> {
        match &rule.location {
            IdLocation::Line { reserved, .. } => {
                let rest = Identity { text: self.foreign_lines(rule) };
                let is_missed = rest.entries().any(|(key, _)| !reserved.iter().any(|known| known.as_bytes() == key));
                Ok(is_missed.then_some(rest))
            }
            IdLocation::Json(pointer) => {
                let text = json_with(&self.text, pointer, None)?;
                let is_missed = text.iter().any(|b| !b.is_ascii_whitespace() && !b"{}".contains(b));
                Ok(is_missed.then_some(Identity { text }))
            }
            IdLocation::Whole => Ok(None),
        }
    }

    fn foreign_lines(&self, rule: &IdRule) -> Vec<u8> {
        let IdLocation::Line { key: id, .. } = &rule.location else { return Vec::new() };
        let mut kept = Vec::new();
        for line in self.text.split_inclusive(|b| *b == b'\n') {
            let ours = entry(line).is_some_and(|(key, value)| key == id.as_bytes() || is_mark(key, value, rule));
            if !ours {
                kept.extend_from_slice(line);
            }
        }
        kept
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.text.split(|b| *b == b'\n').filter_map(entry)
    }
}

fn entry(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let key = line[..colon].trim_ascii();
    (!key.is_empty()).then(|| (key, line[colon + 1..].trim_ascii()))
}

/// `FAMILY:1`. call-home.sh takes any value for "reported" and writes 1.
fn is_mark(key: &[u8], value: &[u8], rule: &IdRule) -> bool {
    let IdLocation::Line { key: id, reserved } = &rule.location else { return false };
    value == b"1" && key != id.as_bytes() && !reserved.iter().any(|known| known.as_bytes() == key)
}

/// The JSON file `text` with `value` at `pointer` (RFC 6901), or without anything there. Everything else stays as it was
/// written, numbers to the last digit and keys in their order; only the objects on the way are laid out anew, by tabs,
/// as the products whose files these are write them. Objects on the way are made, and those that become empty taken out.
///
/// # Errors
/// When the text is no JSON, or something on the way is no object.
pub fn json_with(text: &[u8], pointer: &str, value: Option<Value>) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(text).map_err(|error| format!("not JSON: {error}"))?.trim_ascii();
    // What could not be read back is not written: beside good objects there may be bad JSON, or a number without end.
    serde_json::from_str::<Value>(if text.is_empty() { "{}" } else { text })
        .map_err(|error| format!("not JSON: {error}"))?;
    let keys: Vec<String> = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let written = put(text, &keys, value.map(|value| value.to_string()).as_deref(), 1)?;
    Ok(format!("{written}\n").into_bytes())
}

/// The object `text`, `depth` objects deep, with `value` at `keys` below it.
fn put(text: &str, keys: &[String], value: Option<&str>, depth: usize) -> Result<String, String> {
    let no_object = |_| "not the JSON object that it should be".to_owned();
    let members: Members<'_> = serde_json::from_str(if text.is_empty() { "{}" } else { text }).map_err(no_object)?;
    let mut members: Vec<(String, String)> =
        members.0.into_iter().map(|(key, raw)| (key, raw.get().to_owned())).collect();
    let [key, rest @ ..] = keys else { return Ok(text.to_owned()) };
    let at = members.iter().position(|(known, _)| known == key);
    let new = match (rest, value, at) {
        ([], value, _) => value.map(str::to_owned),
        (_, None, None) => None,
        (_, value, at) => {
            let inner = put(at.map_or("", |at| &members[at].1), rest, value, depth + 1)?;
            Some(inner).filter(|inner| value.is_some() || inner != "{}")
        }
    };
    match (new, at) {
        (Some(new), Some(at)) => members[at].1 = new,
        (Some(new), None) => members.push((key.clone(), new)),
        (None, Some(at)) => drop(members.remove(at)),
        (None, None) => {}
    }
    if members.is_empty() {
        return Ok("{}".to_owned());
    }
    let (inside, outside) = ("\t".repeat(depth), "\t".repeat(depth - 1));
    let lines = members.iter().map(|(key, raw)| format!("{inside}{}: {raw}", Value::from(key.as_str())));
    Ok(format!("{{\n{}\n{outside}}}", lines.collect::<Vec<_>>().join(",\n")))
}

/// The members of an object, in order, their values as they are written.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    // Of a key that is there twice, the last one counts, as everywhere.
                    members.retain(|(known, _)| *known != key);
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::id::IdFormat;
    use crate::profile::file_path::FilePath;

    const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    const OTHER: &str = "6e5ff5d4-5617-11ee-8c99-0242ac120002";

    fn rule_of(slot: IdLocation) -> IdRule {
        IdRule {
            file: FilePath::new("/x/telemetry_uuid").unwrap(),
            also: Vec::new(),
            location: slot,
            format: IdFormat::Uuid,
            is_made: true,
            mode: 0o644,
        }
    }

    fn rules() -> IdRule {
        rule_of(IdLocation::Line { key: "instanceId".to_owned(), reserved: vec!["config_write_check".to_owned()] })
    }

    fn identity(text: &str) -> Identity {
        Identity::new(text.as_bytes().to_vec())
    }

    #[test]
    fn ids_of_files_that_others_wrote() {
        for (text, id) in [
            (format!("instanceId:{ID}\n"), Some(ID)),
            (format!("instanceId: {ID}\r\nPRODUCT_FAMILY_PS:1\r\n"), Some(ID)),
            (format!(" instanceId :\t{ID} "), Some(ID)),
            (format!("instanceId:{OTHER}\ninstanceId:{ID}\n"), Some(ID)),
            (format!("PRODUCT_FAMILY_PS:1\nconfig_write_check:1\ninstanceId:{ID}"), Some(ID)),
            ("instanceId:not-a-uuid\n".to_owned(), None),
            (format!("instanceId:{{{ID}}}\n"), None),
            (format!("instanceId:{}\n", ID.replace('-', "")), None),
            (format!("instanceId:{ID}\ninstanceId:\n"), None),
            (format!("xinstanceId:{ID}\n"), None),
            (String::new(), None),
            ("\u{0}\n::\n".to_owned(), None),
        ] {
            assert_eq!(identity(&text).id(&rules()).as_deref(), id, "{text:?}");
        }
        assert_eq!(Identity::new(b"instanceId:\xff\xfe\n".to_vec()).id(&rules()), None);
    }

    #[test]
    fn marks_are_added_once_and_other_lines_stay() {
        let before = format!("# note\r\ninstanceId: {ID}\r\nconfig_write_check:1\nother:7");
        let after = identity(&before).with_reported("PRODUCT_FAMILY_PS", &rules());
        assert_eq!(after, identity(&format!("{before}\nPRODUCT_FAMILY_PS:1\n")));
        assert_eq!(after.with_reported("PRODUCT_FAMILY_PS", &rules()), after);
        assert!(after.is_reported("PRODUCT_FAMILY_PS", &rules()));
        for family in ["PRODUCT_FAMILY_P", "PRODUCT_FAMILY_PSX", "config_write_check", "instanceId", "other"] {
            assert!(!after.is_reported(family, &rules()), "{family}");
        }
    }

    #[test]
    fn a_new_id_starts_over_and_keeps_what_is_not_ours() {
        let before = identity("instanceId:bad\nPRODUCT_FAMILY_PS:1\r\nconfig_write_check:1\nother:7\nno colon\n");
        let after = before.with_id(ID, &rules()).unwrap();
        assert_eq!(after, identity(&format!("instanceId:{ID}\nconfig_write_check:1\nother:7\nno colon\n")));
        assert_eq!(after.id(&rules()).as_deref(), Some(ID));
        assert_eq!(after.reported(&rules()).count(), 0);
    }

    #[test]
    fn forgetting_leaves_only_what_somebody_would_miss() {
        assert_eq!(
            identity(&format!("instanceId:{ID}\nPS:1\nconfig_write_check:1\n")).forgotten(&rules()).unwrap(),
            None
        );
        let rest = identity(&format!("instanceId:{ID}\nPS:1\nother:7\n")).forgotten(&rules()).unwrap();
        assert_eq!(rest, Some(identity("other:7\n")));
    }

    #[test]
    fn json_files_keep_what_is_not_ours() {
        let rule = rule_of(IdLocation::Json("/telemetry/machine_id".to_owned()));
        let made = identity("").with_id(ID, &rule).unwrap();
        assert_eq!(made, identity(&format!("{{\n\t\"telemetry\": {{\n\t\t\"machine_id\": \"{ID}\"\n\t}}\n}}\n")));
        assert_eq!(made.id(&rule).as_deref(), Some(ID));
        assert_eq!(made.forgotten(&rule).unwrap(), None);

        let theirs = identity(r#"{"telemetry":{"enabled":true,"machine_id":"junk"},"other":[1.5,null]}"#);
        assert_eq!(theirs.id(&rule), None);
        let ours = theirs.with_id(ID, &rule).unwrap();
        let json: Value = serde_json::from_slice(ours.bytes()).unwrap();
        assert_eq!(json["other"], serde_json::json!([1.5, null]));
        assert_eq!(json["telemetry"], serde_json::json!({"enabled": true, "machine_id": ID}));
        let rest = ours.forgotten(&rule).unwrap().unwrap();
        let json: Value = serde_json::from_slice(rest.bytes()).unwrap();
        assert_eq!(json, serde_json::json!({"telemetry": {"enabled": true}, "other": [1.5, null]}));

        // What no number type holds, and an order that means something to somebody.
        let theirs =
            identity(r#"{"z":1222222222222222222222222222222,"telemetry":{"b":0.30000000000000004},"a":[1e99]}"#);
        let ours = String::from_utf8(theirs.with_id(ID, &rule).unwrap().bytes().to_vec()).unwrap();
        let id = format!("\"machine_id\": \"{ID}\"");
        assert_eq!(
            ours,
            format!(
                "{{\n\t\"z\": 1222222222222222222222222222222,\n\t\"telemetry\": {{\n\t\t\"b\": 0.30000000000000004,\n\t\t{id}\n\t}},\n\t\"a\": [1e99]\n}}\n"
            )
        );
        assert_eq!(identity(&ours).with_id(ID, &rule).unwrap(), identity(&ours));

        for foreign in [r#"{"a":1e999}"#, "{", "[]", r#"{"telemetry":7}"#, "\u{feff}{}"] {
            assert!(identity(foreign).with_id(ID, &rule).is_err(), "{foreign}");
            assert_eq!(identity(foreign).id(&rule), None);
        }
    }

    #[test]
    fn a_file_that_is_the_id() {
        let rule = rule_of(IdLocation::Whole);
        assert_eq!(identity(&format!(" {ID}\r\n")).id(&rule).as_deref(), Some(ID));
        assert_eq!(identity("root:x:0:0\n").id(&rule), None);
        assert_eq!(identity("x").with_id(ID, &rule).unwrap(), identity(&format!("{ID}\n")));
        assert_eq!(identity(ID).forgotten(&rule).unwrap(), None);
    }
}
