//! Opt-outs that a system or root wrote into files which set environment variables: `refusal` takes such a
//! file's text and finds the literal assignments in it.
//!
//! Only literals, because nothing here runs or expands anything: the value of `A=$(cmd)` or `A=$B` exists only
//! in a shell that we must not start, so a value that is not plain text is a "no". The same caution decides
//! every doubt about the text. A no counts wherever it stands; the later word that takes it back (`unset A`,
//! `A=0`) counts only where it runs whatever the machine is like; and text that this file's small grammar does
//! not account for is searched for anything that looks like an assignment. A wrong "no" costs one report, a
//! wrong "yes" breaks a promise.
//!
//! Names and text are looked at in linear time and without recursion, so no file makes this slow or deep.

use memchr::{memchr, memchr_iter, memmem};

use crate::consent::value::says_no;

/// Whose rules a file is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// A POSIX shell's command language with the commoner habits of bash and zsh: /etc/profile, .bashrc, .zshenv.
    Shell,
    /// /etc/environment as pam_env(8) reads it.
    PamEnv,
    /// environment.d(5).
    EnvironmentD,
}

/// The first of `names` that `text` says no with, if any.
pub fn refusal<'n>(text: &[u8], syntax: Syntax, names: &[&'n str]) -> Option<&'n str> {
    if !names.iter().any(|name| mentions(text, name.as_bytes())) {
        return None;
    }
    // Editors that write a byte order mark put it before the first name, where no reader expects it.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut said = Said { names, verdicts: vec![Verdict::default(); names.len()] };
    match syntax {
        Syntax::Shell => Shell::new(text, &mut said).read(),
        Syntax::PamEnv => pam_env(text, &mut said),
        Syntax::EnvironmentD => environment_d(text, &mut said),
    }
    let refused = said.verdicts.iter().position(|verdict| verdict.no || verdict.kept)?;
    Some(names[refused])
}

/// The first of `names` that `text` seems to assign anything to, an empty value included. Comments that are whole lines
/// are left out; all else that looks like an assignment counts, because the variable says no by being there.
pub fn assigned<'n>(text: &[u8], names: &[&'n str]) -> Option<&'n str> {
    let is_assigned = |name: &&&str| {
        text.split(|&b| b == b'\n').filter(|line| !blanks_off(line).starts_with(b"#")).any(|line| {
            memmem::find_iter(line, name.as_bytes()).any(|at| {
                let rest = &line[at + name.len()..];
                let is_part = line[..at].last().is_some_and(|&b| is_name_byte(b) || b == b'$');
                !is_part && (rest.starts_with(b"=") || is_spaced_assignment(rest))
            })
        })
    };
    names.iter().find(is_assigned).copied()
}

/// Nearly every file ends here. A searcher of `memmem` costs more to build than most of them cost to read.
fn mentions(text: &[u8], name: &[u8]) -> bool {
    let Some(&first) = name.first() else { return false };
    memchr_iter(first, text).any(|at| text[at..].starts_with(name))
}

/// What the text has said so far of each name.
struct Said<'a, 'n> {
    names: &'a [&'n str],
    verdicts: Vec<Verdict>,
}

#[derive(Clone, Default)]
struct Verdict {
    /// The last word is a no.
    no: bool,
    /// Some word was a no.
    ever: bool,
    /// A no that nothing later takes back.
    kept: bool,
}

impl Said<'_, '_> {
    fn index(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| known.as_bytes() == name)
    }

    /// A no counts in any case, its opposite only where it is `firm`: sure to be carried out.
    fn say(&mut self, index: usize, no: bool, firm: bool) {
        let verdict = &mut self.verdicts[index];
        verdict.ever |= no;
        verdict.no = no || (verdict.no && !firm);
    }

    /// What is a no here stays one.
    fn seal(&mut self) {
        for verdict in &mut self.verdicts {
            verdict.kept |= verdict.no;
        }
    }

    /// The grammar does not account for `text`: every no in it stays, and so does whatever looks like one.
    fn give_up(&mut self, text: &[u8]) {
        let found = self.skim(text);
        for (index, verdict) in self.verdicts.iter_mut().enumerate() {
            verdict.kept |= verdict.ever || found.contains(&index);
        }
    }

    /// The names that `text` seems to say no with, without regard to quotes and commands; only comments that are
    /// whole lines are left out.
    fn skim(&self, text: &[u8]) -> Vec<usize> {
        let found = |name: &str| {
            let finder = memmem::Finder::new(name);
            text.split(|&b| b == b'\n').filter(|line| !blanks_off(line).starts_with(b"#")).any(|line| {
                finder.find_iter(line).any(|at| {
                    let part = line[..at].last().is_some_and(|&b| is_name_byte(b) || b == b'$');
                    !part && skimmed_no(&line[at + name.len()..])
                })
            })
        };
        (0..self.names.len()).filter(|&index| found(self.names[index])).collect()
    }
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Whether a byte can mean something else than itself in a shell's word.
fn is_special(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'"'..=b'$' | b'&'..=b')' | b';'..=b'<' | b'>' | b'\\' | b'`' | b'{'..=b'}')
}

fn blanks_off(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !b" \t".contains(b));
    &text[start.unwrap_or(text.len())..]
}

/// `A = 1` and `A =1`, which no shell takes for an assignment and which is plainly meant as one.
fn is_spaced_assignment(rest: &[u8]) -> bool {
    let after = blanks_off(rest);
    after.len() < rest.len() && after.starts_with(b"=") && !after.starts_with(b"==")
}

/// Whether `rest`, which follows a name, makes it the target of an assignment that says no. Looks no further than
/// a value that is no opinion can be, so that many mentions on one long line do not cost the square of its length.
fn skimmed_no(rest: &[u8]) -> bool {
    if is_spaced_assignment(rest) {
        return true;
    }
    if rest.starts_with(b"[") {
        return memmem::find(&rest[..rest.len().min(64)], b"]=").is_some();
    }
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let rest = rest.strip_prefix(b"+").unwrap_or(rest);
    let Some(value) = rest.strip_prefix(b"=").filter(|value| !value.starts_with(b"=")) else {
        return false;
    };
    let bound = value.len().min(16);
    let end = value[..bound].iter().position(|b| b" \t\r\n;&|)}".contains(b));
    let plain: Vec<u8> = value[..end.unwrap_or(bound)].iter().copied().filter(|b| !b"\"'".contains(b)).collect();
    (end.is_none() && bound < value.len()) || says_no(&plain)
}

/// pam_env(8), `_parse_env_file` in its source: a line is `KEY=VALUE` or `export KEY=VALUE`; `#` starts a comment
/// anywhere; one quote at the start of the value and one at its very end go; a backslash at the end joins the
/// next line; nothing is expanded.
fn pam_env(text: &[u8], said: &mut Said) {
    let (mut joined, mut cut) = (false, false);
    for line in text.split(|&b| b == b'\n') {
        let line = blanks_off(&line[..memchr(b'#', line).unwrap_or(line.len())]);
        if line.is_empty() {
            continue;
        }
        // A line that continues another belongs to that one's value, and all after one that is too long for a buffer,
        // of 1 KiB at first, may not be read: such lines take nothing back.
        cut |= line.len() > 1000;
        let firm = !std::mem::replace(&mut joined, line.trim_ascii_end().ends_with(b"\\")) && !cut;
        let Some(equals) = memchr(b'=', line) else { continue };
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        let value = match value {
            [b'"' | b'\'', inner @ .., b'"' | b'\''] | [b'"' | b'\'', inner @ ..] => inner,
            plain => plain,
        };
        let exact = key.strip_prefix(b"export ").unwrap_or(key);
        if let Some(index) = target(key, said) {
            said.say(index, says_no(value), firm && said.index(exact) == Some(index));
        }
    }
}

/// environment.d(5) and `parse_env_file_internal` in systemd's source: `KEY=VALUE`, `#` and `;` start a comment
/// line, blanks around key and value go. `$B` needs no rule: it makes a value that is no word for "no opinion".
fn environment_d(text: &[u8], said: &mut Said) {
    let mut at = 0;
    let mut firm = true;
    while let Some(&first) = text.get(at) {
        if b" \t\r\n".contains(&first) {
            at += 1;
            continue;
        }
        let comment = b"#;".contains(&first);
        let end = text[at..].iter().position(|&b| b"\r\n".contains(&b) || (b == b'=' && !comment));
        let end = end.map_or(text.len(), |length| at + length);
        let key = &text[at..end];
        at = end;
        if comment {
            // Before version 254 a backslash carried a comment on to the next line.
            firm = !key.ends_with(b"\\");
            continue;
        }
        if text.get(at) == Some(&b'=') {
            let (value, length, closed) = environment_d_value(&text[at + 1..]);
            at += 1 + length;
            if let Some(index) = target(key, said) {
                // systemd takes only a plain name, and passes over an assignment of nothing.
                let exact = said.index(key.trim_ascii_end()) == Some(index) && !value.is_empty();
                said.say(index, says_no(&value) || !closed, firm && exact);
            }
            if !closed {
                said.give_up(text);
            }
        }
        firm = true;
    }
}

/// The value, its length in the text, and whether its quotes are closed. Quotes count only before the first
/// unquoted byte; a backslash takes the next byte as it is and a newline away.
fn environment_d_value(text: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut value, mut at, mut bare, mut quote) = (Vec::new(), 0, false, None);
    while let Some(&b) = text.get(at) {
        match (quote, b) {
            (None, b'\r' | b'\n') => break,
            (None, b' ' | b'\t') if !bare => {}
            (None, b'"' | b'\'') if !bare => quote = Some(b),
            (Some(open), _) if open == b => quote = None,
            (None | Some(b'"'), b'\\') => {
                at += 1;
                bare |= quote.is_none();
                let escaped = text.get(at).copied().unwrap_or(b'\n');
                if quote.is_some() && !b"\"\\`$\n".contains(&escaped) {
                    value.push(b'\\');
                }
                if !b"\r\n".contains(&escaped) {
                    value.push(escaped);
                }
            }
            _ => {
                bare |= quote.is_none();
                value.push(b);
            }
        }
        at += 1;
    }
    (value, at.min(text.len()), quote.is_none())
}

/// The name that a key means, also where the file's reader would not take it: `export A`, `A `, `A+`.
fn target(key: &[u8], said: &Said) -> Option<usize> {
    let last = key.trim_ascii_end().rsplit(u8::is_ascii_whitespace).next()?;
    said.index(last.strip_suffix(b"+").unwrap_or(last))
}

/// The shell command language, down to where a command starts, what its words are, and whether it is sure to run
/// (POSIX XCU 2.10, shell grammar, and what bash and zsh add to it). Assignments are those in front of a command
/// (2.9.1, 2.10.2 rule 7) and in the arguments of `export` and its like. Of a compound command only its end matters:
/// inside of one, nothing is sure.
struct Shell<'a, 's, 'n> {
    text: &'a [u8],
    at: usize,
    said: &'a mut Said<'s, 'n>,
    /// The words that end the compound commands that are open here.
    open: Vec<&'static [u8]>,
    place: Place,
    next: Next,
    utility: Utility,
    /// The present command may not run, or not in this shell: it follows `&&`, `||` or `|`.
    linked: bool,
    /// What the present and-or list says: a name, whether it is a no, and whether that is sure to last. Kept until
    /// the list ends, because `A=0 cmd` and `A=0 && cmd &` take nothing back.
    saying: Vec<(usize, bool, bool)>,
    /// Where in `saying` the present command begins.
    begun: usize,
    /// The present list defines a function, which may run at any time after it.
    defines: bool,
    /// After the present list, what is a no stays one: the file may end here, or the variable is read-only.
    seals: bool,
    /// The here-documents that begin on the next line.
    documents: Vec<(Vec<u8>, bool)>,
    /// Something is not in this grammar.
    lost: bool,
}

/// What a word is where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A reserved word, an assignment or a command's name.
    Start,
    /// Behind an assignment: another one or a command's name.
    Assigned,
    Argument,
    /// Of a `case`.
    Pattern,
    /// Behind a compound command: nothing but reserved words and redirections.
    Closed,
    /// Behind a function's name: its body, a compound command.
    Body,
}

/// What the next word is, whatever the place.
enum Next {
    Word,
    /// A redirection's file, or the word after `case`, `for` or `function`.
    Skipped,
    /// A here-document's delimiter, and whether leading tabs go.
    Delimiter(bool),
}

/// What the present command does with the names in its arguments.
enum Utility {
    Other,
    Declare,
    Unset,
}

impl<'a, 's, 'n> Shell<'a, 's, 'n> {
    fn new(text: &'a [u8], said: &'a mut Said<'s, 'n>) -> Self {
        Shell {
            text,
            at: 0,
            said,
            open: Vec::new(),
            place: Place::Start,
            next: Next::Word,
            utility: Utility::Other,
            linked: false,
            saying: Vec::new(),
            begun: 0,
            defines: false,
            seals: false,
            documents: Vec::new(),
            lost: false,
        }
    }

    fn read(mut self) {
        loop {
            match self.rest() {
                [] => break,
                [b' ' | b'\t', ..] => self.at += 1,
                [b'\\', b'\n', ..] => self.at += 2,
                [b'#', ..] => self.at += line(self.rest()).len(),
                [b'\n', ..] => self.newline(),
                [b'<' | b'>', b'(', ..] => self.word(), // a process substitution
                [b'<' | b'>' | b'&' | b'|' | b';' | b'(' | b')', ..] => self.operator(),
                _ => self.word(),
            }
        }
        self.lost |= self.place == Place::Body || (self.linked && self.place == Place::Start);
        self.lost |= !self.open.is_empty() || !self.documents.is_empty();
        self.end_command();
        self.open.clear();
        self.end_list();
        if self.lost {
            self.said.give_up(self.text);
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn inside(&self, end: &[u8]) -> bool {
        self.open.last().is_some_and(|open| *open == end)
    }

    fn newline(&mut self) {
        self.at += 1;
        for (delimiter, tabs) in std::mem::take(&mut self.documents) {
            loop {
                if self.rest().is_empty() {
                    self.lost = true;
                    break;
                }
                let line = line(self.rest());
                self.at += line.len() + 1;
                let start = line.iter().position(|&b| !tabs || b != b'\t');
                if line[start.unwrap_or(line.len())..] == delimiter {
                    break;
                }
            }
        }
        // After `&&` and the like, and inside of `case` and `[[`, a newline is a blank.
        if matches!(self.place, Place::Assigned | Place::Argument | Place::Closed) && !self.inside(b"]]") {
            self.end_list();
        }
    }

    /// POSIX XCU 2.10.1, and bash's.
    fn operator(&mut self) {
        let rest = self.rest();
        let length = match rest {
            [b'<', b'<', b'<' | b'-', ..] | [b';', b';', b'&', ..] => 3,
            [b'<', b'<' | b'>' | b'&', ..] | [b'>', b'>' | b'&' | b'|', ..] => 2,
            [b'&', b'&' | b'>', ..] | [b'|', b'|' | b'&', ..] | [b';', b';' | b'&', ..] => 2,
            _ => 1,
        };
        self.at += length;
        if self.inside(b"]]") {
            return;
        }
        self.lost |= matches!(self.place, Place::Start | Place::Body)
            && matches!(&rest[..length], [b';'] | [b'&' | b'|'] | [b'&' | b'|', b'&' | b'|']);
        match &rest[..length] {
            b"(" | b"|" if self.place == Place::Pattern => {}
            b")" if self.place == Place::Pattern => self.place = Place::Start,
            b"&&" | b"||" => self.end_command(),
            b"|" | b"|&" => {
                self.pass(self.begun);
                self.end_command();
            }
            b"&" => {
                self.pass(if self.open.is_empty() { 0 } else { self.begun });
                self.end_list();
            }
            b";" => self.end_list(),
            [b';', ..] => {
                self.end_list();
                self.lost |= !self.inside(b"esac");
                self.place = Place::Pattern;
            }
            b"(" => self.parenthesis(),
            b")" => {
                self.end_list();
                self.close(b")");
            }
            redirection => {
                self.next = match redirection {
                    b"<<" => Next::Delimiter(false),
                    b"<<-" => Next::Delimiter(true),
                    _ => Next::Skipped,
                };
                if self.place == Place::Start {
                    self.place = Place::Assigned;
                }
            }
        }
    }

    /// After a `(`.
    fn parenthesis(&mut self) {
        if let Some(body) = blanks_off(self.rest()).strip_prefix(b")") {
            // `name()`: its body, a compound command, follows.
            self.at = self.text.len() - body.len();
            self.end_command();
            self.place = Place::Body;
            self.defines = true;
        } else if self.place == Place::Start && self.rest().starts_with(b"(") {
            // Arithmetic, with operators of its own.
            let expression = self.rest();
            self.at += 1;
            self.next = Next::Word;
            self.read_word(vec![b')', b')']);
            let found = self.said.skim(&expression[..expression.len() - self.rest().len()]);
            found.into_iter().for_each(|index| self.note(index, true));
            self.place = Place::Closed;
        } else {
            self.lost |= !matches!(self.place, Place::Start | Place::Body);
            self.open.push(b")");
            self.place = Place::Start;
        }
    }

    fn note(&mut self, index: usize, no: bool) {
        self.saying.push((index, no, true));
    }

    /// What has been said since `begun` is for one command only, or for another shell.
    fn pass(&mut self, begun: usize) {
        self.saying[begun..].iter_mut().for_each(|(_, _, lasting)| *lasting = false);
    }

    /// After `&&` and the like.
    fn end_command(&mut self) {
        if self.linked || !self.open.is_empty() {
            self.pass(self.begun);
        }
        (self.begun, self.linked) = (self.saying.len(), true);
        (self.place, self.next, self.utility) = (Place::Start, Next::Word, Utility::Other);
    }

    fn end_list(&mut self) {
        self.end_command();
        self.linked = false;
        if self.open.is_empty() {
            let defines = std::mem::take(&mut self.defines);
            for (index, no, lasting) in self.saying.drain(..) {
                self.said.say(index, no, lasting);
                self.said.verdicts[index].kept |= no && defines;
            }
            if std::mem::take(&mut self.seals) {
                self.said.seal();
            }
            self.begun = 0;
        }
    }

    fn close(&mut self, end: &[u8]) {
        self.lost |= self.open.pop_if(|open| *open == end).is_none();
        self.place = Place::Closed;
    }

    fn word(&mut self) {
        let word = self.read_word(Vec::new());
        match std::mem::replace(&mut self.next, Next::Word) {
            Next::Word => {}
            Next::Skipped => return,
            Next::Delimiter(tabs) => {
                self.lost |= word.expanded.is_some();
                return self.documents.push((word.bytes, tabs));
            }
        }
        if word.quoted.is_none()
            && word.bytes.iter().all(u8::is_ascii_digit)
            && matches!(self.rest(), [b'<' | b'>', ..])
        {
            return; // a redirection's file descriptor
        }
        let literal = word.literal().unwrap_or_default();
        match self.place {
            _ if self.inside(b"]]") && literal == b"]]" => self.close(b"]]"),
            _ if self.inside(b"]]") => {}
            Place::Pattern if literal == b"esac" => self.close(b"esac"),
            Place::Pattern => {}
            Place::Argument => self.argument(&word),
            Place::Closed | Place::Body => self.lost |= word.quoted.is_some() || !self.reserved(literal),
            Place::Start | Place::Assigned => {
                if self.place == Place::Start && word.quoted.is_none() && self.reserved(literal) {
                    return;
                }
                match word.assignment() {
                    Some((name, rest)) if word.quoted.is_none_or(|at| at > name.len()) => {
                        self.place = Place::Assigned;
                        self.assign(name, rest, &word);
                    }
                    // `$B` may be empty, and the next word the command's name.
                    _ if word.expanded.is_some() => (self.place, self.linked) = (Place::Assigned, true),
                    _ => self.command(literal),
                }
            }
        }
    }

    /// POSIX XCU 2.4, and bash's.
    fn reserved(&mut self, word: &[u8]) -> bool {
        let (ends, awaits): (&[u8], &'static [u8]) = match word {
            b"if" => (b"", b"then"),
            b"then" => (b"then", b"fi"),
            b"elif" => (b"fi", b"then"),
            b"else" => (b"fi", b"fi"),
            b"while" | b"until" | b"for" | b"select" => (b"", b"do"),
            b"do" => (b"do", b"done"),
            b"case" => (b"", b"esac"),
            b"{" => (b"", b"}"),
            b"[[" => (b"", b"]]"),
            b"fi" | b"done" | b"esac" | b"}" => (word, b""),
            b"in" | b"function" | b"!" | b"time" => (b"", b""),
            _ => return false,
        };
        self.lost |= self.place == if ends.is_empty() { Place::Closed } else { Place::Body };
        if !ends.is_empty() {
            self.close(ends);
        }
        if !awaits.is_empty() {
            self.open.push(awaits);
        }
        self.place = match word {
            b"in" if self.inside(b"esac") => Place::Pattern,
            b"in" => Place::Argument,
            b"function" => Place::Body,
            b"fi" | b"done" | b"esac" | b"}" => Place::Closed,
            _ => Place::Start,
        };
        if matches!(word, b"for" | b"select" | b"case" | b"function") {
            self.next = Next::Skipped;
        }
        self.defines |= word == b"function";
        true
    }

    fn command(&mut self, name: &[u8]) {
        // What stands before a command's name is for that command only, and may be all that the command changes.
        self.linked |= self.saying.len() > self.begun;
        self.pass(self.begun);
        self.place = Place::Argument;
        match name {
            b"export" => self.utility = Utility::Declare,
            b"unset" => self.utility = Utility::Unset,
            b"readonly" => (self.utility, self.seals) = (Utility::Declare, true),
            // Not in every shell, or not outside of functions, so they take nothing back.
            b"declare" | b"typeset" | b"local" | b"let" => (self.utility, self.linked) = (Utility::Declare, true),
            b"command" | b"builtin" => (self.place, self.linked) = (Place::Assigned, true),
            b"return" | b"exit" | b"exec" | b"logout" => self.seals = true,
            _ => self.spaced(name),
        }
    }

    /// `A = 1`: no shell takes it for an assignment, and who wrote it did.
    fn spaced(&mut self, name: &[u8]) {
        if let Some(index) = self.said.index(name).filter(|_| is_spaced_assignment(self.rest())) {
            self.note(index, true);
        }
    }

    fn argument(&mut self, word: &Word) {
        let literal = word.literal().unwrap_or_default();
        match (&self.utility, literal) {
            (Utility::Other, _) | (Utility::Unset, b"-v" | b"--") => {}
            // Other options unset something else than a variable.
            (Utility::Unset, [b'-', ..]) => self.utility = Utility::Other,
            (Utility::Unset, name) => {
                if let Some(index) = self.said.index(name) {
                    self.note(index, false);
                }
            }
            (Utility::Declare, [b'-', options @ ..]) => self.seals |= options.contains(&b'r'),
            (Utility::Declare, _) => match word.assignment() {
                Some((name, rest)) => self.assign(name, rest, word),
                None => self.spaced(literal),
            },
        }
    }

    fn assign(&mut self, name: &[u8], rest: &[u8], word: &Word) {
        let Some(index) = self.said.index(name) else { return };
        let no = match rest {
            _ if word.expanded.is_some() => true,
            // What is appended to may come from outside of the file.
            [b'+', b'='] => return,
            [b'=', value @ ..] => says_no(value),
            _ => true,
        };
        self.note(index, no);
    }

    /// A word up to the next blank or operator (POSIX XCU 2.2, quoting; 2.3, token recognition). `closers` are of
    /// the quotes and expansions that are open: a stack on the heap, so that no text nests too deeply for it.
    fn read_word(&mut self, mut closers: Vec<u8>) -> Word {
        /// Closes a `${` between double quotes, where `'` is no quote.
        const QUOTED_BRACE: u8 = b'{';
        let mut word = Word { bytes: Vec::with_capacity(32), quoted: None, expanded: None };
        while let (rest @ [b, ..], closer) = (self.rest(), closers.last().copied()) {
            let plain = rest.iter().position(|b| is_special(*b)).unwrap_or(rest.len());
            if plain > 0 {
                word.bytes.extend_from_slice(&rest[..plain]);
                self.at += plain;
                continue;
            }
            let double = matches!(closer, Some(b'"' | QUOTED_BRACE));
            self.at += 1;
            match (rest, closer) {
                ([b'\\', b'\n', ..], _) => self.at += 1,
                ([b'\\', escaped, ..], _) if !double || b"$`\"\\}".contains(escaped) => {
                    self.at += 1;
                    word.quote(&[*escaped]);
                }
                ([b'\'', text @ ..], _) if !double => self.quoted(&mut word, memchr(b'\'', text)),
                ([b'$', b'\'', text @ ..], _) if !double => {
                    // Escapes have values of their own in here, and nobody writes a plain value with them.
                    let end = unescaped(b'\'', text);
                    if end.is_some_and(|end| text[..end].contains(&b'\\')) {
                        word.expand();
                    }
                    self.at += 1;
                    self.quoted(&mut word, end);
                }
                ([b'`', text @ ..], _) => {
                    word.expand();
                    self.quoted(&mut word, unescaped(b'`', text));
                }
                ([b'"', ..], Some(b'"')) => drop(closers.pop()),
                ([b'"', ..], _) => {
                    word.quote(b"");
                    closers.push(b'"');
                }
                ([b'$', b'"', ..], _) if !double => {}
                ([b'$', b'{', ..], _) => {
                    word.expand();
                    self.at += 1;
                    self.default_value();
                    closers.push(if double { QUOTED_BRACE } else { b'}' });
                }
                ([b'$', b'(', ..], _) | ([b'<' | b'>', b'(', ..], None) => {
                    word.expand();
                    self.at += 1;
                    closers.push(b')');
                }
                ([b'$', b, ..], _) if is_name_byte(*b) || b"@*#?-$![".contains(b) => {
                    word.expand();
                    self.at += 1;
                }
                ([b'}', ..], Some(QUOTED_BRACE | b'}')) | ([b')', ..], Some(b')')) => drop(closers.pop()),
                // An array, `A=(1 2)`, or else a pattern of some shells, `*(a|b)`, but not a function, `a()`.
                ([b'(', after @ ..], None)
                    if word.bytes.ends_with(b"=")
                        || !(word.bytes.is_empty() || blanks_off(after).starts_with(b")")) =>
                {
                    self.lost |= !word.bytes.ends_with(b"=");
                    word.expand();
                    closers.push(b')');
                }
                ([b' ' | b'\t' | b'\n' | b'<' | b'>' | b'&' | b'|' | b';' | b'(' | b')', ..], None) => {
                    self.at -= 1;
                    return word;
                }
                ([b'(', ..], Some(b')')) => closers.push(b')'),
                // A here-document in a substitution has quotes of its own.
                ([b'<', b'<', ..], Some(b')')) => self.lost = true,
                ([b'#', ..], Some(b')')) if self.text[..self.at - 1].last().is_some_and(|b| b" \t\n;(".contains(b)) => {
                    self.at += line(self.rest()).len();
                }
                (_, closer) => {
                    // In some shells a quote and in others not.
                    self.lost |= *b == b'\'' && closer == Some(QUOTED_BRACE);
                    word.bytes.push(*b);
                }
            }
        }
        if !closers.is_empty() {
            self.lost = true;
            word.expand();
        }
        word
    }

    /// Takes a quoted string, of which the quote that ends it is `end` bytes ahead.
    fn quoted(&mut self, word: &mut Word, end: Option<usize>) {
        if end.is_none() {
            self.lost = true;
            word.expand();
        }
        let length = end.unwrap_or(self.rest().len());
        word.quote(&self.rest()[..length]);
        self.at += length + 1;
    }

    /// Behind a `${`: `${A:=1}` assigns, where `A` has no value.
    fn default_value(&mut self) {
        let (names, rest) = (self.said.names, self.rest());
        for (index, name) in names.iter().enumerate() {
            if rest.strip_prefix(name.as_bytes()).is_some_and(skimmed_no) {
                self.note(index, true);
            }
        }
    }
}

/// A word without its quotes, as far as it can be told without expanding it.
struct Word {
    bytes: Vec<u8>,
    /// Where in `bytes` the first quoted one and the first expansion come, if any.
    quoted: Option<usize>,
    expanded: Option<usize>,
}

impl Word {
    fn quote(&mut self, bytes: &[u8]) {
        self.quoted.get_or_insert(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn expand(&mut self) {
        self.expanded.get_or_insert(self.bytes.len());
    }

    /// The text of a word that has no expansion.
    fn literal(&self) -> Option<&[u8]> {
        self.expanded.is_none().then_some(&self.bytes)
    }

    /// `A=1`, `A+=1` or `A[0]=1`, split behind the name.
    fn assignment(&self) -> Option<(&[u8], &[u8])> {
        let (name, rest) = self.bytes.split_at(self.bytes.iter().position(|&b| !is_name_byte(b))?);
        let operator = match rest {
            [b'=', ..] => 1,
            [b'+', b'=', ..] => 2,
            [b'[', ..] if memmem::find(rest, b"]=").or_else(|| memmem::find(rest, b"]+=")).is_some() => 1,
            _ => return None,
        };
        let plain = self.expanded.is_none_or(|at| at >= name.len() + operator);
        (plain && name.first().is_some_and(|b| !b.is_ascii_digit())).then_some((name, rest))
    }
}

/// The first line of `text`, without its end.
fn line(text: &[u8]) -> &[u8] {
    &text[..memchr(b'\n', text).unwrap_or(text.len())]
}

/// How far ahead the next `quote` is that no backslash escapes.
fn unescaped(quote: u8, text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while *text.get(at)? != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Syntax::{self, EnvironmentD, PamEnv, Shell};
    use super::{assigned, refusal};

    /// Text, syntax, and whether it says no with `A`.
    const TABLE: &[(&str, Syntax, bool)] = &[
        // Values.
        ("A=1", Shell, true),
        ("A=1\n", Shell, true),
        ("export A=1\n", Shell, true),
        ("A=true", Shell, true),
        ("A=yes", Shell, true),
        ("A=-1", Shell, true),
        ("A=junk", Shell, true),
        ("A=00", Shell, true),
        ("A=", Shell, false),
        ("A=0", Shell, false),
        ("A=false", Shell, false),
        ("A=No", Shell, false),
        ("A=OFF", Shell, false),
        ("A=\"\"", Shell, false),
        ("A=''", Shell, false),
        ("A=' 0 '", Shell, false),
        ("A=\" off\t\"", Shell, false),
        ("A=~", Shell, true),
        ("A=*", Shell, true),
        ("", Shell, false),
        ("# nothing here\nB=1\n", Shell, false),
        // Quotes.
        ("A='1'", Shell, true),
        ("A=\"1\"", Shell, true),
        ("A=$'1'", Shell, true),
        ("A=$'0'", Shell, false),
        ("A=$'0\\n'", Shell, true),
        ("A=$'it\\'s'\nA=0", Shell, false),
        ("A=$\"0\"", Shell, false),
        ("A=\\1", Shell, true),
        ("A=\\0", Shell, false),
        ("A=f'al's\"e\"", Shell, false),
        ("A=\"fal\\se\"", Shell, true),
        ("A=\"\\$B\"", Shell, true),
        ("A=fal\\\nse", Shell, false),
        ("A=\\\n1", Shell, true),
        ("A=\"\\\n0\"", Shell, false),
        ("A='0\n'", Shell, false),
        ("A=0\\", Shell, true),
        ("A='1", Shell, true),
        ("A='0", Shell, true),
        ("A=\"0", Shell, true),
        ("A=$'0", Shell, true),
        ("A='0'\"'\"\n", Shell, true),
        // Values that only a shell knows.
        ("A=$(echo 0)", Shell, true),
        ("A=`echo 0`", Shell, true),
        ("A=\"$(echo \")\" 0)\"; B=0", Shell, true),
        ("A=$B", Shell, true),
        ("A=0$B", Shell, true),
        ("A=\"$B\"", Shell, true),
        ("A=${B}", Shell, true),
        ("A=${A:-1}", Shell, true),
        ("A=${A:-0}", Shell, true),
        ("A=$((0))", Shell, true),
        ("A=$[ 0 ]", Shell, true),
        ("A=$?", Shell, true),
        ("A=$'0'$B", Shell, true),
        ("A=$", Shell, true),
        ("A='$B'", Shell, true),
        ("A=$(x\nA=0", Shell, true),
        ("A=(1 2)", Shell, true),
        ("A=()", Shell, true),
        ("A=( )\nA=0", Shell, false),
        ("A=(\n0 # it's\n)\n", Shell, true),
        ("A[0]=1", Shell, true),
        ("A[0]=0", Shell, true),
        ("declare -a A=(0)", Shell, true),
        // Names are whole words.
        ("AA=1", Shell, false),
        ("_A=1", Shell, false),
        ("A_=1", Shell, false),
        ("A1=1", Shell, false),
        ("XA=1 AX=1", Shell, false),
        ("1A=1", Shell, false),
        ("a=1", Shell, false),
        ("A-B=1", Shell, false),
        ("-A=1", Shell, false),
        ("$A=1", Shell, false),
        ("'A'=1", Shell, false),
        ("\\A=1", Shell, false),
        ("A\\=1", Shell, false),
        ("A\"=1\"", Shell, false),
        ("A==1", Shell, true),
        ("A==\nA=", Shell, false),
        // Declarations.
        ("export A", Shell, false),
        ("A=1\nexport A", Shell, true),
        ("export A\nA=1", Shell, true),
        ("A=1\nexport -n A", Shell, true),
        ("export B='x' A=1 C", Shell, true),
        ("export A=1 B='x'", Shell, true),
        ("export A=0 B=1", Shell, false),
        ("export \"A=1\"", Shell, true),
        ("export 'A'=1", Shell, true),
        ("export \"A=0\"", Shell, false),
        ("export A=\"$B\"", Shell, true),
        ("export A$B=1", Shell, false),
        ("export $B A=1", Shell, true),
        ("\\export A=1", Shell, true),
        ("command export A=1", Shell, true),
        ("builtin export A=1", Shell, true),
        ("declare A=1", Shell, true),
        ("declare -x A=1", Shell, true),
        ("declare -gx B A=1", Shell, true),
        ("typeset -x A=1", Shell, true),
        ("readonly A=1", Shell, true),
        ("local A=1", Shell, true),
        ("A=1\nlocal A=0", Shell, true),
        ("A=1\ndeclare -x A=0", Shell, true),
        ("A=1\ntypeset A=no", Shell, true),
        ("A=1\nexport A=0", Shell, false),
        ("readonly A=1\nA=0", Shell, true),
        ("A=1\nreadonly A=0", Shell, false),
        ("declare -rx A=1\nunset A", Shell, true),
        ("A=1; readonly A; A=0", Shell, true),
        // Several on a line, separators, comments.
        ("B=2 A=1", Shell, true),
        ("A=1 B=2", Shell, true),
        ("B=2;A=1", Shell, true),
        ("B=2&&A=1", Shell, true),
        ("false || A=1", Shell, true),
        ("  A=1  ", Shell, true),
        ("\tA=1\t# why", Shell, true),
        ("A=0 # 1", Shell, false),
        ("A=0#1", Shell, true),
        ("A=0 #\\\nA=1", Shell, true),
        ("# A=1", Shell, false),
        ("#A=1", Shell, false),
        ("B=1 # A=1", Shell, false),
        ("B=1;# A=1", Shell, false),
        ("B=1 \\# A=1", Shell, false),
        ("# it's\nA=1\n# isn't", Shell, true),
        ("A=1\r\n", Shell, true),
        ("A=0\r\n", Shell, false),
        ("export A=\"1\"\r\nexport B=2\r\n", Shell, true),
        ("A=1\r\nA=0\r\n", Shell, false),
        ("A=1\r\nunset A\r\n", Shell, true),
        ("\u{feff}A=1\n", Shell, true),
        ("\u{feff}export A=1\n", Shell, true),
        ("A=1 cmd", Shell, true),
        ("A=1 cmd arg >/dev/null 2>&1", Shell, true),
        (">/dev/null A=1", Shell, true),
        ("cmd A=1", Shell, false),
        ("cmd\\\n A=1", Shell, false),
        ("cmd;A=1", Shell, true),
        ("cmd\nA=1", Shell, true),
        // Appending.
        ("A+=1", Shell, true),
        ("A=\nA+=1", Shell, true),
        ("A=0\nA+=0", Shell, true),
        ("A+=", Shell, false),
        ("A=1\nA+=", Shell, true),
        // Mentions.
        ("echo A=1", Shell, false),
        ("echo \"A=1\"", Shell, false),
        ("echo 'A=1'", Shell, false),
        ("echo '\nA=1\n'", Shell, false),
        ("echo \"\nA=1\n\"", Shell, false),
        ("echo \"$(\nA=1\n)\"", Shell, false),
        ("[ \"$A\" ]", Shell, false),
        ("[ \"$A\" = 1 ] && echo off", Shell, false),
        ("[[ $A = 1 && ( $B > A ) || A=1 ]]\nA=0", Shell, false),
        ("[[ $A =~ ^(1|'a b')$ ]] && A=0", Shell, false),
        ("if [ \"${A:-0}\" = 1 ]; then echo off; fi", Shell, false),
        ("case $A in 1) echo off;; esac", Shell, false),
        ("case $A in\n(A=1|x) ;;\nA) echo;;\nesac", Shell, false),
        ("alias x='A=1 y'", Shell, false),
        ("test -n \"$A\"", Shell, false),
        ("echo ${A} $A ${#A} ${A%1} ${A[0]} ${A:-1}", Shell, false),
        ("unset A", Shell, false),
        ("B='x'A=1", Shell, false),
        ("x=(A=1)", Shell, false),
        ("x=(\nA=1\n)", Shell, false),
        ("for x in A=1; do :; done", Shell, false),
        ("echo $((A == 1))", Shell, false),
        ("(( A == 1 )) && echo", Shell, false),
        ("A () { :; }", Shell, false),
        ("PS1='\\[A=1\\]'", Shell, false),
        // Assignments that are not quite.
        ("A = 1", Shell, true),
        ("A =1", Shell, true),
        ("export A = 1", Shell, true),
        ("A == 1", Shell, false),
        (": \"${A:=1}\"", Shell, true),
        (": ${A=1}", Shell, true),
        (": ${A:=0}", Shell, false),
        (": ${A:=$B}", Shell, true),
        ("(( A = 1 ))", Shell, true),
        ("((A=1))", Shell, true),
        ("((A=0))", Shell, false),
        // Here-documents.
        ("cat <<EOF\nA=1\nEOF\n", Shell, false),
        ("cat <<'EOF'\nA=1 it's\nEOF\n", Shell, false),
        ("cat <<-\"EOF\"\n\tA=1\n\tEOF\nB=1\n", Shell, false),
        ("cat <<EOF\nx\nEOF\nA=1\n", Shell, true),
        ("cat <<A <<'B C' >x\nA=1\nA\nA=1\nB C\nA=0\n", Shell, false),
        ("A=1\ncat <<EOF\nA=0\nEOF\n", Shell, true),
        ("cat <<-EOF\nA=1\n EOF\n", Shell, true),
        ("cat <<EOF\nA=1\n", Shell, true),
        ("cat <<EOF", Shell, false),
        ("cat <<<A=1\nA=0", Shell, false),
        ("cat <<< 'A=1'\n", Shell, false),
        ("x=$((1<<2))\nA=0", Shell, false),
        // The last word that is sure to be said.
        ("A=1\nA=0", Shell, false),
        ("A=0\nA=1", Shell, true),
        ("A=1\nA=", Shell, false),
        ("A=1\nunset A", Shell, false),
        ("A=1; unset A;", Shell, false),
        ("A=1\nunset -v A", Shell, false),
        ("A=1\nunset -- B A", Shell, false),
        ("A=1\nunset \"A\" 2>/dev/null", Shell, false),
        ("A=1\nunset -f A", Shell, true),
        ("A=1\nunset B", Shell, true),
        ("A=1\nunset $B", Shell, true),
        ("unset A\nA=1", Shell, true),
        ("A=1\nA=0 cmd", Shell, true),
        ("A=1\nA=0 export B", Shell, true),
        ("A=1\nA=0 &", Shell, true),
        ("A=1\nA=0 | cat", Shell, true),
        ("A=1\ntrue | A=0", Shell, true),
        ("A=1\nunset A |& cat", Shell, true),
        ("A=1\ntrue && A=0", Shell, true),
        ("A=1\ntrue &&\n\nA=0", Shell, true),
        ("A=1\nfalse || unset A", Shell, true),
        ("A=1\nA=0 && true", Shell, false),
        ("A=1\nA=0 && true &", Shell, true),
        ("A=1\nA=0 && true | cat", Shell, false),
        ("A=1\nA=0 && { x; } &", Shell, true),
        ("A=1\n{ x & } && A=0", Shell, true),
        ("A=1\n{ x & }; A=0", Shell, false),
        ("{ A=1", Shell, true),
        ("A=1\nunset A || true", Shell, false),
        ("A=1\ntrue && true; A=0", Shell, false),
        ("A=1\n! unset A", Shell, false),
        ("A=1\n(A=0)", Shell, true),
        ("A=1\n{ A=0; }", Shell, true),
        ("A=1\nif true; then A=0; fi", Shell, true),
        ("if true; then A=1; fi", Shell, true),
        ("if true; then\n  A=1\nfi\nA=0", Shell, false),
        ("[ -e /x ] && A=1\nA=0", Shell, false),
        ("A=1\nif x; then :; elif y; then :; else :; fi\nunset A", Shell, false),
        ("A=1\nwhile x; do A=0; done", Shell, true),
        ("A=1\nwhile x; do :; done </dev/null\nA=0", Shell, false),
        ("A=1\nuntil x\ndo\nA=0\ndone", Shell, true),
        ("A=1\nfor x in a b; do A=0; done", Shell, true),
        ("A=1\nfor x in a b\ndo :\ndone\nA=0", Shell, false),
        ("A=1\nfor x do A=0; done", Shell, true),
        ("A=1\nfor ((i=0; i<3; i++)); do :; done; A=0", Shell, false),
        ("A=1\ncase x in x) A=0;; esac", Shell, true),
        ("case x in\n x)\n  A=1\n  ;;\nesac", Shell, true),
        ("A=1\ncase x in (x|'y)') :;; a|b) ;& *) ;; esac; A=0", Shell, false),
        ("A=1\nf() { A=0; }", Shell, true),
        ("f() { A=1; }", Shell, true),
        ("f() { A=1; }\nA=0\nf", Shell, true),
        ("function f {\nA=1\n}\nA=0", Shell, true),
        ("A=1\nf() { :; }\nA=0", Shell, false),
        ("A=1\nf ( )\n{\n:; }\nA=0", Shell, false),
        ("A=1\nfunction f { A=0; }", Shell, true),
        ("A=1\nfunction f() { :; }\nA=0", Shell, false),
        ("A=1\nx=$(A=0)", Shell, true),
        ("A=1\n: <(A=0)", Shell, true),
        ("A=1\ncmd <(x) >(y)\nA=0", Shell, false),
        ("A=1\n[ x ] && return\nA=0", Shell, true),
        ("[ x ] && return\nA=1\nA=0", Shell, false),
        ("A=1\nexec sh\nA=0", Shell, true),
        ("A=1\nlet A=0", Shell, true),
        ("A=1\nA=0 &&", Shell, true),
        ("A=1\n: ; ; A=0", Shell, true),
        ("A=1\n: && ; A=0", Shell, true),
        ("A=1\nelse A=0", Shell, true),
        ("A=1\n{ :; } A=0", Shell, true),
        ("A=1\nif { x; } then { y; } fi\nA=0", Shell, false),
        ("A=1\n\"${B:-it's}\"\nA=0", Shell, true),
        ("A=1\nA=0 <(x)", Shell, true),
        ("A=0<(x)", Shell, true),
        ("A=1\nA=1 unset A", Shell, true),
        ("unset A && ((A=1))", Shell, true),
        ("A=1\nfunction g\nunset A", Shell, true),
        ("A=1\n{ :; } if x; then y; fi\nA=0", Shell, true),
        ("A=1\nif x; then y; else z; fi 2>/dev/null && :\nA=0", Shell, false),
        ("$B export A=1", Shell, true),
        ("A=1\n$B unset A", Shell, true),
        ("unset A && : ${A:=1}", Shell, true),
        ("A=1\nif x; do :; fi; A=0", Shell, true),
        ("A=1\n>f; A=0", Shell, false),
        ("A=1\neval A=0", Shell, true),
        ("A=1\n\"A\"=0", Shell, true),
        ("A=1\n>f\nA=0", Shell, false),
        // What the grammar does not account for.
        ("A=1\nfi\nA=0", Shell, true),
        ("A=1\nA=0\n}", Shell, true),
        ("A=0\n}", Shell, false),
        ("A=1\nif x; then\nA=0", Shell, true),
        ("x=$(case y in y) A=1;; esac)", Shell, true),
        ("x=$(cat <<E\nit's\nE\n)\nA=1\ny='", Shell, true),
        ("echo 'oops\nA=1\n", Shell, true),
        ("echo 'oops\n# A=1\n", Shell, false),
        ("echo \"oops\nA=0\n", Shell, false),
        ("B=\"oops\nexport A='1'\n", Shell, true),
        ("ls *(N) *.(a|b)\nA=0", Shell, false),
        ("A=1; rm -rf /", Shell, true),
        ("A=0; rm -rf /", Shell, false),
        ("A='0; rm -rf /'", Shell, true),
        ("A=$(rm -rf /)", Shell, true),
        ("A='0\n'; unset B", Shell, false),
        // pam_env.
        ("A=1", PamEnv, true),
        ("A=1\n", PamEnv, true),
        ("A=0\n", PamEnv, false),
        ("A=\n", PamEnv, false),
        ("A=1\nA=0\n", PamEnv, false),
        ("A=0\nA=1\n", PamEnv, true),
        ("A=1\nA=\n", PamEnv, false),
        ("A=1\nA=\"\"\n", PamEnv, false),
        (" \texport A=1\n", PamEnv, true),
        ("A=1\nexport A=0\n", PamEnv, false),
        ("export A=0", PamEnv, false),
        ("A=\"1\"", PamEnv, true),
        ("A=\"0\"", PamEnv, false),
        ("A='off'", PamEnv, false),
        ("A=\"0", PamEnv, false),
        ("A=\"", PamEnv, false),
        ("A=\"0\" ", PamEnv, true),
        ("A=0 # why", PamEnv, false),
        ("A=1 # why", PamEnv, true),
        ("A=\"#\"", PamEnv, false),
        ("#A=1", PamEnv, false),
        (" # A=1\n", PamEnv, false),
        ("A=$B", PamEnv, true),
        ("A=$(echo 0)", PamEnv, true),
        ("A=\\0", PamEnv, true),
        ("A=1;B=2", PamEnv, true),
        ("B=2 A=1", PamEnv, false),
        ("A=0;", PamEnv, true),
        ("AA=1\nXA=1", PamEnv, false),
        ("A=1\r\n", PamEnv, true),
        ("A=0\r\n", PamEnv, false),
        ("A=1\nA\n", PamEnv, true),
        ("A=1\nexport A\n", PamEnv, true),
        ("A=1\nunset A\n", PamEnv, true),
        ("A = 1", PamEnv, true),
        ("A = 0", PamEnv, false),
        ("A=1\nA = 0", PamEnv, true),
        ("A=1\nexport  A=0", PamEnv, true),
        ("export\tA=1", PamEnv, true),
        ("A+=1", PamEnv, true),
        ("A=0\\\n1", PamEnv, true),
        ("A=1\nB=\\\n#\n\nA=0", PamEnv, true),
        ("A=1\nB=\\\nx\nA=0", PamEnv, false),
        ("\u{feff}A=1\n", PamEnv, true),
        // environment.d.
        ("A=1", EnvironmentD, true),
        ("A=1\n", EnvironmentD, true),
        ("A=0\n", EnvironmentD, false),
        ("A=\n", EnvironmentD, false),
        ("A=1\nA=0\n", EnvironmentD, false),
        ("A=1\rA=0\r", EnvironmentD, false),
        ("A=1\r\n", EnvironmentD, true),
        ("A=0\r\n", EnvironmentD, false),
        ("A=1\nA=\n", EnvironmentD, true),
        ("A=1\nA=''\n", EnvironmentD, true),
        ("  A = 1\n", EnvironmentD, true),
        ("A=1\nA = 0\n", EnvironmentD, false),
        ("A=\"1\"", EnvironmentD, true),
        ("A=\"0\"", EnvironmentD, false),
        ("A='0'", EnvironmentD, false),
        ("A='0' 'x'", EnvironmentD, true),
        ("A='' 0", EnvironmentD, false),
        ("A=0''", EnvironmentD, true),
        ("A=fal\\\nse", EnvironmentD, false),
        ("A=\"fal\\\nse\"", EnvironmentD, false),
        ("A=\\0", EnvironmentD, false),
        ("A=\"\\0\"", EnvironmentD, true),
        ("A='0\n'", EnvironmentD, false),
        ("A=$B", EnvironmentD, true),
        ("A=${B:-0}", EnvironmentD, true),
        ("A='$B'", EnvironmentD, true),
        ("A=0 # why", EnvironmentD, true),
        ("#A=1", EnvironmentD, false),
        (" ; A=1\n", EnvironmentD, false),
        ("# x\\\nA=1", EnvironmentD, true),
        ("A=1\n# x\\\nA=0", EnvironmentD, true),
        ("A=1\n# x\nA=0", EnvironmentD, false),
        ("A=1\nA\n", EnvironmentD, true),
        ("export A=1", EnvironmentD, true),
        ("A=1\nexport A=0", EnvironmentD, true),
        ("AA=1\nXA=1\nB=A=1", EnvironmentD, false),
        ("B='\nA=1\n'\n", EnvironmentD, false),
        ("A=\"0\n", EnvironmentD, true),
        ("A=1\nB=\"x\nA=0\n", EnvironmentD, true),
        ("B=\"x\nA=1\n", EnvironmentD, true),
        ("B=x\\\nA=1\n", EnvironmentD, false),
        ("A=1; rm -rf /", EnvironmentD, true),
    ];

    fn says_no(text: impl AsRef<[u8]>, syntax: Syntax) -> bool {
        refusal(text.as_ref(), syntax, &["A"]).is_some()
    }

    #[test]
    fn every_row() {
        let wrong: Vec<_> = TABLE.iter().filter(|(text, syntax, no)| says_no(text, *syntax) != *no).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn no_prefix_or_suffix_panics_in_any_syntax() {
        for (text, ..) in TABLE {
            for at in 0..=text.len() {
                for syntax in [Shell, PamEnv, EnvironmentD] {
                    says_no(&text.as_bytes()[..at], syntax);
                    says_no(&text.as_bytes()[at..], syntax);
                }
            }
        }
    }

    #[test]
    fn a_row_says_the_same_after_other_lines() {
        for (text, syntax, no) in TABLE.iter().filter(|(text, ..)| !text.starts_with('\u{feff}')) {
            assert_eq!(says_no(format!("X=1\n\n# x\n{text}"), *syntax), *no, "{text:?} {syntax:?}");
        }
    }

    #[test]
    fn the_first_name_that_ends_as_a_no() {
        let names = ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"];
        for (text, expected) in [
            ("DO_NOT_TRACK=1\nPERCONA_TELEMETRY_DISABLE=true\n", Some(names[0])),
            ("DO_NOT_TRACK=1\nPERCONA_TELEMETRY_DISABLE=0\n", Some(names[1])),
            ("PERCONA_TELEMETRY_DISABLE=1 DO_NOT_TRACK=0", Some(names[0])),
            ("export DO_NOT_TRACK=0 PERCONA_TELEMETRY_DISABLE=\n", None),
            ("PERCONA_TELEMETRY_DISABLED=1\nMY_DO_NOT_TRACK=1\n", None),
            ("umask 022\n", None),
        ] {
            assert_eq!(refusal(text.as_bytes(), Shell, &names), expected, "{text:?}");
        }
        assert_eq!(refusal(b"A=1", Shell, &[]), None);
    }

    #[test]
    fn bytes_that_are_no_text() {
        for syntax in [Shell, PamEnv, EnvironmentD] {
            assert!(says_no(b"A=\xff", syntax));
            assert!(says_no(b"A=0\xc3", syntax));
            assert!(says_no(b"\xff\xfe=1\nA=1\n\x80", syntax));
            assert!(says_no(b"A=\x001", syntax));
            assert!(!says_no(b"B=\xff\nA=0\n", syntax));
            assert!(says_no([b"A=".as_slice(), &[b'0'; 65536]].concat(), syntax));
            assert!(!says_no([b"A=".as_slice(), &[b' '; 65536], b"\n"].concat(), syntax));
        }
        assert!(!says_no([b"A='".as_slice(), &[b' '; 65536], b"'"].concat(), Shell));
        let long = format!("A=1\nB={}\nA=0\n", "x".repeat(9000));
        assert!(says_no(&long, PamEnv) && !says_no(&long, Shell) && !says_no(&long, EnvironmentD));
    }

    #[test]
    fn an_ordinary_profile_is_understood() {
        const PROFILE: &str = r#"# /etc/profile: system-wide .profile file
export A=1
if [ "$(id -u)" -eq 0 ]; then
  PATH="/usr/local/sbin:/usr/bin"
else
  PATH="/usr/local/bin:/usr/bin"
fi
export PATH

if [ "${PS1-}" ]; then
  if [ "${BASH-}" ] && [ "$BASH" != "/bin/sh" ]; then
    # The file bash.bashrc already sets the default PS1: it's fine.
    PS1='\h:\w\$ '
    if [ -f /etc/bash.bashrc ]; then
      . /etc/bash.bashrc
    fi
  fi
fi
pathmunge () {
    case ":${PATH}:" in
        *:"$1":*)
            ;;
        *)
            if [ "$2" = "after" ] ; then PATH=$PATH:$1
            else PATH=$1:$PATH; fi
    esac
}
if [ -d /etc/profile.d ]; then
  for i in /etc/profile.d/*.sh; do
    if [ -r $i ]; then . $i; fi
  done
  unset i
fi
[ -x /usr/bin/lesspipe ] && eval "$(SHELL=/bin/sh lesspipe)"
case "$TERM" in xterm*|rxvt*) PS1="\[\e]0;${debian_chroot:+($debian_chroot)}\u@\h: \w\a\]$PS1" ;; *) ;; esac
for ((i = 0; i < 3; i++)); do (( x += i )); done
if ! shopt -oq posix && [[ $- == *i* ]]; then command_not_found_handle() { printf '%s' "$1" >&2; return 127; }; fi
"#;
        assert!(says_no(PROFILE, Shell));
        assert!(!says_no(format!("{PROFILE}B=1\n").replace("A=1", "A=0"), Shell));
        let taken_back = PROFILE.replace("; return 127", "");
        assert!(!says_no(format!("{taken_back}unset A\n"), Shell));
    }

    #[test]
    fn depth_and_length_cost_no_stack_and_no_square() {
        const UNITS: &str = "( ) $( ${ \"$( ` \" ' $' {_ if_ case_x_in_ [[_ (( a( x=( f() <<A_ <<A\n <( A= A A_ A_= A[ ${A:= \
            $((A= A=' A=1_ A=1& A=1&& A=1; #A \\ \\\n \n \t ;; | & = ]= A[] exit; $ \"${A:=\" A+=0\n ;A\n } ${ \"${ }_";
        let start = Instant::now();
        for unit in UNITS.split(' ').map(|unit| unit.replace('_', " ")) {
            for head in ["A=1\n", "\"A ", "{ ((A", "A="] {
                let text: Vec<u8> = head.bytes().chain(unit.bytes().cycle()).take(256 << 10).collect();
                says_no(&text, Shell);
            }
            for syntax in [PamEnv, EnvironmentD] {
                says_no(format!("A=1\n{}", unit.repeat((256 << 10) / unit.len())), syntax);
            }
        }
        // Some 300 texts of 256 KiB: seconds in a debug build, and hours if one of them took quadratic time.
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    }

    #[test]
    fn a_variable_that_is_there_with_any_value() {
        for (text, found) in [
            ("OFF=\n", true),
            ("export OFF=0", true),
            ("X=1 OFF='' cmd\n", true),
            ("OFF = x", true),
            ("# OFF=1\n  #OFF=1\n", false),
            ("echo $OFF\nunset OFF\n", false),
            ("OFFICE=1\nXOFF=1\n[ $OFF = 1 ]\n", false),
            ("", false),
        ] {
            assert_eq!(assigned(text.as_bytes(), &["OFF"]).is_some(), found, "{text:?}");
        }
    }
}
