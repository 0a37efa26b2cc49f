//! What the caller supplies by `--set KEY=VALUE`, checked against what the profile says of each key.
//!
//! Pure: rules and texts in, texts out. Only keys that the record's template names come through.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Number, Value};

use super::{Profile, form::is_identifier};
use crate::template::{MAX_BODY, Template, Values, render};
use crate::{facts, outcome::Outcome};

/// What a profile says about one key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct GivenRule {
    /// What counts where the caller gives none.
    pub default: Option<Value>,
    /// Whether a record cannot be made without it.
    pub required: bool,
    /// What the value has to be.
    pub form: Form,
    /// The counters that get through. If this is empty, every name gets through that is an identifier.
    pub names: Vec<String>,
}

/// What a value has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Any JSON, or a text.
    #[default]
    Any,
    /// A number.
    Number,
    /// Words, sent in capitals with `_` between them, up to the first that is no plain lower-case word: `wunderctl up
    /// --debug secret` is `WUNDERCTL_UP`. What a user typed after a command's own words never leaves.
    Capitals,
    /// Counts by name: an object, or one `--set KEY.NAME=COUNT` for each.
    Counters,
}

/// What was given, by key.
type Given = [(String, String)];

impl Profile {
    /// The values of the keys that `body` and the headers name, from what was `given` and the rules of the profile; and
    /// the counters that are left out.
    ///
    /// # Errors
    /// [`Outcome::Usage`] for a value that its rule does not allow. What was typed may be a secret, so it is not
    /// repeated.
    pub fn supplied(&self, body: &Template, given: &Given) -> Result<(Values, Vec<String>), Outcome> {
        let (mut values, mut left_out) = (Values::default(), Vec::new());
        let wrong = |what: String| Outcome::Usage(format!("--set {what}; the profile is {}", self.name));
        for key in self.named_given(body) {
            let rule = self.set.get(key).cloned().unwrap_or_default();
            let text = rule.text(key, given, &mut left_out).map_err(|must| wrong(format!("{key}=VALUE {must}")))?;
            values.given.extend(text.map(|text| (format!("set.{key}"), text)));
        }
        // Texts are cut, and nothing else.
        if !values.given.is_empty() && render(body, &values).len() > MAX_BODY {
            return Err(wrong("gives too much for a record".to_owned()));
        }
        Ok((values, left_out))
    }
}

impl GivenRule {
    /// The text of `key` in the record, if there is one.
    fn text(&self, key: &str, given: &Given, left_out: &mut Vec<String>) -> Result<Option<String>, &'static str> {
        // A counter's own name is behind the key and a dot.
        let is_own = |rest: &&str| rest.is_empty() || self.form == Form::Counters && rest.starts_with('.');
        let given = given.iter().filter_map(|(full, text)| Some((full.strip_prefix(key).filter(is_own)?, text)));
        let default = self.default.as_ref().map(facts::text);
        let own: Vec<(&str, &String)> = default.iter().map(|text| ("", text)).chain(given).collect();
        let Some((_, text)) = own.last() else {
            return if self.required { Err("is missing") } else { Ok(None) };
        };
        let is_number = |text: &String| serde_json::from_slice::<Number>(text.as_bytes()).is_ok();
        let (text, must) = match self.form {
            Form::Any => (Some((*text).clone()), ""),
            Form::Number => (Some((*text).clone()).filter(is_number), "must be a number"),
            Form::Capitals => (capitals(text), "must be a plain lower-case word, or several"),
            Form::Counters => (self.counts(key, &own, left_out), "must be whole numbers by name"),
        };
        text.map(Some).ok_or(must)
    }

    /// The counts that get through, as JSON; `None` if one is no whole number.
    fn counts(&self, key: &str, own: &[(&str, &String)], left_out: &mut Vec<String>) -> Option<String> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (rest, text) in own {
            match rest.strip_prefix('.') {
                Some(name) => counts.extend([(name.to_owned(), text.parse().ok()?)]),
                None => counts.extend(serde_json::from_slice::<BTreeMap<String, u64>>(text.as_bytes()).ok()?),
            }
        }
        left_out.extend(counts.keys().filter(|name| !self.knows(name)).map(|name| format!("{key}.{name}")));
        counts.retain(|name, _| self.knows(name));
        serde_json::to_string(&counts).ok()
    }

    /// Whether a counter can have that name: an identifier, or several with dots between them. Anything else could be a
    /// path, an address or a user's text.
    fn knows(&self, name: &str) -> bool {
        name.split('.').all(is_identifier) && (self.names.is_empty() || self.names.iter().any(|known| known == name))
    }
}

/// In capitals, the words up to the first that is not all lower-case letters, digits and inner `-`; `None` without any.
fn capitals(text: &str) -> Option<String> {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_plain = |word: &&str| word.bytes().all(is_letter) && !word.starts_with('-') && !word.ends_with('-');
    let words: Vec<String> = text.split_whitespace().take_while(is_plain).map(str::to_ascii_uppercase).collect();
    Some(words.join("_")).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;
    use serde_json::json;

    /// A profile whose template is `body`, with one rule for the key `k`.
    fn profile(body: &str, rule: &str) -> Result<Profile, Outcome> {
        let text = format!(
            r#"{{"name":"mine","consent":{{}},"endpoint":"https://x.example/","set":{{"k":{rule}}},"body":{body}}}"#
        );
        Source::of_text("./mine.json", &text).profile()
    }

    /// What it makes of what is `given`.
    fn supplied(body: &str, rule: &str, given: &[(&str, &str)]) -> Result<(Values, Vec<String>), Outcome> {
        let profile = profile(body, rule).unwrap();
        let given: Vec<_> = given.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        profile.supplied(profile.body(None, &given).unwrap(), &given)
    }

    #[test]
    fn values_by_their_form() {
        const ANY: &str = "{}";
        const CAPITALS: &str = r#"{"form":"capitals"}"#;
        const COUNTERS: &str = r#"{"form":"counters"}"#;
        for (rule, given, expected) in [
            (ANY, &[("k", "1.5")][..], Some(json!(1.5))),
            (ANY, &[("k", "v1.5")], Some(json!("v1.5"))),
            (ANY, &[("k", "[1,\"a\"]")], Some(json!([1, "a"]))),
            (ANY, &[("k", "")], Some(json!(""))),
            (ANY, &[("k", "1"), ("k", "2")], Some(json!(2))),
            (ANY, &[("other", "1")], None),
            (CAPITALS, &[("k", "wunderctl up")], Some(json!("WUNDERCTL_UP"))),
            (CAPITALS, &[("k", "wunderctl up --debug --pin secret")], Some(json!("WUNDERCTL_UP"))),
            (CAPITALS, &[("k", "generate  all")], Some(json!("GENERATE_ALL"))),
            (CAPITALS, &[("k", "node start-all v2")], Some(json!("NODE_START-ALL_V2"))),
            (CAPITALS, &[("k", "add ./secret.json x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add my_secret x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add Mallory x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add -- x")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add x- y")], Some(json!("ADD"))),
            (CAPITALS, &[("k", "add \u{e9} y")], Some(json!("ADD"))),
            (r#"{"form":"number"}"#, &[("k", "600")], Some(json!(600))),
            (COUNTERS, &[("k", r#"{"nxalg.pagerank":2}"#)], Some(json!({"nxalg.pagerank": 2}))),
            (COUNTERS, &[("k.nxalg.pagerank", "2")], Some(json!({"nxalg.pagerank": 2}))),
            (COUNTERS, &[("k./home/u", "2"), ("k.a b", "1"), ("k.10.0.0.1", "1")], Some(json!({}))),
            (
                r#"{"form":"counters","names":["FailedQuery"]}"#,
                &[("k.FailedQuery", "0"), ("k.Other", "1")],
                Some(json!({"FailedQuery": 0})),
            ),
            (r#"{"default":"-0.0.0"}"#, &[], Some(json!("-0.0.0"))),
        ] {
            let taken = supplied(r#"["$set.k"]"#, rule, given).unwrap().0.given;
            let value = |text: String| serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
            assert_eq!(taken.into_values().next().map(value), expected, "{rule} {given:?}");
        }
    }

    #[test]
    fn counters_that_are_left_out_are_named() {
        let given = [("k.Known", "1"), ("k.Other", "1"), ("k./home/u", "2"), ("kk", "1"), ("x", "1")];
        let left_out = supplied(r#"["$set.k"]"#, r#"{"form":"counters","names":["Known"]}"#, &given).unwrap().1;
        assert_eq!(left_out, ["k./home/u", "k.Other"]);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        // Each number is written in 18 digits.
        let numbers = format!("[{}1]", "1e15,".repeat(MAX_BODY / 10));
        for (rule, given, named) in [
            (r#"{"form":"number"}"#, ("k", "soon"), "--set k=VALUE must be a number"),
            (r#"{"form":"counters"}"#, ("k", "7"), "must be whole numbers by name"),
            (r#"{"form":"counters"}"#, ("k.a", "-1"), "must be whole numbers by name"),
            (r#"{"form":"counters"}"#, ("k", r#"{"a":"x"}"#), "must be whole numbers by name"),
            (r#"{"form":"capitals"}"#, ("k", "--pin secret"), "--set k=VALUE must be a plain lower-case word"),
            (r#"{"required":true}"#, ("x", "1"), "--set k=VALUE is missing; the profile is mine"),
            ("{}", ("k", &numbers), "--set gives too much for a record; the profile is mine"),
        ] {
            let error = supplied(r#"["$set.k"]"#, rule, &[given]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_value_counts_as_often_as_a_record_has_it() {
        let list = format!("[{}]", "1,".repeat(MAX_BODY / 6) + "1");
        assert!(supplied(r#"["$set.k","$set.k"]"#, "{}", &[("k", &list)]).is_ok());
        assert!(supplied(r#"["$set.k","$set.k","$set.k","$set.k"]"#, "{}", &[("k", &list)]).is_err());
    }

    #[test]
    fn what_a_rule_cannot_say() {
        for (rule, problem) in [
            (r#"{"names":["a"]}"#, "set.k: names: only counters have names"),
            (r#"{"form":"list"}"#, "set.k.form: unknown variant `list`"),
            (r#"{"from":"list"}"#, "set.k.from: unknown field `from`"),
        ] {
            let error = profile(r#"["$set.k"]"#, rule).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
