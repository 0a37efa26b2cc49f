//! Makes a record's bytes of a template and values: same input, same bytes.
//!
//! This is the format on the wire. The order of keys, the escaping, the word `unknown` and the limits on length are
//! defined here and nowhere else. A text that is too long is cut: a record with half a version is worth more to both
//! sides than an installation with an error.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde_json::Value;

use crate::facts::{self, Facts};

/// The longest text in a record, in characters.
pub const MAX_TEXT: usize = 256;

/// The largest record, in bytes. All counters of Memgraph fit.
pub const MAX_BODY: usize = 12 << 10;

/// What stands for a text that this machine cannot tell.
const UNKNOWN: &str = "unknown";

/// A record with facts in the places of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// `{…}`, in the order of the profile. A key that ends in `?` is left out when its value is not known.
    Object(Vec<(String, Template)>),
    /// `[…]`
    List(Vec<Template>),
    /// A text in which `${fact}` and `${set.KEY}` stand for a text. A `$fact` or `$set.KEY` alone stands for a JSON value.
    Text(String),
    /// `true`, `false`, `null` or a number, as written.
    Scalar(Value),
}

/// Everything that a record is made of besides its template.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// What is known of this machine and run.
    pub facts: Facts,
    /// What the caller gave by `--set`, by its name in templates (`set.KEY`): JSON where it parses as JSON, else a text.
    pub given: BTreeMap<String, String>,
}

impl Values {
    /// The value of what is named, in its JSON type; `None` where it is not known.
    fn get(&self, name: &str) -> Option<Value> {
        let Some(text) = self.given.get(name) else { return self.facts.get(name).cloned() };
        Some(serde_json::from_slice(text.as_bytes()).unwrap_or_else(|_| text.as_str().into()))
    }

    /// The same as text. What was given keeps its exact text: a version `1.30` is no number.
    fn text(&self, name: &str) -> Option<String> {
        self.given.get(name).cloned().or_else(|| Some(facts::text(&self.get(name)?)))
    }
}

impl Template {
    /// What the template names, in its order: facts, and `set.KEY`. Nothing else is ever read for it.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Template::Object(members) => members.iter().flat_map(|(_, value)| value.names()).collect(),
            Template::List(items) => items.iter().flat_map(Template::names).collect(),
            Template::Text(text) => names(text),
            Template::Scalar(_) => Vec::new(),
        }
    }

    /// The record, with values in the places of their names and no text longer than `limit` characters.
    fn written(&self, values: &Values, limit: usize) -> String {
        match self {
            Template::Object(members) => {
                let is_known = |value: &Template| value.names().iter().all(|name| values.get(name).is_some());
                let members = members.iter().filter(|(key, value)| !key.ends_with('?') || is_known(value));
                let written = members.map(|(key, value)| {
                    format!("{}:{}", Value::from(key.trim_end_matches('?')), value.written(values, limit))
                });
                format!("{{{}}}", written.collect::<Vec<_>>().join(","))
            }
            Template::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.written(values, limit)).collect();
                format!("[{}]", items.join(","))
            }
            Template::Text(text) => shortened(&filled(text, values), limit).to_string(),
            Template::Scalar(value) => value.to_string(),
        }
    }
}

/// What a text names if it is `$fact` or `$set.KEY`, and nothing else.
fn named_alone(text: &str) -> Option<&str> {
    text.strip_prefix('$').filter(|name| !name.starts_with('{'))
}

/// Each `${name}` of a text, with what follows it. Without a closing brace, the name is empty, as that of no fact.
fn named_parts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("${").skip(1).map(|part| part.split_once('}').unwrap_or(("", part)))
}

/// What a text names.
fn names(text: &str) -> Vec<&str> {
    let in_text = || named_parts(text).map(|(name, _)| name).collect();
    named_alone(text).map_or_else(in_text, |name| vec![name])
}

/// A text with values in the places of their names.
fn filled(text: &str, values: &Values) -> Value {
    if let Some(name) = named_alone(text) {
        let missing = if facts::is_text(name) { UNKNOWN.into() } else { Value::Null };
        return values.get(name).unwrap_or(missing);
    }
    let begin = text.split("${").next().unwrap_or_default().to_owned();
    let with_value =
        |text: String, (name, after): (&str, &str)| text + values.text(name).as_deref().unwrap_or(UNKNOWN) + after;
    named_parts(text).fold(begin, with_value).into()
}

/// Whether `key` can be one of `--set`.
pub fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The record as it is posted: valid JSON of at most [`MAX_BODY`] bytes, no text longer than [`MAX_TEXT`].
pub fn render(template: &Template, values: &Values) -> String {
    let limits = [MAX_TEXT, MAX_TEXT / 4, MAX_TEXT / 16];
    let mut bodies = limits.into_iter().map(|limit| template.written(values, limit));
    bodies.find(|body| body.len() <= MAX_BODY).unwrap_or_else(|| template.written(values, 0))
}

/// A header's value: a text, on one line of visible ASCII (RFC 9110, section 5.5).
pub fn render_line(template: &Template, values: &Values) -> String {
    let Template::Text(text) = template else { return String::new() };
    let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    facts::text(&filled(text, values)).chars().take(MAX_TEXT).map(visible).collect::<String>().trim().to_owned()
}

/// The value with every text in it cut at `limit` characters.
fn shortened(value: &Value, limit: usize) -> Value {
    match value {
        Value::String(text) => text.chars().take(limit).collect::<String>().into(),
        Value::Array(items) => items.iter().map(|item| shortened(item, limit)).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), shortened(value, limit))).collect(),
        scalar => scalar.clone(),
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Template, D::Error> {
        from.deserialize_any(AnyJson)
    }
}

/// Reads any JSON. The order of an object's keys counts, and serde_json's own map does not keep it.
struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Template;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Template, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Template::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Template, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Template::List)
    }

    /// A name must be known: it is what may leave a machine.
    fn visit_str<E: Error>(self, text: &str) -> Result<Template, E> {
        let is_known = |name: &&str| name.strip_prefix("set.").map_or(facts::named(name).is_some(), is_key);
        if let Some(name) = names(text).into_iter().find(|name| !is_known(name)) {
            let facts = facts::names().collect::<Vec<_>>().join(", ");
            return Err(E::custom(format!("'{name}' is no fact; known are {facts}, set.KEY")));
        }
        Ok(Template::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Template, E> {
        Ok(Template::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, scalar: bool) -> Result<Template, E> {
        Ok(Template::Scalar(scalar.into()))
    }

    fn visit_u64<E>(self, scalar: u64) -> Result<Template, E> {
        Ok(Template::Scalar(scalar.into()))
    }

    fn visit_i64<E>(self, scalar: i64) -> Result<Template, E> {
        Ok(Template::Scalar(scalar.into()))
    }

    fn visit_f64<E>(self, scalar: f64) -> Result<Template, E> {
        Ok(Template::Scalar(scalar.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        serde_json::from_str(text).unwrap()
    }

    fn values(fact: &'static str, value: &str) -> Values {
        Values { facts: Facts::from([(fact, value.into())]), given: BTreeMap::new() }
    }

    #[test]
    fn keys_keep_their_order_and_scalars_their_type() {
        let values = values("deployment", "PACKAGE");
        let text = r#"{"z":"$deployment","a":[1,-2,2.5,true,null,"x"],"m":{}}"#;
        assert_eq!(render(&template(text), &values), r#"{"z":"PACKAGE","a":[1,-2,2.5,true,null,"x"],"m":{}}"#);
    }

    #[test]
    fn a_fact_that_is_missing_is_unknown() {
        assert_eq!(render(&template(r#"["$os.pretty_name"]"#), &Values::default()), r#"["unknown"]"#);
    }

    #[test]
    fn any_text_is_valid_json_and_comes_back_as_it_was() {
        for text in ["", "a\"b\\c", "line\nfeed\r\t\u{0}\u{1f}\u{7f}", "é\u{2028}😀", "\u{fffd}", "${x} $y"] {
            let values = values("os.pretty_name", text);
            let body = render(&template(r#"["$os.pretty_name"]"#), &values);
            assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap(), [text]);
        }
    }

    #[test]
    fn long_texts_are_cut_at_256_characters() {
        for text in ["x".repeat(1_000_000), "😀".repeat(1000), "\u{1}".repeat(1000)] {
            let values = values("os.pretty_name", &text);
            let body = render(&template(r#"["$os.pretty_name"]"#), &values);
            let back: Vec<String> = serde_json::from_str(&body).unwrap();
            assert_eq!(back[0].chars().count(), MAX_TEXT);
            assert!(text.starts_with(&back[0]));
        }
    }

    #[test]
    fn a_record_that_is_too_large_loses_text_not_keys() {
        let text = "\u{1}".repeat(1000);
        let values = values("os.pretty_name", &text);
        let many = format!("[{}]", vec![r#""$os.pretty_name""#; 20].join(","));
        let body = render(&template(&many), &values);
        assert!(body.len() <= MAX_BODY, "{}", body.len());
        assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap().len(), 20);
    }

    #[test]
    fn values_keep_their_type_or_become_text() {
        let given = [("n", "1.3"), ("l", "[1,\"a\",{\"b\":null}]"), ("t", "up")];
        let values = Values {
            facts: Facts::from([("cpu.count", 8.into()), ("ci.name", Value::Null), ("ci.detected", true.into())]),
            given: given.map(|(key, text)| (format!("set.{key}"), text.to_owned())).into(),
        };
        for (text, body) in [
            (r#"["$cpu.count","${cpu.count}","$ci.detected","$ci.name"]"#, r#"[8,"8",true,null]"#),
            (r#"["$set.n","${set.n}","v${set.n}-${set.t}"]"#, r#"[1.3,"1.3","v1.3-up"]"#),
            (r#"["$set.l"]"#, r#"[[1,"a",{"b":null}]]"#),
            (r#"["$memory.total","$os.name","$set.x","${set.x}"]"#, r#"[null,"unknown",null,"unknown"]"#),
            (
                r#"{"a?":"$cpu.count","b?":"$memory.total","c?":"${set.t}${set.x}","d?":"$set.t","e?":{"f":["$set.x"]}}"#,
                r#"{"a":8,"d":"up"}"#,
            ),
            (r#"["a$b","5$${set.t}$","5 $","{$cpu.count}"]"#, r#"["a$b","5$up$","5 $","{$cpu.count}"]"#),
        ] {
            assert_eq!(render(&template(text), &values), body);
        }
        assert!(serde_json::from_str::<Template>("[1e400]").is_err());
    }

    #[test]
    fn a_header_is_one_line_of_visible_ascii() {
        let values = values("product.version", "2.3.1\r\nX: é\t");
        let header = Template::Text("memgraph/${product.version}".to_owned());
        assert_eq!(render_line(&header, &values), "memgraph/2.3.1??X: ??");
    }
}
