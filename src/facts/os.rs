//! Which operating system this is: os-release(5), and what there was before it.
//!
//! The `os-release` crate maps the keys. It panics on a lone quote, hangs on a FIFO and leaves escapes as they are, so it
//! gets lines only: read here with a limit, of a regular file, each with its value unquoted and put into one pair of
//! quotes again.

use crate::host::Host;

/// Generous: the largest of 155 real files has 1.1 KB. What is behind it is not looked at.
const MAX_OS_RELEASE: usize = 2 << 20;

/// The keys that the crate has a place for. A file that has one of them is an os-release file.
const KEYS: [&str; 11] = [
    "NAME",
    "VERSION",
    "ID",
    "ID_LIKE",
    "PRETTY_NAME",
    "VERSION_ID",
    "HOME_URL",
    "SUPPORT_URL",
    "BUG_REPORT_URL",
    "PRIVACY_POLICY_URL",
    "VERSION_CODENAME",
];

/// What there was before os-release(5). Not /etc/issue, in which an administrator may have written anything.
pub fn title_of_old(host: &Host) -> Option<String> {
    ["etc/system-release", "etc/redhat-release"].iter().find_map(|path| first_line(host, path))
}

/// The first line that has something printable in it.
fn first_line(host: &Host, path: &str) -> Option<String> {
    let bytes = host.read(path, 4096).bytes()?;
    let text = String::from_utf8_lossy(&bytes);
    let is_printable = |line: &&str| line.chars().any(|c| !c.is_control() && !c.is_whitespace());
    text.lines().map(str::trim).find(is_printable).map(str::to_owned)
}

/// The variables of an os-release file.
#[derive(Debug, Default)]
pub struct OsRelease(os_release::OsRelease);

impl OsRelease {
    /// This machine's: the first file with a known key in it. Variables of two files are never mixed.
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
        files.into_iter().find(|file| file.0 != os_release::OsRelease::default()).unwrap_or_default()
    }

    /// Reads the assignments of `text`; lines that are none are passed over.
    pub fn parse(text: &str) -> OsRelease {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        OsRelease(text.split('\n').filter_map(harmless).collect())
    }

    /// The value of NAME, VERSION, VERSION_ID or ID: the last one in the file, as a shell would have it; an empty one is
    /// none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let value = match key {
            "NAME" => &self.0.name,
            "VERSION" => &self.0.version,
            "VERSION_ID" => &self.0.version_id,
            "ID" => &self.0.id,
            "PRETTY_NAME" => &self.0.pretty_name,
            _ => return None,
        };
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// PRETTY_NAME, else NAME or ID with VERSION_ID.
    pub fn title(&self) -> Option<String> {
        if let Some(pretty) = self.get("PRETTY_NAME") {
            return Some(pretty.to_owned());
        }
        let name = self.get("NAME").or_else(|| self.get("ID"))?;
        Some(match self.get("VERSION_ID") {
            Some(version) => format!("{name} {version}"),
            None => name.to_owned(),
        })
    }
}

/// A line that the crate can take: a known key, and its value in one pair of quotes, without escapes.
fn harmless(line: &str) -> Option<String> {
    let (key, value) = line.trim().split_once('=')?;
    KEYS.contains(&key).then(|| format!("{key}=\"{}\"", unquote(value)))
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
            ("ID=debian\nVERSION_ID=12\n", Some("debian 12")),
            ("ID=arch\n", Some("arch")),
            ("PRETTY_NAME=\"  in blanks  \"", Some("  in blanks  ")),
            ("PRETTY_NAME='\"'", Some("\"")),
            ("PRETTY_NAME=\"'a'\"", Some("'a'")),
            ("NAME='\n", None),
            ("PRETTY_NAME=\\\"", Some("\"")),
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
