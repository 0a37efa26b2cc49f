//! Changes one value in a JSON file that belongs to others. Every other byte stays as it was written: the order of
//! keys, the digits of numbers, the blanks.

use std::{collections::BTreeMap, io};

use serde_json::{Value, value::RawValue};

/// The JSON file `text` with `value` at `pointer` (RFC 6901), or without anything there. Missing objects on the way are
/// made. They are indented by tabs, as the products that own these files do it. Objects that become empty are taken
/// out. Everything else stays as it was written.
///
/// # Errors
/// When the text is no JSON, or something on the way is no object.
pub fn json_with(text: &[u8], pointer: &str, value: Option<Value>) -> Result<Vec<u8>, io::Error> {
    let text = if text.trim_ascii().is_empty() { b"{}" } else { text.trim_ascii() };
    // Nothing is written that could not be read back. Beside good objects there may be bad JSON, or a number that is
    // too large.
    serde_json::from_slice::<Value>(text).map_err(|error| io::Error::other(format!("not JSON: {error}")))?;
    let keys: Vec<String> = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let written = put(&String::from_utf8_lossy(text), &keys, value.map(|value| value.to_string()), 1)?;
    Ok(format!("{}\n", written.as_deref().unwrap_or("{}")).into_bytes())
}

/// The object `text`, `depth` objects deep, with `value` at `keys` below it; `None` where nothing is left of it.
fn put(text: &str, keys: &[String], value: Option<String>, depth: usize) -> io::Result<Option<String>> {
    let [key, rest @ ..] = keys else { return Ok(value) };
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(text.as_bytes())
        .map_err(|_| io::Error::other("not the JSON object that it should be"))?;
    let old = members.get(key).map(|raw| raw.get());
    let new = put(old.unwrap_or("{}"), rest, value, depth + 1)?;
    // The values are slices of `text`, so their addresses tell where they are.
    let start_of = |raw: &str| raw.as_ptr() as usize - text.as_ptr() as usize;
    let end_of = |raw: &str| start_of(raw) + raw.len();
    let is_alone = members.keys().all(|other| other == key);
    Ok(match (old, new) {
        (_, None) if is_alone => None,
        (None, None) => Some(text.to_owned()),
        (Some(old), Some(new)) => Some([&text[..start_of(old)], &new, &text[end_of(old)..]].concat()),
        (None, Some(new)) => {
            let end = if is_alone { format!("\n{}}}", "\t".repeat(depth - 1)) } else { format!(",{}", &text[1..]) };
            Some(format!("{{\n{}{}: {new}{end}", "\t".repeat(depth), Value::from(key.as_str())))
        }
        (Some(old), None) => {
            // The cut begins at the end of the member before it. Without one, it begins behind the opening brace and
            // ends behind the comma.
            let before = members.values().map(|raw| end_of(raw.get())).filter(|end| *end <= start_of(old)).max();
            let after = &text[end_of(old)..];
            let after = if before.is_some() { after } else { after.trim_start().trim_start_matches(',') };
            Some([&text[..before.unwrap_or(1)], after].concat())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_goes_with_its_comma_wherever_it_is() {
        for (text, pointer, rest) in [
            (r#"{"a":1,"b":2,"c":3}"#, "/a", r#"{"b":2,"c":3}"#),
            (r#"{"a":1, "b" : 2 ,"c":3}"#, "/b", r#"{"a":1 ,"c":3}"#),
            (r#"{"a":1,"b":2,"c":3 }"#, "/c", r#"{"a":1,"b":2 }"#),
            (r#"{"a":{"b":2},"c":3}"#, "/a/b", r#"{"c":3}"#),
            (r#"{"a":1}"#, "/a", "{}"),
            (r#"{"a":1}"#, "/b/c", r#"{"a":1}"#),
        ] {
            let found = String::from_utf8(json_with(text.as_bytes(), pointer, None).unwrap()).unwrap();
            assert_eq!(found.trim_end(), rest, "{text} {pointer}");
        }
    }
}
