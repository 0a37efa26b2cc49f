//! The identity file of the key:value format, pure: text in, text out.
//!
//! Percona's telemetry_uuid is shared with other software: lines `instanceId:UUID` and, once reported, `FAMILY:1`.
//! It is edited as bytes, line by line, and every line that is not ours stays as it was, CRLF and all.

use crate::profile::IdentityRules;

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

    /// The instance ID: the last such line that holds a UUID.
    pub fn instance_id(&self, rules: &IdentityRules) -> Option<&str> {
        let (_, value) = self.entries().rfind(|(key, _)| *key == rules.id.as_bytes())?;
        std::str::from_utf8(value).ok().filter(|id| is_uuid(id))
    }

    /// The families that are marked as reported.
    pub fn reported<'a>(&'a self, rules: &'a IdentityRules) -> impl Iterator<Item = &'a str> {
        self.entries().filter(|(key, value)| is_mark(key, value, rules)).filter_map(|(key, _)| str::from_utf8(key).ok())
    }

    /// Whether `family` is marked as reported.
    pub fn is_reported(&self, family: &str, rules: &IdentityRules) -> bool {
        self.reported(rules).any(|known| known == family)
    }

    /// The same file under a new instance ID, with no family reported under it yet.
    pub fn with_instance_id(&self, id: &str, rules: &IdentityRules) -> Identity {
        let mut text = format!("{}:{id}\n", rules.id).into_bytes();
        text.extend(self.foreign_lines(rules));
        Identity { text }
    }

    /// The same file with `family` marked as reported.
    pub fn with_reported(&self, family: &str, rules: &IdentityRules) -> Identity {
        let mut text = self.text.clone();
        if !self.is_reported(family, rules) {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(format!("{family}:1\n").as_bytes());
        }
        Identity { text }
    }

    /// What is left when our own lines are taken out; `None` when nothing is left that anybody would miss.
    pub fn forgotten(&self, rules: &IdentityRules) -> Option<Identity> {
        let text: Vec<u8> = self.foreign_lines(rules);
        let rest = Identity { text };
        let is_missed = rest.entries().any(|(key, _)| !rules.reserved.iter().any(|known| known.as_bytes() == key));
        is_missed.then_some(rest)
    }

    fn foreign_lines(&self, rules: &IdentityRules) -> Vec<u8> {
        let mut kept = Vec::new();
        for line in self.text.split_inclusive(|b| *b == b'\n') {
            let ours = entry(line).is_some_and(|(key, value)| key == rules.id.as_bytes() || is_mark(key, value, rules));
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

/// Whether `text` is a UUID in the form of RFC 9562, section 4: 8-4-4-4-12 hexadecimal digits, any case.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

fn entry(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let key = line[..colon].trim_ascii();
    (!key.is_empty()).then(|| (key, line[colon + 1..].trim_ascii()))
}

/// `FAMILY:1`. call-home.sh takes any value for "reported" and writes 1.
fn is_mark(key: &[u8], value: &[u8], rules: &IdentityRules) -> bool {
    value == b"1" && key != rules.id.as_bytes() && !rules.reserved.iter().any(|known| known.as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    const OTHER: &str = "6e5ff5d4-5617-11ee-8c99-0242ac120002";

    fn rules() -> IdentityRules {
        IdentityRules {
            file: "/usr/local/percona/telemetry_uuid".into(),
            id: "instanceId".to_owned(),
            reserved: vec!["config_write_check".to_owned()],
        }
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
            assert_eq!(identity(&text).instance_id(&rules()), id, "{text:?}");
        }
        assert_eq!(Identity::new(b"instanceId:\xff\xfe\n".to_vec()).instance_id(&rules()), None);
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
        let after = before.with_instance_id(ID, &rules());
        assert_eq!(after, identity(&format!("instanceId:{ID}\nconfig_write_check:1\nother:7\nno colon\n")));
        assert_eq!(after.instance_id(&rules()), Some(ID));
        assert_eq!(after.reported(&rules()).count(), 0);
    }

    #[test]
    fn forgetting_leaves_only_what_somebody_would_miss() {
        assert_eq!(identity(&format!("instanceId:{ID}\nPS:1\nconfig_write_check:1\n")).forgotten(&rules()), None);
        let rest = identity(&format!("instanceId:{ID}\nPS:1\nother:7\n")).forgotten(&rules());
        assert_eq!(rest, Some(identity("other:7\n")));
    }
}
