//! Texts with sequences in them: `${value}`, and directives such as `%{if x}`.

use super::Range;
use super::cursor::Cursor;
use super::expression::is_word;
use super::scan::{Kind, Token};
use crate::flags::go_quote;

/// A part of a template.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Text, or a value.
    Plain,
    Open(Open),
    /// `else`, `endif`, `endfor`.
    Rest(&'static str, Range),
    End(Range),
}

/// A directive that others belong to, and where it stands.
#[derive(Debug, Clone, Copy)]
enum Open {
    If { begun: Range, has_else: bool },
    For { begun: Range },
}

impl Open {
    fn word(self) -> &'static str {
        match self {
            Self::If { .. } => "if",
            Self::For { .. } => "for",
        }
    }
}

const UNBALANCED: &str = "The control directives within this template are unbalanced.";
const DIRECTIVES: [&str; 5] = ["if", "for", "else", "endif", "endfor"];

impl<'a> Cursor<'a> {
    /// The rest of a template, up to its closing mark.
    pub(super) fn template(&mut self, end: Kind) {
        let mut open: Vec<Open> = Vec::new();
        for part in self.parts(end) {
            match part {
                Part::Plain => {}
                Part::Open(directive) => open.push(directive),
                Part::Rest(name, range) => match open.pop() {
                    Some(directive) => open.extend(self.continued(directive, name, range)),
                    None => self.fault(format!("Unexpected {name} directive"), UNBALANCED, range),
                },
                Part::End(range) => {
                    while let Some(directive) = open.pop() {
                        let (word, place) = (directive.word(), self.place_of(directive));
                        let detail = format!(
                            "The {word} directive at {place} is missing its corresponding end{word} directive."
                        );
                        self.fault("Unexpected end of template", detail, range);
                    }
                }
            }
        }
    }

    /// Looks whether a directive belongs to the one that is open, which is returned if it still is.
    fn continued(&mut self, open: Open, name: &str, range: Range) -> Option<Open> {
        let place = self.place_of(open);
        let detail = match (open, name) {
            (Open::If { .. }, "endif") | (Open::For { .. }, "endfor") => return None,
            (Open::If { begun, has_else: false }, "else") => return Some(Open::If { begun, has_else: true }),
            (Open::If { .. }, "else") => format!("Already in the else clause for the if started at {place}."),
            (Open::If { .. }, _) => format!("Expecting an endif directive for the if started at {place}."),
            (Open::For { .. }, "else") => "An else clause is not expected for a for directive.".to_owned(),
            (Open::For { .. }, _) => {
                format!("Expecting an endfor directive corresponding to the for directive at {place}.")
            }
        };
        self.fault(format!("Unexpected {name} directive"), detail, range);
        None
    }

    fn place_of(&self, open: Open) -> String {
        let (Open::If { begun, .. } | Open::For { begun }) = open;
        format!("{}:{begun}", self.name)
    }

    fn parts(&mut self, end: Kind) -> Vec<Part> {
        let start = self.peek().range;
        let mut parts = Vec::new();
        loop {
            let next = self.read();
            match next.kind {
                kind if kind == end => {
                    parts.push(Part::End(next.range));
                    return parts;
                }
                Kind::Text => parts.push(Part::Plain),
                Kind::QuotedText => {
                    self.escapes(next);
                    parts.push(Part::Plain);
                }
                Kind::Interpolation => {
                    self.counting_newlines(false, |cursor| cursor.interpolation(start, end));
                    parts.push(Part::Plain);
                }
                Kind::Control => parts.extend(self.counting_newlines(false, |cursor| cursor.directive(next))),
                _ => {
                    let detail = "No closing marker was found for the string.";
                    self.fault_unless_recovering("Unterminated template string", detail, next.range);
                    parts.push(Part::End(self.skip_past(end).range));
                    return parts;
                }
            }
        }
    }

    fn interpolation(&mut self, start: Range, end: Kind) {
        const EXTRA: &str = "Extra characters after interpolation expression";
        const UNCLOSED: &str = "Unclosed template interpolation sequence";
        self.expression();
        let close = self.peek();
        if close.kind == Kind::SequenceEnd {
            self.read();
            return;
        }
        let (summary, detail, range) = match close.kind {
            Kind::End => (
                UNCLOSED,
                "There is no closing brace for this interpolation sequence before the end of the file. This might be caused by incorrect nesting inside the given expression.",
                start,
            ),
            Kind::Colon => (
                EXTRA,
                "Template interpolation doesn't expect a colon at this location. Did you intend this to be a literal sequence to be processed as part of another language? If so, you can escape it by starting with \"$${\" instead of just \"${\".",
                close.range,
            ),
            Kind::CloseQuote | Kind::OpenQuote if end == Kind::CloseQuote => (
                UNCLOSED,
                "There is no closing brace for this interpolation sequence before the end of the quoted template. This might be caused by incorrect nesting inside the given expression.",
                start,
            ),
            _ => (
                EXTRA,
                "Expected a closing brace to end the interpolation expression, but found extra characters.\n\nThis can happen when you include interpolation syntax for another language, such as shell scripting, but forget to escape the interpolation start token. If this is an embedded sequence for another language, escape it by starting with \"$${\" instead of just \"${\".",
                close.range,
            ),
        };
        self.fault_unless_recovering(summary, detail, range);
        self.skip_past(Kind::SequenceEnd);
    }

    fn directive(&mut self, open: Token<'a>) -> Option<Part> {
        let word = self.peek();
        if word.kind != Kind::Name {
            let detail =
                "A template directive keyword (\"if\", \"for\", etc) is expected at the beginning of a %{ sequence.";
            self.fault_unless_recovering("Invalid template directive", detail, word.range);
            self.skip_past(Kind::SequenceEnd);
            return None;
        }
        self.read();
        let known = DIRECTIVES.into_iter().find(|known| *known == word.text);
        match known {
            Some("if") => {
                self.expression();
            }
            Some("for") => self.loop_of_directive()?,
            Some(_) => {}
            None => {
                let near = DIRECTIVES.into_iter().find(|known| distance(word.text, known) < 3);
                let near = near.map(|known| format!(" Did you mean {known:?}?")).unwrap_or_default();
                let detail = format!("{} is not a valid template control keyword.{near}", go_quote(word.text));
                self.fault_unless_recovering("Invalid template control keyword", &detail, word.range);
                self.skip_past(Kind::SequenceEnd);
                return None;
            }
        }
        let range = open.range.to(self.peek().range);
        let part = match known {
            Some("if") => Part::Open(Open::If { begun: range, has_else: false }),
            Some("for") => Part::Open(Open::For { begun: range }),
            known => Part::Rest(known.unwrap_or_default(), range),
        };
        let close = self.peek();
        if close.kind == Kind::SequenceEnd {
            self.read();
        } else {
            let summary = format!("Extra characters in {} marker", word.text);
            let detail = "Expected a closing brace to end the sequence, but found extra characters.";
            self.fault_unless_recovering(&summary, detail, close.range);
            self.skip_past(Kind::SequenceEnd);
        }
        Some(part)
    }

    /// Names and collection of `%{for`; none when they are wrong.
    fn loop_of_directive(&mut self) -> Option<()> {
        let wrong = |cursor: &mut Self, detail: &str| {
            let range = cursor.peek().range;
            cursor.fault_unless_recovering("Invalid 'for' directive", detail, range);
            cursor.skip_past(Kind::SequenceEnd);
            None
        };
        if self.peek().kind != Kind::Name {
            return wrong(self, "For directive requires variable name after 'for'.");
        }
        self.read();
        if self.peek().kind == Kind::Comma {
            self.read();
            if self.peek().kind != Kind::Name {
                return wrong(self, "For directive requires value variable name after comma.");
            }
            self.read();
        }
        if !is_word(self.peek(), "in") {
            return wrong(self, "For directive requires 'in' keyword after names.");
        }
        self.read();
        self.expression();
        Some(())
    }

    /// Looks at what stands behind backslashes.
    pub(super) fn escapes(&mut self, token: Token<'a>) {
        const SUMMARY: &str = "Invalid escape sequence";
        let mut rest = token.text;
        let mut place = token.range.start;
        while let Some(at) = rest.find('\\') {
            place = place.after(&rest[..at]);
            let sequence = &rest[at..at + escape_length(&rest[at..])];
            let range = Range { start: place, end: place.after(sequence) };
            let digits = sequence.get(2..).unwrap_or_default();
            match sequence[1..].chars().next() {
                Some('n' | 'r' | 't' | '"' | '\\') => {}
                Some('u') if digits.len() != 4 => {
                    let detail = "The \\u escape sequence must be followed by four hexadecimal digits.";
                    self.fault(SUMMARY, detail, range);
                }
                Some('U') if digits.len() != 8 => {
                    let detail = "The \\U escape sequence must be followed by eight hexadecimal digits.";
                    self.fault(SUMMARY, detail, range);
                }
                Some('u' | 'U') => {
                    let number = u32::from_str_radix(digits, 16).unwrap_or(u32::MAX);
                    if char::from_u32(number).is_none() {
                        self.fault(SUMMARY, format!("Cannot encode character U+{number:04x} in UTF-8."), range);
                    }
                }
                Some(other) => {
                    let detail = format!("The symbol \"{other}\" is not a valid escape sequence selector.");
                    self.fault(SUMMARY, detail, range);
                }
                None => {
                    let detail = "Backslash must be followed by an escape sequence selector character.";
                    self.fault(SUMMARY, detail, range);
                }
            }
            place = range.end;
            rest = &rest[at + sequence.len()..];
        }
    }
}

/// The bytes of an escape sequence, from its backslash on.
fn escape_length(text: &str) -> usize {
    let digits = |most: usize| text[2..].chars().take(most).take_while(char::is_ascii_hexdigit).count();
    match text[1..].chars().next() {
        Some('u') => 2 + digits(4),
        Some('U') => 2 + digits(8),
        Some(other) => 1 + other.len_utf8(),
        None => 1,
    }
}

/// How many letters have to be changed, added or left out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, known) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *known);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
