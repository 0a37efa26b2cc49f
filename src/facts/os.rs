//! Which operating system this is: os-release(5), and what there was before it.
//!
//! The parser is our own. The `os-release` crate (0.1.0) panics on the line `NAME="`, hangs on a FIFO, knows no
//! /usr/lib/os-release and leaves quotes and escapes in most values; feeding it only what it can take needs the
//! unquoting below first, after which there is nothing left for it to do.

use crate::host::Host;

/// Generous: the largest of 155 real files has 1.1 KB. What is behind it is not looked at.
const MAX_OS_RELEASE: usize = 2 << 20;

/// What there was before os-release(5), by the order of the contract.
pub fn title_of_old(host: &Host) -> Option<String> {
    ["etc/system-release", "etc/redhat-release", "etc/issue"].iter().find_map(|path| first_line(host, path))
}

fn first_line(host: &Host, path: &str) -> Option<String> {
    let bytes = host.read(path, 4096).bytes()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The variables of an os-release file, unquoted.
#[derive(Debug, Default)]
pub struct OsRelease {
    variables: Vec<(String, String)>,
}

impl OsRelease {
    /// This machine's: the first file that names a system. None of its variables is mixed with those of another file.
    pub fn of(host: &Host) -> OsRelease {
        // os-release(5): /etc/os-release wins, /usr/lib/os-release is the vendor's own copy.
        let files = ["etc/os-release", "usr/lib/os-release"].iter().filter_map(|path| {
            let mut bytes = host.read(path, MAX_OS_RELEASE + 1).bytes()?;
            if bytes.len() > MAX_OS_RELEASE {
                // The rest of a cut line could turn a value into another one.
                let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(MAX_OS_RELEASE);
                bytes.truncate(whole);
            }
            Some(OsRelease::parse(&String::from_utf8_lossy(&bytes)))
        });
        files.into_iter().find(|file| file.title().is_some()).unwrap_or_default()
    }

    /// Reads the assignments of `text`; lines that are none are passed over.
    pub fn parse(text: &str) -> OsRelease {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let variables = text
            .split('\n')
            .filter_map(|line| {
                let (key, value) = line.trim().split_once('=')?;
                let is_name = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                is_name.then(|| (key.to_owned(), unquote(value)))
            })
            .collect();
        OsRelease { variables }
    }

    /// The value of `key`: the last one, as a shell that reads the file would have it; an empty one is none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.variables.iter().rev().find(|(known, _)| known == key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// PRETTY_NAME, else NAME and VERSION_ID.
    pub fn title(&self) -> Option<String> {
        if let Some(pretty) = self.get("PRETTY_NAME") {
            return Some(pretty.to_owned());
        }
        let name = self.get("NAME")?;
        Some(match self.get("VERSION_ID") {
            Some(version) => format!("{name} {version}"),
            None => name.to_owned(),
        })
    }
}

/// One value by os-release(5): quoted "like in shell"; in double quotes a backslash protects `"`, `$`, `` ` `` and
/// itself; nothing is expanded. A quote without its partner ends with the line. A value without quotes that has
/// blanks in it (Wind River's) is taken whole, as systemd does.
fn unquote(value: &str) -> String {
    let value = value.trim_start();
    let is_quoted = value.starts_with(['"', '\'']);
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '\\') => out.extend(chars.next()),
            (Some('"'), '\\') => match chars.next() {
                Some(escaped @ ('"' | '$' | '`' | '\\')) => out.push(escaped),
                other => {
                    out.push('\\');
                    out.extend(other);
                }
            },
            // A comment may follow.
            (None, c) if is_quoted && c.is_ascii_whitespace() => break,
            (_, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_hard_files() {
        for (text, title) in [
            ("PRETTY_NAME=\"Oracle Linux Server 8.8\"\n", Some("Oracle Linux Server 8.8")),
            ("PRETTY_NAME='Debian GNU/Linux 12 (bookworm)'", Some("Debian GNU/Linux 12 (bookworm)")),
            ("PRETTY_NAME=Alpine\n", Some("Alpine")),
            ("PRETTY_NAME=\"a\"\r\nNAME=\"b\"\r\n", Some("a")),
            ("\u{feff}PRETTY_NAME=\"with BOM\"\n", Some("with BOM")),
            ("PRETTY_NAME=\"first\"\nPRETTY_NAME=\"last\"\n", Some("last")),
            ("PRETTY_NAME=\"a \\\"b\\\" \\$c \\`d\\` \\\\e \\n\"", Some("a \"b\" $c `d` \\e \\n")),
            ("PRETTY_NAME='a \\b'", Some("a \\b")),
            ("PRETTY_NAME=\"$(reboot) ${HOME} `id`\"", Some("$(reboot) ${HOME} `id`")),
            ("PRETTY_NAME=\"pre\"'mid'post", Some("premidpost")),
            ("PRETTY_NAME=Void\\ Linux", Some("Void Linux")),
            ("PRETTY_NAME=Wind River Linux 7 \n", Some("Wind River Linux 7")),
            ("PRETTY_NAME=\"a\" # comment", Some("a")),
            ("PRETTY_NAME=\"unterminated", Some("unterminated")),
            ("NAME=\"", None),
            ("PRETTY_NAME=\"\"\nNAME=\"Arch\"\n", Some("Arch")),
            ("PRETTY_NAME=x\nPRETTY_NAME=\nNAME=y", Some("y")),
            ("NAME=\"Fedora\"\nVERSION_ID=39\n", Some("Fedora 39")),
            ("VERSION_ID=39\n", None),
            ("  PRETTY_NAME=\"indented\"", Some("indented")),
            ("#PRETTY_NAME=\"comment\"\n", None),
            ("export PRETTY_NAME=x\n", None),
            ("XPRETTY_NAME=x\nPRETTY_NAMEX=y\n", None),
            ("PRETTY_NAME=\"é 😀\"", Some("é 😀")),
            ("PRETTY_NAME=\"a\0b\"", Some("a\0b")),
            ("PRETTY_NAME=\"trailing\\", Some("trailing\\")),
            ("==\n=x\n\n\u{0}\n", None),
            ("", None),
        ] {
            assert_eq!(OsRelease::parse(text).title().as_deref(), title, "{text:?}");
        }
    }
}
