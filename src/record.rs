//! A template and facts make a record's bytes: same input, same bytes.
//!
//! This is the wire: the order of keys, the escaping, the word `unknown` and the limits on length live here and
//! nowhere else. What is too long is cut, never refused, because a record with half a version is worth more to
//! both sides than an installation with an error.

use std::fmt;

use serde_json::Value;

use crate::document::{Document, Part};
use crate::facts::{Fact, Facts};

/// The longest text in a record, in characters.
pub const MAX_TEXT: usize = 256;

/// The largest record, in bytes.
pub const MAX_BODY: usize = 8 << 10;

/// The most that one run may be given by `--set`, in bytes of JSON, so that a record of it is never too large.
pub const MAX_GIVEN: usize = 4 << 10;

/// The largest template, in bytes: with what is given, it has to fit in [`MAX_BODY`].
const MAX_TEMPLATE: usize = 4 << 10;

/// What stands for a text that this machine cannot tell.
const UNKNOWN: &str = "unknown";

/// A record with facts in the places of values. The order of keys is that of the profile.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// `$fact`, with the fact's own JSON type.
    Fact(Fact),
    /// `$set.KEY`, with the JSON type that the caller gave.
    Given(String),
    /// A text, sent as it is or with `${…}` in it.
    Text(Vec<Piece>),
    /// `true`, `false`, `null` or a number, as written.
    Scalar(Value),
    /// `[…]`
    List(Vec<Template>),
    /// `{…}`
    Object(Vec<Member>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// `${fact}`
    Fact(Fact),
    /// `${set.KEY}`: the very text that the caller gave.
    Given(String),
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
    /// What the caller supplied.
    pub given: Vec<(String, Given)>,
}

impl Values {
    fn given(&self, key: &str) -> Option<&Given> {
        self.given.iter().find(|(known, _)| known == key).map(|(_, given)| given)
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The place and what is wrong there: an unknown fact with the list of known ones, a `${` without its end, a `?`
    /// at a key whose value is always known, a template that is too large.
    pub fn of(part: Part<'_>) -> Result<Template, String> {
        let template = Template::node(part)?;
        let size = part.value().to_value().to_string().len();
        if size > MAX_TEMPLATE {
            return Err(part.wrong(format_args!("{size} bytes; a template has at most {MAX_TEMPLATE}")));
        }
        Ok(template)
    }

    fn node(part: Part<'_>) -> Result<Template, String> {
        Ok(match part.value() {
            Document::Scalar(value) => Template::Scalar(value.clone()),
            Document::Text(text) => Template::text(text).map_err(|problem| part.wrong(problem))?,
            Document::List(_) => Template::List(part.items()?.map(Template::node).collect::<Result<_, _>>()?),
            Document::Object(_) => {
                let members: Vec<Member> = part.members()?.map(Member::of).collect::<Result<_, _>>()?;
                for (index, member) in members.iter().enumerate() {
                    if members[..index].iter().any(|earlier| earlier.key == member.key) {
                        return Err(part.wrong(format_args!("'{}' is there with and without a ?", member.key)));
                    }
                }
                Template::Object(members)
            }
        })
    }

    /// `$fact`, `$set.KEY`, or a text with `${fact}` and `${set.KEY}` in it; `$$` is a `$`.
    fn text(text: &str) -> Result<Template, String> {
        if let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with(['$', '{'])) {
            return Ok(match reference(name)? {
                Piece::Fact(fact) => Template::Fact(fact),
                Piece::Given(key) => Template::Given(key),
                Piece::Text(text) => Template::Text(vec![Piece::Text(text)]),
            });
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(inner) = rest.strip_prefix('{') {
                let (name, after) =
                    inner.split_once('}').ok_or_else(|| format!("'{text}' has a ${{ without its }}"))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(reference(name)?);
                rest = after;
            } else {
                plain.push('$');
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template::Text(pieces))
    }

    /// The facts that the template names, and so all that is ever read for it.
    pub fn facts(&self) -> Vec<Fact> {
        let fact = |piece: &Piece| if let Piece::Fact(fact) = piece { Some(*fact) } else { None };
        match self {
            Template::Fact(fact) => vec![*fact],
            Template::Given(_) | Template::Scalar(_) => Vec::new(),
            Template::Text(pieces) => pieces.iter().filter_map(fact).collect(),
            Template::List(items) => items.iter().flat_map(Template::facts).collect(),
            Template::Object(members) => members.iter().flat_map(|member| member.value.facts()).collect(),
        }
    }

    /// The keys of `--set` that the template names.
    pub fn given(&self) -> Vec<&str> {
        match self {
            Template::Given(key) => vec![key],
            Template::Fact(_) | Template::Scalar(_) => Vec::new(),
            Template::Text(pieces) => pieces
                .iter()
                .filter_map(|piece| if let Piece::Given(key) = piece { Some(key.as_str()) } else { None })
                .collect(),
            Template::List(items) => items.iter().flat_map(Template::given).collect(),
            Template::Object(members) => members.iter().flat_map(|member| member.value.given()).collect(),
        }
    }

    /// The record, with values in the places of their names.
    fn filled<'v>(&'v self, values: &'v Values) -> Document<'v> {
        match self {
            Template::Fact(fact) => match values.facts.get(*fact) {
                Some(value) => Document::from(value),
                None if fact.is_text() => Document::Text(UNKNOWN.into()),
                None => Document::Scalar(Value::Null),
            },
            Template::Given(key) => Document::from(values.given(key).map_or(&Value::Null, |given| &given.value)),
            Template::Text(pieces) => Document::Text(text_with(pieces, values).into()),
            Template::Scalar(value) => Document::Scalar(value.clone()),
            Template::List(items) => Document::List(items.iter().map(|item| item.filled(values)).collect()),
            Template::Object(members) => {
                let known = members.iter().filter(|member| !member.is_optional || member.value.is_known(values));
                Document::Object(
                    known.map(|member| (member.key.as_str().into(), member.value.filled(values))).collect(),
                )
            }
        }
    }

    /// Whether the values have what this names; an object or a list is always known.
    fn is_known(&self, values: &Values) -> bool {
        match self {
            Template::Fact(fact) => values.facts.get(*fact).is_some(),
            Template::Given(key) => values.given(key).is_some(),
            Template::Text(pieces) => pieces.iter().all(|piece| match piece {
                Piece::Text(_) => true,
                Piece::Fact(fact) => values.facts.get(*fact).is_some(),
                Piece::Given(key) => values.given(key).is_some(),
            }),
            Template::Scalar(_) | Template::List(_) | Template::Object(_) => true,
        }
    }
}

/// A text of a template, as its author wrote it; of anything else, nothing.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Template::Fact(fact) => write!(f, "${}", fact.name()),
            Template::Given(key) => write!(f, "$set.{key}"),
            Template::Text(pieces) => pieces.iter().try_for_each(|piece| match piece {
                Piece::Text(text) => f.write_str(text),
                Piece::Fact(fact) => write!(f, "${{{}}}", fact.name()),
                Piece::Given(key) => write!(f, "${{set.{key}}}"),
            }),
            Template::Scalar(_) | Template::List(_) | Template::Object(_) => Ok(()),
        }
    }
}

impl Member {
    fn of((key, part): (&str, Part<'_>)) -> Result<Member, String> {
        let value = Template::node(part)?;
        let Some(name) = key.strip_suffix('?') else {
            return Ok(Member { key: key.to_owned(), is_optional: false, value });
        };
        if value.is_known(&Values::default()) {
            return Err(part.wrong("a key that ends in ? needs a value with a fact or a --set in it"));
        }
        Ok(Member { key: name.to_owned(), is_optional: true, value })
    }
}

fn reference(name: &str) -> Result<Piece, String> {
    match name.strip_prefix("set.") {
        Some(key) if is_key(key) => Ok(Piece::Given(key.to_owned())),
        Some(key) => Err(format!("'set.{key}': a key is letters, digits, . _ - , at most 64")),
        None => Fact::named(name)
            .map(Piece::Fact)
            .ok_or_else(|| format!("'{name}' is no fact; known are {}, set.KEY", Fact::known().join(", "))),
    }
}

/// Whether `key` can be one of `--set`.
pub fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The record as it is posted: valid JSON of at most [`MAX_BODY`] bytes, no text longer than [`MAX_TEXT`].
pub fn render(template: &Template, values: &Values) -> String {
    let filled = template.filled(values);
    let mut limit = MAX_TEXT;
    loop {
        let mut body = String::new();
        write(&filled, limit, &mut body);
        if body.len() <= MAX_BODY || limit == 0 {
            return body;
        }
        limit /= 2;
    }
}

/// A header's value: `template` on one line of visible ASCII (RFC 9110, section 5.5).
pub fn render_line(template: &Template, values: &Values) -> String {
    let text = match template {
        Template::Text(pieces) => text_with(pieces, values),
        Template::Fact(fact) => text_with(&[Piece::Fact(*fact)], values),
        Template::Given(key) => text_with(&[Piece::Given(key.clone())], values),
        _ => String::new(),
    };
    let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(MAX_TEXT).map(visible).collect::<String>().trim().to_owned()
}

fn write(document: &Document<'_>, limit: usize, out: &mut String) {
    match document {
        Document::Scalar(value) => out.push_str(&value.to_string()),
        Document::Text(text) => write_text(text, limit, out),
        Document::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, limit, out);
            }
            out.push(']');
        }
        Document::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, usize::MAX, out);
                out.push(':');
                write(value, limit, out);
            }
            out.push('}');
        }
    }
}

fn text_with(pieces: &[Piece], values: &Values) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Fact(fact) => values.facts.get(*fact).map_or_else(|| UNKNOWN.to_owned(), text_of),
        Piece::Given(key) => values.given(key).map_or_else(|| UNKNOWN.to_owned(), |given| given.text.clone()),
    };
    pieces.iter().map(text).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn write_text(text: &str, limit: usize, out: &mut String) {
    let end = text.char_indices().nth(limit).map_or(text.len(), |(index, _)| index);
    out.push_str(&Value::from(&text[..end]).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Template, String> {
        let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Template::of(Part::new(&document, "body"))
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
    fn what_is_no_template_is_named_with_its_place() {
        for (text, expected) in [
            (r#"{"a":["$os.hostname"]}"#, "body.a[0]: 'os.hostname' is no fact; known are record.uuid"),
            (r#"{"a":"x${host.name}"}"#, "body.a: 'host.name' is no fact"),
            (r#"{"a":"${cpu.count"}"#, "body.a: '${cpu.count' has a ${ without its }"),
            (r#"{"a":"$set.a b"}"#, "body.a: 'set.a b': a key is letters"),
            (r#"{"a":"$5"}"#, "body.a: '5' is no fact"),
            (r#"{"a?":"x"}"#, "body.a?: a key that ends in ?"),
            (r#"{"a?":{"b":"$cpu.count"}}"#, "body.a?: a key that ends in ?"),
            (r#"{"a":1,"a":2}"#, "the key 'a' is there twice"),
            (r#"{"b":{"a":1,"a?":"$cpu.count"}}"#, "body.b: 'a' is there with and without a ?"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let large = format!("[\"{}\"]", "x".repeat(MAX_TEMPLATE));
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
