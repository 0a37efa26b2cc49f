//! An identity file: where it is, and its text, which is shared with other software.
//!
//! Lines (Percona's telemetry_uuid: `instanceId:UUID` and, once reported, `FAMILY:1`) are edited as bytes, and every
//! line that is not ours stays as it was, CRLF and all. In a JSON file, every other value stays as it was.

use std::{io, path::Path, path::PathBuf};

use rustix::io::Errno;

use super::{Kept, View, store::PENDING};
use crate::profile::{IdRule, file_path::Directories, product_files::json_text};
use crate::{host::Host, host::directory::Synced, host::path_error::PathError, json_edit::json_with};

const MAX_IDENTITY: usize = 1 << 20;

/// The file that holds one of a product's IDs.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    /// Where it is, absolute, inside the root.
    pub path: PathBuf,
    /// Files of older versions that may hold the ID where it has none.
    pub also: Vec<PathBuf>,
    /// How it is read.
    pub rule: IdRule,
    /// The profile whose ID it is; another one's may be in the same file.
    profile: String,
}

impl IdentityFile {
    /// The identity file at `path`. Files of older versions are added if the run knows their directories.
    pub fn at(path: PathBuf, rule: &IdRule, profile: &str, directories: &Directories) -> IdentityFile {
        let also = rule.also.iter().filter_map(|also| directories.resolve(also).ok()).collect();
        IdentityFile { path, also, rule: rule.clone(), profile: profile.to_owned() }
    }

    /// The ID that is kept, in an older version's file if need be.
    ///
    /// # Errors
    /// When it cannot be known whether one is kept.
    pub fn id(&self, host: &Host) -> Kept<Option<String>> {
        let mut paths = [&self.path].into_iter().chain(&self.also);
        paths.find_map(|path| load(host, path).map(|identity| identity.id(&self.rule)).transpose()).transpose()
    }

    /// The ID to report under. The one that is kept comes first. Next is the one in a waiting record of this file,
    /// because a power cut can take or empty the file. Then comes `given`, if none is kept, and last a fresh one. An ID
    /// that was made on another machine does not count. `None` means that none is kept, and that only the product makes
    /// one. Nothing is written.
    ///
    /// # Errors
    /// When it cannot be known whether one is kept.
    pub fn id_to_report(&self, view: View, given: Option<&str>) -> Kept<Option<String>> {
        let kept = self.id(view.host)?;
        let is_own = |id: &String| !view.is_cloned(id);
        if self.rule.product_made || kept.as_ref().is_some_and(is_own) {
            return Ok(kept.filter(is_own));
        }
        let records = view.store.into_iter().flat_map(|store| store.journals(PENDING)).map(|it| it.record);
        let of_file = records.filter(|it| it.profile == self.profile && it.identity_file.as_ref() == Some(&self.path));
        let waiting = of_file.filter_map(|record| record.instance_id).rfind(is_own);
        let given = given.filter(|id| kept.is_none() && self.rule.format.holds(id)).map(str::to_owned);
        Ok(waiting.or(given).or_else(|| Some(self.rule.format.fresh(view.host.now().timestamp()))))
    }

    /// Writes `id` down, with no family reported under it yet. The record, which holds the ID as well, is synced next.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn keep(&self, host: &Host, id: &str) -> Kept<()> {
        self.edit(host, &self.path, Synced::Nothing, |identity| identity.with_id(id, &self.rule))
    }

    /// Marks `family` as reported under `id`, and under no other.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn mark(&self, host: &Host, id: &str, family: &str) -> Kept<()> {
        self.edit(host, &self.path, Synced::Bytes, |identity| match identity.id(&self.rule) {
            None => Ok(identity.with_id(id, &self.rule)?.with_reported(family)),
            Some(known) if known != id || identity.is_reported(family, &self.rule) => Ok(identity),
            Some(_) => Ok(identity.with_reported(family)),
        })
    }

    /// Takes out what is ours, and removes a file in which nothing else is left. Files of older versions are treated in
    /// the same way.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn forget(&self, host: &Host) -> Kept<()> {
        self.sweep(host);
        let remove = |path| host.place(path, None).and_then(|(directory, name)| directory.remove(name));
        [&self.path].into_iter().chain(&self.also).try_for_each(|path| {
            self.edit(host, path, Synced::Bytes, |identity| match identity.forgotten(&self.rule)? {
                Some(rest) => Ok(rest),
                None if remove(path).is_ok() => Ok(identity),
                // It can be emptied where it cannot be removed.
                None => Ok(Identity::default()),
            })
        })
    }

    /// The mode of directories that are made for it.
    pub fn directory_mode(&self) -> u32 {
        if self.rule.public { 0o755 } else { 0o700 }
    }

    /// Removes what killed runs left beside it.
    pub fn sweep(&self, host: &Host) {
        let _ = host.place(&self.path, None).map(|(directory, name)| directory.sweep(Some(&name)));
    }

    /// Rewrites the file at `path`, if `edit` changes it.
    fn edit(&self, host: &Host, path: &Path, synced: Synced, edit: impl FnOnce(Identity) -> Edited) -> Kept<()> {
        let old = load(host, path)?;
        let write = || {
            let new = edit(old.clone())?;
            if new != old {
                let (directory, name) = host.place(path, Some(self.directory_mode()))?;
                // 0644 in 0755, or 0600 in 0700.
                directory.rewrite(&name, &new.0, self.directory_mode() & 0o666, synced)?;
            }
            Ok(())
        };
        write().map_err(PathError::at::<io::Error>(host.path(path)))
    }
}

/// The present text of the file at `path`, empty where there is none.
///
/// # Errors
/// Why it cannot be used: a link of others, a directory, no permission, larger than any such file; or a fault of the
/// machine.
pub fn load(host: &Host, path: &Path) -> Kept<Identity> {
    let read = match host.place(path, None) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        place => place.map_err(io::Error::from).and_then(|(directory, name)| directory.read(name, MAX_IDENTITY)),
    };
    read.map(|text| Identity(text.unwrap_or_default())).map_err(PathError::at(host.path(path)))
}

/// The text after a change, or why the file cannot be changed.
pub type Edited = io::Result<Identity>;

/// An identity file's text, which may have been written by anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity(pub Vec<u8>);

impl Identity {
    /// The ID, where there is one of the rule's format; of several lines, the first counts, as for
    /// percona-telemetry-agent.
    pub fn id(&self, rule: &IdRule) -> Option<String> {
        let found = match (&rule.key, &rule.pointer) {
            (Some(key), _) => self.entries().find(|(known, _)| *known == &**key)?.1.to_owned(),
            (None, Some(pointer)) => json_text(&self.0, pointer).ok()??,
            (None, None) => str::from_utf8(self.0.trim_ascii()).ok()?.to_owned(),
        };
        Some(found).filter(|id| rule.format.holds(id))
    }

    /// The families that are marked as reported, in a file that has marks.
    pub fn reported<'a>(&'a self, rule: &'a IdRule) -> impl Iterator<Item = &'a str> {
        self.entries().filter(|(key, value)| is_mark(key, value, rule)).map(|(key, _)| key)
    }

    /// Whether `family`, which is no other key of the file, is marked as reported. The value does not matter, because
    /// call-home.sh looks for the name only.
    pub fn is_reported(&self, family: &str, rule: &IdRule) -> bool {
        rule.key.is_some() && self.entries().any(|(key, _)| key == family)
    }

    /// The same file under another ID, with no family reported under it yet.
    ///
    /// # Errors
    /// When the file is not what the rule says. Then it belongs to somebody who wants it as it is.
    pub fn with_id(&self, id: &str, rule: &IdRule) -> Edited {
        let text = match (&rule.key, &rule.pointer) {
            (Some(key), _) => [format!("{}:{id}\n", &**key).into_bytes(), self.foreign_lines(rule)].concat(),
            (None, Some(pointer)) => json_with(&self.0, pointer, Some(id.into()))?,
            (None, None) => format!("{id}\n").into_bytes(),
        };
        Ok(Identity(text))
    }

    /// The same file with a mark for `family` at its end.
    pub fn with_reported(&self, family: &str) -> Identity {
        let is_cut = self.0.last().is_some_and(|last| *last != b'\n');
        let mark = format!("{}{family}:1\n", if is_cut { "\n" } else { "" });
        Identity([&self.0, mark.as_bytes()].concat())
    }

    /// What is left when all that is ours is taken out; `None` when nothing is left that anybody would miss.
    ///
    /// # Errors
    /// Those of [`json_with`].
    pub fn forgotten(&self, rule: &IdRule) -> io::Result<Option<Identity>> {
        let text = match (&rule.key, &rule.pointer) {
            (Some(_), _) => self.foreign_lines(rule),
            // An earlier run may have emptied a file that it could not remove.
            _ if self.id(rule).is_none() && !self.0.is_empty() => return Ok(Some(self.clone())),
            (None, Some(pointer)) => json_with(&self.0, pointer, None)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Identity(text)).filter(|rest| ![&b""[..], b"{}"].contains(&rest.0.trim_ascii())))
    }

    fn foreign_lines(&self, rule: &IdRule) -> Vec<u8> {
        let is_id = |key: &str| rule.key.as_deref() == Some(key);
        let is_ours = |line: &&[u8]| entry(line).is_some_and(|(key, value)| is_id(key) || is_mark(key, value, rule));
        self.0.split_inclusive(|b| *b == b'\n').filter(|line| !is_ours(line)).flatten().copied().collect()
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split(|b| *b == b'\n').filter_map(entry)
    }
}

/// The key and the value of a line.
fn entry(line: &[u8]) -> Option<(&str, &str)> {
    let (key, value) = str::from_utf8(line).ok()?.split_once(':')?;
    Some((key.trim_ascii(), value.trim_ascii())).filter(|(key, _)| !key.is_empty())
}

/// `FAMILY:1`, or a name that can only be a family's. Any other line may be somebody else's.
fn is_mark(key: &str, value: &str, rule: &IdRule) -> bool {
    let is_free = rule.key.as_deref().is_some_and(|id| key != id) && rule.reserved.iter().all(|known| known != key);
    is_free && (value == "1" || key.starts_with("PRODUCT_FAMILY_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
    const OTHER: &str = "6e5ff5d4-5617-11ee-8c99-0242ac120002";

    fn rule_of(location: &str) -> IdRule {
        serde_json::from_str(&format!(r#"{{"file":"/x/telemetry_uuid"{location}}}"#)).unwrap()
    }

    fn rules() -> IdRule {
        rule_of(r#","key":"instanceId","reserved":["config_write_check"]"#)
    }

    fn identity(text: &str) -> Identity {
        Identity(text.as_bytes().to_vec())
    }

    #[test]
    fn ids_of_files_that_others_wrote() {
        for (text, id) in [
            (format!("instanceId:{ID}\n"), Some(ID)),
            (format!("instanceId: {ID}\r\nPRODUCT_FAMILY_PS:1\r\n"), Some(ID)),
            (format!(" instanceId :\t{ID} "), Some(ID)),
            (format!("instanceId:{ID}\ninstanceId:{OTHER}\n"), Some(ID)),
            (format!("instanceId:bad\ninstanceId:{ID}\n"), None),
            (format!("PRODUCT_FAMILY_PS:1\nconfig_write_check:1\ninstanceId:{ID}"), Some(ID)),
            ("instanceId:not-a-uuid\n".to_owned(), None),
            (format!("instanceId:{{{ID}}}\n"), None),
            (format!("instanceId:{}\n", ID.replace('-', "")), None),
            (format!("instanceId:{ID}\ninstanceId:\n"), Some(ID)),
            (format!("xinstanceId:{ID}\n"), None),
            (String::new(), None),
            ("\u{0}\n::\n".to_owned(), None),
        ] {
            assert_eq!(identity(&text).id(&rules()).as_deref(), id, "{text:?}");
        }
        assert_eq!(Identity(b"instanceId:\xff\xfe\n".to_vec()).id(&rules()), None);
    }

    #[test]
    fn marks_are_added_once_and_other_lines_stay() {
        let before = format!("# note\r\ninstanceId: {ID}\r\nconfig_write_check:1\nother:7");
        let after = identity(&before).with_reported("PRODUCT_FAMILY_PS");
        assert_eq!(after, identity(&format!("{before}\nPRODUCT_FAMILY_PS:1\n")));
        assert!(after.is_reported("PRODUCT_FAMILY_PS", &rules()));
        for family in ["PRODUCT_FAMILY_P", "PRODUCT_FAMILY_PSX"] {
            assert!(!after.is_reported(family, &rules()), "{family}");
        }
        for value in ["0", "8.0.36", ""] {
            let other = identity(&format!("instanceId:{ID}\nPRODUCT_FAMILY_PS:{value}\n"));
            assert!(other.is_reported("PRODUCT_FAMILY_PS", &rules()), "{value}");
            assert_eq!(other.with_id(OTHER, &rules()).unwrap(), identity(&format!("instanceId:{OTHER}\n")));
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
        assert_eq!(identity(&format!("instanceId:{ID}\nPS:1\n \r\n")).forgotten(&rules()).unwrap(), None);
        let rest = identity(&format!("instanceId:{ID}\nPS:1\nconfig_write_check:1\n")).forgotten(&rules()).unwrap();
        assert_eq!(rest, Some(identity("config_write_check:1\n")));
        let rest = identity(&format!("instanceId:{ID}\nPS:1\nother:7\n")).forgotten(&rules()).unwrap();
        assert_eq!(rest, Some(identity("other:7\n")));
        let rest = identity(&format!("# note\ninstanceId:{ID}\n\n")).forgotten(&rules()).unwrap();
        assert_eq!(rest, Some(identity("# note\n\n")));
    }

    #[test]
    fn json_files_keep_what_is_not_ours() {
        let rule = rule_of(r#","pointer":"/telemetry/machine_id""#);
        let made = identity("").with_id(ID, &rule).unwrap();
        assert_eq!(made, identity(&format!("{{\n\t\"telemetry\": {{\n\t\t\"machine_id\": \"{ID}\"\n\t}}\n}}\n")));
        assert_eq!(made.id(&rule).as_deref(), Some(ID));
        assert_eq!(made.forgotten(&rule).unwrap(), None);

        let theirs = identity(r#"{"telemetry":{"enabled":true,"machine_id":"junk"},"other":[1.5,null]}"#);
        assert_eq!(theirs.id(&rule), None);
        let ours = theirs.with_id(ID, &rule).unwrap();
        let json: Value = serde_json::from_slice(&ours.0).unwrap();
        assert_eq!(json["other"], serde_json::json!([1.5, null]));
        assert_eq!(json["telemetry"], serde_json::json!({"enabled": true, "machine_id": ID}));
        let rest = ours.forgotten(&rule).unwrap().unwrap();
        let json: Value = serde_json::from_slice(&rest.0).unwrap();
        assert_eq!(json, serde_json::json!({"telemetry": {"enabled": true}, "other": [1.5, null]}));

        // A number that no type holds.
        let theirs =
            identity(r#"{"z":1222222222222222222222222222222,"telemetry":{"b":0.30000000000000004},"a":[1e99]}"#);
        let ours = String::from_utf8(theirs.with_id(ID, &rule).unwrap().0).unwrap();
        assert_eq!(
            ours,
            format!(
                "{{\n\t\"a\": [1e99],\n\t\"telemetry\": {{\n\t\t\"b\": 0.30000000000000004,\n\t\t\"machine_id\": \"{ID}\"\n\t}},\n\t\"z\": 1222222222222222222222222222222\n}}\n"
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
        let rule = rule_of("");
        assert_eq!(identity(&format!(" {ID}\r\n")).id(&rule).as_deref(), Some(ID));
        assert_eq!(identity("root:x:0:0\n").id(&rule), None);
        assert_eq!(identity("x").with_id(ID, &rule).unwrap(), identity(&format!("{ID}\n")));
        assert_eq!(identity(ID).forgotten(&rule).unwrap(), None);
    }
}
