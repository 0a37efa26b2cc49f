//! Pending records that were given up, so that `status` can tell what this machine never delivered: one JSON object a
//! line, the oldest first.

use serde_json::{Value, json};

use super::record_file::Record;

/// The most that are remembered.
const MAX_LINES: usize = 64;

/// Why a record was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The newest ones have taken its place.
    NoRoom,
    /// It waited for too long.
    TooOld,
    /// This machine has another instance ID by now, or the ID is another machine's.
    OtherId,
    /// Its product was reported by another record.
    Reported,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::NoRoom => "too many or too large",
            Why::TooOld => "too old",
            Why::OtherId => "of another instance ID",
            Why::Reported => "reported by another record",
        }
    }
}

/// A record that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The profile that it was made by.
    pub profile: String,
    /// Its ID.
    pub id: String,
    /// The product family.
    pub family: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it was given up, RFC 3339.
    pub dropped: String,
    /// Why.
    pub why: String,
}

impl Dropped {
    /// `record`, given up at `time` (RFC 3339).
    pub fn new(record: &Record, time: String, why: Why) -> Dropped {
        Dropped {
            profile: record.profile.clone(),
            id: record.id.clone(),
            family: record.family.clone(),
            created: record.created.clone(),
            dropped: time,
            why: why.text().to_owned(),
        }
    }

    fn of_line(line: &str) -> Option<Dropped> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        Some(Dropped {
            profile: text("profile")?,
            id: text("id")?,
            family: text("family")?,
            created: text("created")?,
            dropped: text("dropped")?,
            why: text("why")?,
        })
    }

    fn line(&self) -> String {
        let Dropped { profile, id, family, created, dropped, why } = self;
        let line = json!({
            "profile": profile, "id": id, "family": family, "created": created, "dropped": dropped, "why": why,
        });
        format!("{line}\n")
    }
}

/// What the file's text says; lines that are not ours are passed over.
pub fn parse(text: &str) -> Vec<Dropped> {
    text.lines().filter_map(Dropped::of_line).collect()
}

/// The file's text for the last of `all`.
pub fn text(all: &[Dropped]) -> String {
    all[all.len().saturating_sub(MAX_LINES)..].iter().map(Dropped::line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_come_back_and_other_lines_do_not() {
        let one = |id: usize| Dropped {
            profile: "percona".to_owned(),
            id: id.to_string(),
            family: "a\"b\n".to_owned(),
            created: "2023-11-01T10:46:23Z".to_owned(),
            dropped: "2026-11-01T10:46:23Z".to_owned(),
            why: Why::TooOld.text().to_owned(),
        };
        let all: Vec<Dropped> = (0..MAX_LINES + 3).map(one).collect();
        assert_eq!(parse(&format!("junk\n{{}}\n{}{{\"id\":", text(&all))), all[3..]);
        assert_eq!(text(&[]), "");
    }
}
