//! A template and values make a record's bytes: same input, same bytes.
//!
//! This is the wire. The order of keys, the escaping, the word `unknown` and the limits on length live here and
//! nowhere else. What is too long is cut, never refused: a record with half a version is worth more to both sides
//! than an installation with an error.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::facts::{Fact, Facts};

/// The longest text in a record, in characters.
pub const MAX_TEXT: usize = 256;

/// The largest record, in bytes: the largest template with the most that can be given.
pub const MAX_BODY: usize = MAX_TEMPLATE + MAX_GIVEN;

/// The most that one run may be given by `--set`, in bytes of JSON. All 130 counters of Memgraph fit.
pub const MAX_GIVEN: usize = 8 << 10;

/// The largest record of a template without any values, in bytes.
const MAX_TEMPLATE: usize = 4 << 10;

/// What stands for a text that this machine cannot tell.
const UNKNOWN: &str = "unknown";

/// A record with facts in the places of values. The order of keys is that of the profile.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// `$fact` or `$set.KEY`, with its own JSON type.
    Value(Reference),
    /// A text, sent as it is or with `${…}` in it.
    Text(Vec<Piece>),
    /// `true`, `false`, `null` or a number, as written.
    Scalar(Value),
    /// `[…]`
    List(Vec<Template>),
    /// `{…}`
    Object(Vec<Member>),
}

/// What a template names.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// A fact.
    Fact(Fact),
    /// The value that the caller gave for a key by `--set`.
    Given(String),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// As it is.
    Literal(String),
    /// `${fact}`, or `${set.KEY}`: the very text that the caller gave.
    Value(Reference),
}

/// A key of an object, with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    key: String,
    /// `"key?"`: left out when the value is not known.
    is_optional: bool,
    value: Template,
}

/// A value that the caller supplied by `--set`, or its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// JSON where the text parses as JSON, else the text.
    pub value: Value,
    /// The text as it was given.
    pub text: String,
}

impl Given {
    /// Takes the text of a command line.
    pub fn new(text: &str) -> Given {
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        Given { value, text: text.to_owned() }
    }

    /// Takes a JSON value.
    pub fn of(value: Value) -> Given {
        Given { text: text_of(&value), value }
    }
}

/// All that a record is made of beside its template.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// What is known of this machine and run.
    pub facts: Facts,
    /// What the caller supplied, by key.
    pub given: Vec<(String, Given)>,
}

impl Values {
    fn given(&self, key: &str) -> Option<&Given> {
        self.given.iter().find(|(known, _)| known == key).map(|(_, given)| given)
    }

    /// The value of what is named; `None` where it is not known.
    fn get(&self, reference: &Reference) -> Option<&Value> {
        match reference {
            Reference::Fact(fact) => self.facts.get(*fact),
            Reference::Given(key) => self.given(key).map(|given| &given.value),
        }
    }

    /// The same as text; what was given keeps its own text.
    fn text(&self, reference: &Reference) -> String {
        let text = match reference {
            Reference::Fact(fact) => self.facts.get(*fact).map(text_of),
            Reference::Given(key) => self.given(key).map(|given| given.text.clone()),
        };
        text.unwrap_or_else(|| UNKNOWN.to_owned())
    }

    fn joined(&self, pieces: &[Piece]) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Value(reference) => self.text(reference),
        };
        pieces.iter().map(text).collect()
    }
}

/// What is wrong with a text of a template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// It names a fact that there is not.
    #[error("'{0}' is no fact; known are {known}, set.KEY", known = Fact::known().join(", "))]
    NoFact(String),
    /// It names a key of `--set` that cannot be one.
    #[error("'set.{0}': a key is letters, digits, . _ - , at most 64")]
    NoKey(String),
    /// It has a `${` without its end.
    #[error("'{0}' has a ${{ without its }}")]
    Open(String),
    /// Even without values, a record of it is too large.
    #[error("{0} bytes; a template has at most {MAX_TEMPLATE}")]
    TooLarge(usize),
}

impl Template {
    /// `$fact`, `$set.KEY`, or a text with `${fact}` and `${set.KEY}` in it; `$$` is a `$`.
    fn of_text(text: &str) -> Result<Template, TemplateError> {
        if let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with(['$', '{'])) {
            return reference(name).map(Template::Value);
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(inner) = rest.strip_prefix('{') {
                let (name, after) = inner.split_once('}').ok_or_else(|| TemplateError::Open(text.to_owned()))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Value(reference(name)?));
                rest = after;
            } else {
                plain.push('$');
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Literal(plain));
        }
        Ok(Template::Text(pieces))
    }

    /// Checks that its records are never too large.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`].
    pub fn check_size(&self) -> Result<(), TemplateError> {
        let size = self.written(&Values::default(), MAX_TEXT).len();
        if size > MAX_TEMPLATE { Err(TemplateError::TooLarge(size)) } else { Ok(()) }
    }

    /// All that the template names, in its order.
    pub fn references(&self) -> Vec<&Reference> {
        match self {
            Template::Value(reference) => vec![reference],
            Template::Scalar(_) => Vec::new(),
            Template::Text(pieces) => pieces.iter().filter_map(Piece::reference).collect(),
            Template::List(items) => items.iter().flat_map(Template::references).collect(),
            Template::Object(members) => members.iter().flat_map(|member| member.value.references()).collect(),
        }
    }

    /// The facts that the template names, and so all that is ever read for it.
    pub fn facts(&self) -> Vec<Fact> {
        let fact = |reference: &&Reference| if let Reference::Fact(fact) = reference { Some(*fact) } else { None };
        self.references().iter().filter_map(fact).collect()
    }

    /// The keys of `--set` that the template names.
    pub fn given(&self) -> Vec<&str> {
        let references = self.references().into_iter();
        references.filter_map(|it| if let Reference::Given(key) = it { Some(key.as_str()) } else { None }).collect()
    }

    /// Whether the values have what this names; an object or a list is always known.
    fn is_known(&self, values: &Values) -> bool {
        match self {
            Template::Value(reference) => values.get(reference).is_some(),
            Template::Text(pieces) => pieces.iter().filter_map(Piece::reference).all(|it| values.get(it).is_some()),
            Template::Scalar(_) | Template::List(_) | Template::Object(_) => true,
        }
    }

    /// The record, with values in the places of their names and no text longer than `limit` characters.
    fn written(&self, values: &Values, limit: usize) -> String {
        match self {
            Template::Value(reference) => match (values.get(reference), reference) {
                (Some(value), _) => shortened(value, limit).to_string(),
                (None, Reference::Fact(fact)) if fact.is_text() => shortened(&UNKNOWN.into(), limit).to_string(),
                (None, _) => Value::Null.to_string(),
            },
            Template::Text(pieces) => shortened(&values.joined(pieces).into(), limit).to_string(),
            Template::Scalar(value) => value.to_string(),
            Template::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.written(values, limit)).collect();
                format!("[{}]", items.join(","))
            }
            Template::Object(members) => {
                let known = members.iter().filter(|member| !member.is_optional || member.value.is_known(values));
                let written = |it: &Member| format!("{}:{}", Value::from(&*it.key), it.value.written(values, limit));
                format!("{{{}}}", known.map(written).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Piece {
    fn reference(&self) -> Option<&Reference> {
        if let Piece::Value(reference) = self { Some(reference) } else { None }
    }
}

/// A text of a template, as its author wrote it; of anything else, nothing.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Template::Value(reference) => write!(f, "${reference}"),
            Template::Text(pieces) => pieces.iter().try_for_each(|piece| match piece {
                Piece::Literal(text) => f.write_str(text),
                Piece::Value(reference) => write!(f, "${{{reference}}}"),
            }),
            Template::Scalar(_) | Template::List(_) | Template::Object(_) => Ok(()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Fact(fact) => f.write_str(fact.name()),
            Reference::Given(key) => write!(f, "set.{key}"),
        }
    }
}

fn reference(name: &str) -> Result<Reference, TemplateError> {
    match name.strip_prefix("set.") {
        Some(key) if is_key(key) => Ok(Reference::Given(key.to_owned())),
        Some(key) => Err(TemplateError::NoKey(key.to_owned())),
        None => Fact::named(name).map(Reference::Fact).ok_or_else(|| TemplateError::NoFact(name.to_owned())),
    }
}

/// Whether `key` can be one of `--set`.
pub fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The record as it is posted: valid JSON of at most [`MAX_BODY`] bytes, no text longer than [`MAX_TEXT`].
pub fn render(template: &Template, values: &Values) -> String {
    let mut limit = MAX_TEXT;
    loop {
        let body = template.written(values, limit);
        if body.len() <= MAX_BODY || limit == 0 {
            return body;
        }
        limit /= 2;
    }
}

/// A header's value: `template` on one line of visible ASCII (RFC 9110, section 5.5).
pub fn render_line(template: &Template, values: &Values) -> String {
    let text = match template {
        Template::Text(pieces) => values.joined(pieces),
        Template::Value(reference) => values.text(reference),
        Template::Scalar(_) | Template::List(_) | Template::Object(_) => String::new(),
    };
    let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(MAX_TEXT).map(visible).collect::<String>().trim().to_owned()
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

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The one reader of JSON by hand: serde_json's own map does not keep the order of keys, and the order is the wire.
impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = Template;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Template, E> {
                Template::of_text(text).map_err(E::custom)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Template, E> {
                Ok(Template::Scalar(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Template, E> {
                Ok(Template::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Template, E> {
                Ok(Template::Scalar(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Template, E> {
                Ok(Template::Scalar(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Template, E> {
                Ok(Template::Scalar(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Template, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Template::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Template, A::Error> {
                let mut members: Vec<Member> = Vec::new();
                while let Some(written) = map.next_key::<String>()? {
                    let value: Template = map.next_value()?;
                    let (key, is_optional) = written.strip_suffix('?').map_or((&*written, false), |key| (key, true));
                    if members.iter().any(|known| known.key == key) {
                        return Err(de::Error::custom(format_args!("the key '{key}' is there twice")));
                    }
                    if is_optional && value.is_known(&Values::default()) {
                        let needs = "a key that ends in ? needs a value with a fact or a --set in it";
                        return Err(de::Error::custom(format_args!("'{written}': {needs}")));
                    }
                    members.push(Member { key: key.to_owned(), is_optional, value });
                }
                Ok(Template::Object(members))
            }
        }
        deserializer.deserialize_any(Node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Template, String> {
        let template: Template = serde_json::from_str(text).map_err(|error| error.to_string())?;
        template.check_size().map(|()| template).map_err(|error| error.to_string())
    }

    fn template(text: &str) -> Template {
        read(text).unwrap()
    }

    fn values<V: Into<Value>>(facts: impl IntoIterator<Item = (Fact, V)>) -> Values {
        Values { facts: Facts::of(facts), given: Vec::new() }
    }

    #[test]
    fn keys_keep_their_order_and_scalars_their_type() {
        let values = values([(Fact::Deployment, "PACKAGE")]);
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
            let values = values([(Fact::OsPrettyName, text)]);
            let body = render(&template(r#"["$os.pretty_name"]"#), &values);
            assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap(), [text]);
        }
    }

    #[test]
    fn long_texts_are_cut_at_256_characters() {
        for text in ["x".repeat(1_000_000), "😀".repeat(1000), "\u{1}".repeat(1000)] {
            let values = values([(Fact::OsPrettyName, text.as_str())]);
            let body = render(&template(r#"["$os.pretty_name"]"#), &values);
            let back: Vec<String> = serde_json::from_str(&body).unwrap();
            assert_eq!(back[0].chars().count(), MAX_TEXT);
            assert!(text.starts_with(&back[0]));
        }
    }

    #[test]
    fn a_record_that_is_too_large_loses_text_not_keys() {
        let text = "\u{1}".repeat(1000);
        let values = values([(Fact::OsPrettyName, text.as_str())]);
        let many = format!("[{}]", vec![r#""$os.pretty_name""#; 20].join(","));
        let body = render(&template(&many), &values);
        assert!(body.len() <= MAX_BODY, "{}", body.len());
        assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap().len(), 20);
    }

    #[test]
    fn values_keep_their_type_or_become_text() {
        let given = [("n", "1.3"), ("l", "[1,\"a\",{\"b\":null}]"), ("t", "up")];
        let values = Values {
            facts: Facts::of([
                (Fact::CpuCount, Value::from(8)),
                (Fact::CiName, Value::Null),
                (Fact::CiDetected, true.into()),
            ]),
            given: given.map(|(key, text)| (key.to_owned(), Given::new(text))).to_vec(),
        };
        for (text, body) in [
            (r#"["$cpu.count","${cpu.count}","$ci.detected","$ci.name"]"#, r#"[8,"8",true,null]"#),
            (r#"["$set.n","${set.n}","v${set.n}-${set.t}"]"#, r#"[1.3,"1.3","v1.3-up"]"#),
            (r#"["$set.l"]"#, r#"[[1,"a",{"b":null}]]"#),
            (r#"["$memory.total","$os.name","$set.x","${set.x}"]"#, r#"[null,"unknown",null,"unknown"]"#),
            (
                r#"{"a?":"$cpu.count","b?":"$memory.total","c?":"${set.t}${set.x}","d?":"$set.t"}"#,
                r#"{"a":8,"d":"up"}"#,
            ),
            (r#"["$$cpu.count","a$b","$$${set.t}$","5 $","$$"]"#, r#"["$cpu.count","a$b","$up$","5 $","$"]"#),
            ("[1e400,18446744073709551615,-0.5]", ""),
        ] {
            match read(text) {
                Ok(template) => assert_eq!(render(&template, &values), body),
                Err(_) => assert_eq!(body, "", "{text}"),
            }
        }
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (text, expected) in [
            (r#"{"a":["$os.hostname"]}"#, "'os.hostname' is no fact; known are record.uuid"),
            (r#"{"a":"x${host.name}"}"#, "'host.name' is no fact"),
            (r#"{"a":"${cpu.count"}"#, "'${cpu.count' has a ${ without its }"),
            (r#"{"a":"$set.a b"}"#, "'set.a b': a key is letters"),
            (r#"{"a":"$5"}"#, "'5' is no fact"),
            (r#"{"a?":"x"}"#, "'a?': a key that ends in ?"),
            (r#"{"a?":{"b":"$cpu.count"}}"#, "'a?': a key that ends in ?"),
            (r#"{"a":1,"a":2}"#, "the key 'a' is there twice"),
            (r#"{"b":{"a":1,"a?":"$cpu.count"}}"#, "the key 'a' is there twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let large = format!("[{}]", vec![format!("\"{}\"", "x".repeat(MAX_TEXT)); MAX_TEMPLATE / MAX_TEXT].join(","));
        assert!(read(&large).unwrap_err().contains("a template has at most"));
    }

    #[test]
    fn the_largest_template_with_the_most_given_fits() {
        let values = Values {
            facts: Facts::of([(Fact::OsPrettyName, "\u{1}".repeat(300))]),
            given: vec![("k".to_owned(), Given::of(vec![Value::from(1); MAX_GIVEN / 2].into()))],
        };
        let facts = vec![r#""$os.pretty_name""#; 200].join(",");
        assert!(render(&template(&format!(r#"["$set.k",{facts}]"#)), &values).len() <= MAX_BODY);
    }

    #[test]
    fn a_header_is_one_line_of_visible_ascii() {
        let values = values([(Fact::ProductVersion, "2.3.1\r\nX: é\t")]);
        assert_eq!(render_line(&template(r#""memgraph/${product.version}""#), &values), "memgraph/2.3.1??X: ??");
    }
}
