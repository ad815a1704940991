//! Text to tokens.

use unicode_ident::{is_xid_continue, is_xid_start};

use super::{Place, Range};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    OpenParenthesis,
    CloseParenthesis,
    OpenQuote,
    CloseQuote,
    /// `<<EOT`, with its newline.
    OpenHeredoc,
    CloseHeredoc,
    /// `${`.
    Interpolation,
    /// `%{`.
    Control,
    /// The brace that ends either.
    SequenceEnd,
    /// Text in quotes.
    QuotedText,
    /// Text of a heredoc.
    Text,
    Number,
    Name,
    Comment,
    Newline,
    Equal,
    Dot,
    Comma,
    Star,
    Minus,
    Bang,
    Question,
    Colon,
    DoubleColon,
    Ellipsis,
    FatArrow,
    /// An operator between two values, by how tightly it binds.
    Operator(u8),
    /// A newline in a quoted text.
    QuotedNewline,
    /// What is not used in the language.
    Invalid,
    End,
}

impl Kind {
    /// How tightly it binds as an operator between two values; none for what is no operator.
    pub(super) fn binds(self) -> Option<u8> {
        match self {
            Self::Operator(level) => Some(level),
            Self::Minus => Some(4),
            Self::Star => Some(5),
            _ => None,
        }
    }
}

/// A part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) range: Range,
}

#[derive(Debug, Clone)]
enum Mode<'a> {
    Plain,
    Quoted,
    Heredoc { marker: &'a str, starts_line: bool },
}

/// Splits a text into tokens; the last one is the end.
pub(super) fn scan(text: &str) -> Vec<Token<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut scanner = Scanner {
        text,
        at: 0,
        place: Place { line: 1, column: 1 },
        tokens: Vec::new(),
        modes: vec![Mode::Plain],
        braces: 0,
        sequences: Vec::new(),
        has_open_comment: false,
    };
    while scanner.at < text.len() {
        match scanner.modes.last() {
            Some(Mode::Quoted) => scanner.quoted(),
            Some(Mode::Heredoc { .. }) => scanner.heredoc(),
            _ => scanner.plain(),
        }
    }
    scanner.emit(Kind::End, 0);
    scanner.tokens
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    place: Place,
    tokens: Vec<Token<'a>>,
    /// What is around, the innermost last.
    modes: Vec<Mode<'a>>,
    braces: usize,
    /// Depths of braces at which a sequence of a template ends.
    sequences: Vec<usize>,
    /// A comment began that nothing ends, so that none behind it ends either.
    has_open_comment: bool,
}

/// Symbols of several characters, the longer ones first.
const SYMBOLS: [(&str, Kind); 10] = [
    ("...", Kind::Ellipsis),
    ("==", Kind::Operator(2)),
    ("!=", Kind::Operator(2)),
    (">=", Kind::Operator(3)),
    ("<=", Kind::Operator(3)),
    ("&&", Kind::Operator(1)),
    ("||", Kind::Operator(0)),
    ("::", Kind::DoubleColon),
    ("=>", Kind::FatArrow),
    ("\r\n", Kind::Newline),
];

fn single(character: char) -> Kind {
    match character {
        '[' => Kind::OpenBracket,
        ']' => Kind::CloseBracket,
        '(' => Kind::OpenParenthesis,
        ')' => Kind::CloseParenthesis,
        '.' => Kind::Dot,
        ',' => Kind::Comma,
        '*' => Kind::Star,
        '/' | '%' => Kind::Operator(5),
        '+' => Kind::Operator(4),
        '-' => Kind::Minus,
        '=' => Kind::Equal,
        '<' | '>' => Kind::Operator(3),
        '!' => Kind::Bang,
        '?' => Kind::Question,
        ':' => Kind::Colon,
        '\n' => Kind::Newline,
        _ => Kind::Invalid,
    }
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Makes a token of the next bytes.
    fn emit(&mut self, kind: Kind, length: usize) {
        let text = &self.rest()[..length];
        let start = self.place;
        self.place = start.after(text);
        self.at += length;
        self.tokens.push(Token { kind, text, range: Range { start, end: self.place } });
    }

    fn plain(&mut self) {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or_default();
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if blanks > 0 {
            self.place.column += u32::try_from(blanks).unwrap_or(u32::MAX);
            self.at += blanks;
        } else if first.is_ascii_digit() {
            self.emit(Kind::Number, number_length(rest));
        } else if let Some(length) = name_length(rest) {
            self.emit(Kind::Name, length);
        } else if let Some(length) = self.comment_length() {
            self.emit(Kind::Comment, length);
        } else if let Some((symbol, kind)) = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            self.emit(*kind, symbol.len());
        } else if let Some((length, marker)) = heredoc_start(rest) {
            self.emit(Kind::OpenHeredoc, length);
            self.modes.push(Mode::Heredoc { marker, starts_line: true });
        } else if first == '"' {
            self.emit(Kind::OpenQuote, 1);
            self.modes.push(Mode::Quoted);
        } else if first == '{' {
            self.emit(Kind::OpenBrace, 1);
            self.braces += 1;
        } else if first == '}' {
            self.close(1, Kind::CloseBrace);
        } else if rest.starts_with("~}") {
            self.close(2, Kind::SequenceEnd);
        } else {
            self.emit(single(first), first.len_utf8());
        }
    }

    fn comment_length(&mut self) -> Option<usize> {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix("/*") {
            let end = if self.has_open_comment { None } else { after.find("*/") };
            self.has_open_comment = end.is_none();
            return end.map(|at| at + 4);
        }
        let is_line = rest.starts_with('#') || rest.starts_with("//");
        is_line.then(|| rest.find('\n').map_or(rest.len(), |at| at + 1))
    }

    /// A closing brace, which ends a sequence of a template where it belongs to one; else it is `other`.
    fn close(&mut self, length: usize, other: Kind) {
        if self.sequences.last() == Some(&self.braces) {
            self.emit(Kind::SequenceEnd, length);
            self.sequences.pop();
            self.modes.pop();
        } else {
            self.emit(other, length);
        }
        self.braces = self.braces.saturating_sub(1);
    }

    /// The start of a sequence of a template, where there is one.
    fn sequence(&mut self) -> bool {
        let rest = self.rest();
        let kind = match rest.get(..2) {
            Some("${") => Kind::Interpolation,
            Some("%{") => Kind::Control,
            _ => return false,
        };
        let length = if rest[2..].starts_with('~') { 3 } else { 2 };
        self.emit(kind, length);
        self.braces += 1;
        self.sequences.push(self.braces);
        if let Some(Mode::Heredoc { starts_line, .. }) = self.modes.last_mut() {
            *starts_line = false;
        }
        self.modes.push(Mode::Plain);
        true
    }

    fn quoted(&mut self) {
        if self.sequence() {
            return;
        }
        let rest = self.rest();
        if rest.starts_with('"') {
            self.emit(Kind::CloseQuote, 1);
            self.modes.pop();
            return;
        }
        let newlines = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        if newlines > 0 {
            self.emit(Kind::QuotedNewline, newlines);
        } else if is_cut_off(rest) {
            self.emit(Kind::Invalid, 1);
        } else if let Some(length) = dollars_length(rest) {
            self.emit(Kind::QuotedText, length);
        } else {
            match quoted_length(rest) {
                0 => self.emit(Kind::Invalid, 1),
                length => self.emit(Kind::QuotedText, length),
            }
        }
    }

    fn heredoc(&mut self) {
        if self.sequence() {
            return;
        }
        let rest = self.rest();
        if is_cut_off(rest) {
            return self.emit(Kind::Invalid, 1);
        }
        let length = dollars_length(rest).unwrap_or_else(|| rest.find(['$', '%', '\r', '\n']).unwrap_or(rest.len()));
        let after = &rest[length..];
        let newline = if after.starts_with("\r\n") { 2 } else { usize::from(after.starts_with('\n')) };
        let Some(Mode::Heredoc { marker, starts_line }) = self.modes.last_mut() else { return };
        if newline == 0 {
            *starts_line = false;
            // A lone carriage return is no text, and no heredoc goes on behind it.
            return if length == 0 { self.emit(Kind::Invalid, rest.len()) } else { self.emit(Kind::Text, length) };
        }
        if *starts_line && rest[..length].trim() == *marker {
            self.modes.pop();
            self.emit(Kind::CloseHeredoc, length);
            self.emit(Kind::Newline, newline);
            return;
        }
        *starts_line = true;
        self.emit(Kind::Text, length + newline);
    }
}

/// `$` or `%` with nothing behind it that would tell what it is.
fn is_cut_off(rest: &str) -> bool {
    matches!(rest, "$" | "%")
}

/// `$` or `%` that begins no sequence: alone, or written twice before a brace.
fn dollars_length(rest: &str) -> Option<usize> {
    let first = rest.chars().next().filter(|first| matches!(first, '$' | '%'))?;
    let after = rest[1..].strip_prefix(first).and_then(|after| after.strip_prefix('{'));
    Some(match after {
        Some(after) if after.starts_with('~') => 4,
        Some(_) => 3,
        None => 1,
    })
}

/// Text in quotes up to what is something else.
fn quoted_length(rest: &str) -> usize {
    let mut length = 0;
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        length += match character {
            '$' | '%' | '"' | '\r' | '\n' => break,
            '\\' => match characters.next() {
                None | Some('\r' | '\n') => break,
                Some(next) => 1 + next.len_utf8(),
            },
            other => other.len_utf8(),
        };
    }
    length
}

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let (mut at, mut length) = (1, 1);
    loop {
        match bytes.get(at) {
            Some(b'0'..=b'9') => (at, length) = (at + 1, at + 1),
            Some(b'.') => at += 1,
            Some(b'e' | b'E') if is_digit(at + 1) => (at, length) = (at + 2, at + 2),
            Some(b'e' | b'E') if matches!(bytes.get(at + 1), Some(b'+' | b'-')) && is_digit(at + 2) => {
                (at, length) = (at + 3, at + 3);
            }
            _ => return length,
        }
    }
}

/// Newer versions of Unicode have them in identifiers, those of HCL do not.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// Letters, digits, `_` and `-`, the first a letter or `_`, as Unicode has them for identifiers.
fn name_length(rest: &str) -> Option<usize> {
    let first = rest.chars().next().filter(|first| is_xid_start(*first) || *first == '_')?;
    let after = &rest[first.len_utf8()..];
    let length = after.find(|letter: char| letter != '-' && (!is_xid_continue(letter) || JOINERS.contains(&letter)));
    Some(first.len_utf8() + length.unwrap_or(after.len()))
}

/// `<<EOT` or `<<-EOT` at the end of its line: its length, and the marker.
fn heredoc_start(rest: &str) -> Option<(usize, &str)> {
    let after = rest.strip_prefix("<<")?;
    let after = after.strip_prefix('-').unwrap_or(after);
    let length = name_length(after)?;
    let behind = &after[length..];
    let newline = if behind.starts_with("\r\n") { 2 } else { usize::from(behind.starts_with('\n')) };
    (newline > 0).then(|| (rest.len() - behind.len() + newline, &after[..length]))
}
