//! Which operating system this is: os-release(5), and what there was before it.
//!
//! The `os-release` crate maps the keys. It panics on a lone quote, hangs on a FIFO and leaves escapes as they are, so
//! it gets nothing but lines. They are read here from a regular file, with a limit. Each value is unquoted and put into
//! one pair of quotes again.

use std::collections::BTreeMap;

use os_release::OsRelease;

use crate::host::Host;

/// The largest file that is read. The largest of 155 real files has 767 bytes.
const MAX_OS_RELEASE: usize = 16 << 20;

/// The name of the operating system with its version: PRETTY_NAME, else NAME or ID with VERSION_ID, else what there was
/// before os-release(5). Not /etc/issue, in which an administrator may have written anything.
pub fn title(host: &Host) -> Option<String> {
    let of_old = || ["etc/system-release", "etc/redhat-release"].iter().find_map(|path| host.line(path));
    title_of(release(host)).or_else(of_old)
}

fn title_of(release: OsRelease) -> Option<String> {
    let version = given(release.version_id).map(|version| format!(" {version}")).unwrap_or_default();
    let name = given(release.name).or(given(release.id));
    given(release.pretty_name).or(name.map(|name| name + &version))
}

/// A value; `None` if it is empty or blank.
pub fn given(value: String) -> Option<String> {
    Some(value).filter(|value| !value.trim().is_empty())
}

/// This machine's variables of os-release(5): /etc/os-release wins, /usr/lib/os-release is the vendor's own copy. The
/// first file with a known key counts; variables of two files are never mixed.
pub fn release(host: &Host) -> OsRelease {
    let in_file = |path| parse(&String::from_utf8_lossy(&host.read_or_empty(path, MAX_OS_RELEASE)));
    let mut files = ["etc/os-release", "usr/lib/os-release"].into_iter().map(in_file);
    files.find(|file| *file != OsRelease::default()).unwrap_or_default()
}

/// Reads the assignments of `text`; lines that are none are passed over. The last of a key counts, as in a shell. Only
/// keys that the crate knows make a file an os-release file.
fn parse(text: &str) -> OsRelease {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').filter_map(harmless);
    OsRelease { extra: BTreeMap::new(), ..lines.collect() }
}

/// A line that the crate can take: its value in one pair of quotes, without escapes.
fn harmless(line: &str) -> Option<String> {
    let (key, value) = line.trim().split_once('=')?;
    Some(format!("{key}=\"{}\"", unquote(value)))
}

/// One value by os-release(5): quoted "like in shell"; in double quotes a backslash protects `"`, `$`, `` ` `` and
/// itself; nothing is expanded. What follows the closing quote is a comment or no part of the value. A quote without
/// its partner ends with the line. A value without quotes that has blanks in it (Wind River's) is taken whole, as
/// systemd does.
fn unquote(value: &str) -> String {
    let mut chars = value.trim_start().chars().peekable();
    let quote = chars.next_if(|c| matches!(c, '"' | '\''));
    let is_protected = |next: &char| match quote {
        None => true,
        Some('"') => "\"$`\\".contains(*next),
        Some(_) => false,
    };
    let mut out = String::new();
    while let Some(c) = chars.next().filter(|c| Some(*c) != quote) {
        let protected = if c == '\\' { chars.next_if(is_protected) } else { None };
        out.push(protected.unwrap_or(c));
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
            // os-release(5) knows no concatenation.
            ("PRETTY_NAME=\"pre\"'mid'post", Some("pre")),
            ("PRETTY_NAME=Void\\ Linux", Some("Void Linux")),
            ("PRETTY_NAME=Wind River Linux 7 \n", Some("Wind River Linux 7")),
            ("PRETTY_NAME=\"a\" # comment", Some("a")),
            ("PRETTY_NAME=\"unterminated", Some("unterminated")),
            ("NAME=\"", None),
            ("PRETTY_NAME=\"\"\nNAME=\"Arch\"\n", Some("Arch")),
            ("PRETTY_NAME=x\nPRETTY_NAME=\nNAME=y", Some("y")),
            ("PRETTY_NAME=\"  \"\nNAME=y", Some("y")),
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
            assert_eq!(title_of(parse(text)).as_deref(), title, "{text:?}");
        }
    }
}
