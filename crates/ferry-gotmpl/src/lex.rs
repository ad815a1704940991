//! Splits template text into literal text and the tokens of actions.

/// One token with its byte offset.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Literal text outside of actions.
    Literal(String),
    Open,
    Close,
    Space,
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Identifier(String),
    Keyword(&'static str),
    Nil,
    Bool(bool),
    /// A number or character constant as written.
    Number(String),
    Text(String, String),
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    End,
    /// The lexer's complaint.
    Failure(String),
}

const KEYWORDS: &[&str] = &["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// Lexes a whole template; a failure is the last token.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new(), parens: 0 };
    match lexer.run() {
        Ok(()) => lexer.push(text.len(), Kind::End),
        Err((offset, message)) => lexer.push(offset, Kind::Failure(message)),
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    parens: usize,
}

type Step = Result<(), (usize, String)>;

impl Lexer<'_> {
    fn push(&mut self, offset: usize, kind: Kind) {
        self.tokens.push(Token { kind, offset });
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn run(&mut self) -> Step {
        let mut trim_left = false;
        loop {
            let start = self.at;
            let open = self.rest().find("{{").map(|found| start + found);
            let mut literal = &self.text[start..open.unwrap_or(self.text.len())];
            let trims = open.is_some_and(|open| has_left_trim(&self.text[open + 2..]));
            if trim_left {
                literal = literal.trim_start_matches(is_space);
            }
            if trims {
                literal = literal.trim_end_matches(is_space);
            }
            if !literal.is_empty() {
                let literal = literal.to_owned();
                self.push(start, Kind::Literal(literal));
            }
            let Some(open) = open else { return Ok(()) };
            self.at = open + 2 + if trims { 2 } else { 0 };
            if self.rest().starts_with("/*") {
                trim_left = self.comment(open)?;
                continue;
            }
            self.push(open, Kind::Open);
            trim_left = self.action(open)?;
        }
    }

    fn comment(&mut self, open: usize) -> Result<bool, (usize, String)> {
        let Some(end) = self.rest().find("*/") else { return Err((open, "unclosed comment".to_owned())) };
        self.at += end + 2;
        if self.rest().starts_with(" -}}") {
            self.at += 4;
            return Ok(true);
        }
        if self.rest().starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        Err((self.at, "comment ends before closing delimiter".to_owned()))
    }

    /// Lexes up to the closing delimiter; tells whether it trims what follows.
    fn action(&mut self, open: usize) -> Result<bool, (usize, String)> {
        self.parens = 0;
        loop {
            let start = self.at;
            let rest = self.rest();
            let trims = has_right_trim(rest);
            if trims || rest.starts_with("}}") {
                if self.parens > 0 {
                    return Err((start, "unclosed left paren".to_owned()));
                }
                self.push(start, Kind::Close);
                // A trimming end is one blank, the dash and the delimiter.
                self.at += if trims { 4 } else { 2 };
                return Ok(trims);
            }
            let Some(letter) = rest.chars().next() else { return Err((open, "unclosed action".to_owned())) };
            self.token(letter)?;
        }
    }

    fn token(&mut self, letter: char) -> Step {
        let start = self.at;
        let second = self.rest()[letter.len_utf8()..].chars().next();
        match letter {
            space if is_space(space) => {
                while self.rest().starts_with(is_space) && !has_right_trim(self.rest()) {
                    self.at += 1;
                }
                self.push(start, Kind::Space);
            }
            ':' if second == Some('=') => self.simple(2, Kind::Declare),
            ':' => return Err((start, "expected :=".to_owned())),
            '=' => self.simple(1, Kind::Assign),
            '|' => self.simple(1, Kind::Pipe),
            ',' => self.simple(1, Kind::Comma),
            '(' => {
                self.parens += 1;
                self.simple(1, Kind::LeftParen);
            }
            ')' => {
                if self.parens == 0 {
                    return Err((start, "unexpected right paren".to_owned()));
                }
                self.parens -= 1;
                self.simple(1, Kind::RightParen);
            }
            '"' => return self.quoted(),
            '`' => return self.raw(),
            '\'' => return self.character(),
            '$' => {
                let name = format!("${}", self.word_at(start + 1));
                self.word(name, Kind::Variable)?;
            }
            '.' if self.rest().len() == 1 => return Err((start, "illegal number syntax: \".\"".to_owned())),
            '.' if !second.is_some_and(|letter| letter.is_ascii_digit()) => {
                let name = self.word_at(start + 1);
                if name.is_empty() {
                    self.simple(1, Kind::Dot);
                    return self.terminator();
                }
                self.at = start + 1 + name.len();
                self.push(start, Kind::Field(name));
                return self.terminator();
            }
            '+' | '-' | '.' | '0'..='9' => return self.number(),
            letter if is_word(letter) => {
                let name = self.word_at(start);
                self.word(name, |name| match name.as_str() {
                    "true" => Kind::Bool(true),
                    "false" => Kind::Bool(false),
                    "nil" => Kind::Nil,
                    _ => KEYWORDS
                        .iter()
                        .find(|keyword| **keyword == name)
                        .map_or_else(|| Kind::Identifier(name.clone()), |keyword| Kind::Keyword(keyword)),
                })?;
            }
            other => return Err((start, format!("unrecognized character in action: {}", go_rune(other)))),
        }
        Ok(())
    }

    fn simple(&mut self, length: usize, kind: Kind) {
        self.push(self.at, kind);
        self.at += length;
    }

    fn word_at(&self, from: usize) -> String {
        self.text[from..].chars().take_while(|letter| is_word(*letter)).collect()
    }

    fn word(&mut self, name: String, kind: impl FnOnce(String) -> Kind) -> Step {
        let start = self.at;
        self.at += name.len();
        self.push(start, kind(name));
        self.terminator()
    }

    /// Names must end where Go lets them end.
    fn terminator(&self) -> Step {
        match self.rest().chars().next() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(' | '=') => Ok(()),
            Some(letter) if is_space(letter) || self.rest().starts_with("}}") => Ok(()),
            Some(letter) => Err((self.at, format!("bad character {}", go_rune(letter)))),
        }
    }

    fn quoted(&mut self) -> Step {
        let start = self.at;
        let mut escaped = false;
        for (offset, letter) in self.text[start + 1..].char_indices() {
            match letter {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let end = start + 1 + offset + 1;
                    let source = self.text[start..end].to_owned();
                    let value =
                        unquote(&self.text[start + 1..end - 1]).ok_or_else(|| (start, "invalid syntax".to_owned()))?;
                    self.push(start, Kind::Text(value, source));
                    self.at = end;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err((start, "unterminated quoted string".to_owned()))
    }

    fn raw(&mut self) -> Step {
        let start = self.at;
        let Some(length) = self.text[start + 1..].find('`') else {
            return Err((start, "unterminated raw quoted string".to_owned()));
        };
        let end = start + 1 + length + 1;
        let value = self.text[start + 1..end - 1].to_owned();
        self.push(start, Kind::Text(value, self.text[start..end].to_owned()));
        self.at = end;
        Ok(())
    }

    fn character(&mut self) -> Step {
        let start = self.at;
        let mut escaped = false;
        for (offset, letter) in self.text[start + 1..].char_indices() {
            match letter {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\'' => {
                    let end = start + 1 + offset + 1;
                    self.push(start, Kind::Number(self.text[start..end].to_owned()));
                    self.at = end;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err((start, "unterminated character constant".to_owned()))
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        let body = &self.text[start..];
        let mut length = 0;
        let mut previous = ' ';
        for letter in body.chars() {
            let sign = matches!(letter, '+' | '-') && (length == 0 || matches!(previous, 'e' | 'E' | 'p' | 'P'));
            if !(sign || letter.is_ascii_alphanumeric() || letter == '.' || letter == '_') {
                break;
            }
            previous = letter;
            length += letter.len_utf8();
        }
        let source = body[..length].to_owned();
        if parse_number(&source).is_none() {
            return Err((start, format!("bad number syntax: {}", crate::quote(&source))));
        }
        self.push(start, Kind::Number(source));
        self.at += length;
        Ok(())
    }
}

/// A number constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// Reads a number or character constant.
pub(crate) fn parse_number(source: &str) -> Option<Number> {
    if let Some(inner) = source.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let mut letters = unquote(inner)?.chars().collect::<Vec<_>>().into_iter();
        let letter = letters.next()?;
        return letters.next().is_none().then_some(Number::Int(i64::from(letter as u32)));
    }
    let (negative, digits) = match source.as_bytes().first()? {
        b'-' => (true, &source[1..]),
        b'+' => (false, &source[1..]),
        _ => (false, source),
    };
    let lower = digits.replace('_', "").to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', rest @ ..] if !rest.is_empty() && rest.iter().all(u8::is_ascii_digit) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if let Ok(magnitude) = i64::from_str_radix(body, radix) {
        return Some(Number::Int(if negative { -magnitude } else { magnitude }));
    }
    if radix != 10 || !lower.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return None;
    }
    let number: f64 = lower.parse().ok()?;
    Some(Number::Float(if negative { -number } else { number }))
}

fn unquote(body: &str) -> Option<String> {
    let mut out = String::new();
    let mut letters = body.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let escape = letters.next()?;
        let plain = match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '"' | '\'' => escape,
            'x' | 'u' | 'U' => {
                let count = match escape {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits: String = letters.by_ref().take(count).collect();
                u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?
            }
            '0'..='7' => {
                let digits: String = std::iter::once(escape).chain(letters.by_ref().take(2)).collect();
                u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32)?
            }
            _ => return None,
        };
        out.push(plain);
    }
    Some(out)
}

fn has_left_trim(after_open: &str) -> bool {
    after_open.starts_with('-') && after_open[1..].starts_with(is_space)
}

fn has_right_trim(rest: &str) -> bool {
    rest.starts_with(is_space) && rest[1..].starts_with("-}}")
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

/// Go's `%#U`.
fn go_rune(letter: char) -> String {
    format!("U+{:04X} '{letter}'", letter as u32)
}
