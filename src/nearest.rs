//! Finds the known word that is nearest to a mistyped one, for messages.

/// The nearest of `known`, if at most two letters differ; of a short word, at most half.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.len() / 2).clamp(1, 2);
    let ranked = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    ranked.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, nearest)| nearest)
}

/// How many letters have to be inserted, deleted or replaced (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in to.bytes().enumerate() {
            let best = (diagonal + usize::from(letter != other)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_other_words() {
        let known = ["send", "show", "status", "off", "on", "flush", "forget", "memgraph"];
        for (word, expected) in [
            ("sned", Some("send")),
            ("staus", Some("status")),
            ("memgraf", Some("memgraph")),
            ("of", Some("off")),
            ("flsuh", Some("flush")),
            ("now", None),
            ("install", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
