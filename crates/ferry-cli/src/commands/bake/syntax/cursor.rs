//! A place among tokens, what was found wrong so far, and the way on after a fault.

use super::scan::{Kind, Token, scan};
use super::{Fault, Range};

/// See the module.
pub(super) struct Cursor<'a> {
    /// The file, for messages that speak of another place in it.
    pub(super) name: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    /// Whether newlines count, of all that is open.
    newlines: Vec<bool>,
    /// Something was skipped: what looks wrong now may be only what was left of it.
    pub(super) recovering: bool,
    faults: Vec<Fault>,
    /// How many expressions are open.
    pub(super) depth: usize,
    /// Blocks outside of others.
    pub(super) headers: Vec<Header<'a>>,
    /// How many blocks are open.
    pub(super) blocks: usize,
}

/// What stands before a block's braces.
pub(super) struct Header<'a> {
    pub(super) kind: &'a str,
    pub(super) labels: Vec<Range>,
    pub(super) open: Range,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let (tokens, newlines) = (scan(text), vec![true]);
        Self {
            name,
            tokens,
            next: 0,
            newlines,
            recovering: false,
            faults: Vec::new(),
            depth: 0,
            headers: Vec::new(),
            blocks: 0,
        }
    }

    pub(super) fn faults(self) -> Vec<Fault> {
        self.faults
    }

    pub(super) fn fault(&mut self, summary: impl Into<String>, detail: impl Into<String>, range: Range) {
        self.faults.push(Fault { summary: summary.into(), detail: detail.into(), range });
    }

    /// As [`Cursor::fault`], unless something was skipped.
    pub(super) fn fault_unless_recovering(&mut self, summary: &str, detail: &str, range: Range) {
        if !self.recovering {
            self.fault(summary, detail, range);
        }
    }

    /// A mark to ask later whether something was found wrong since.
    pub(super) fn mark(&self) -> usize {
        self.faults.len()
    }

    pub(super) fn has_failed_since(&self, mark: usize) -> bool {
        self.faults.len() > mark
    }

    /// Whether something was found wrong since, in a way that leaves the cursor anywhere.
    pub(super) fn is_lost_since(&self, mark: usize) -> bool {
        self.recovering && self.has_failed_since(mark)
    }

    /// Takes what was found since out, to be put behind what is found now.
    pub(super) fn set_aside(&mut self, mark: usize) -> Vec<Fault> {
        self.faults.split_off(mark)
    }

    pub(super) fn put_back(&mut self, faults: Vec<Fault>) {
        self.faults.extend(faults);
    }

    pub(super) fn counting_newlines<T>(&mut self, counting: bool, work: impl FnOnce(&mut Self) -> T) -> T {
        self.newlines.push(counting);
        let done = work(self);
        self.newlines.pop();
        done
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.look().0
    }

    pub(super) fn read(&mut self) -> Token<'a> {
        let (token, next) = self.look();
        self.next = next;
        token
    }

    fn look(&self) -> (Token<'a>, usize) {
        let counts = self.newlines.last().copied().unwrap_or(true);
        for (at, token) in self.tokens.iter().enumerate().skip(self.next) {
            match token.kind {
                // One up to the end of its line ends the line.
                Kind::Comment if counts && token.text.ends_with('\n') => {
                    return (Token { kind: Kind::Newline, ..*token }, at + 1);
                }
                Kind::Comment => {}
                Kind::Newline if !counts => {}
                _ => return (*token, at + 1),
            }
        }
        (self.tokens[self.tokens.len() - 1], self.tokens.len())
    }

    /// Where the token before is.
    pub(super) fn before(&self) -> Range {
        match self.next {
            0 => self.peek().range,
            next => self.tokens[next - 1].range,
        }
    }

    /// Goes on behind the end of what is open, past whatever is opened and closed on the way.
    pub(super) fn skip_past(&mut self, end: Kind) -> Token<'a> {
        let start = opposite(end);
        self.recovering = true;
        let mut open = 0;
        loop {
            let token = self.read();
            let kind = match token.kind {
                Kind::Control if end == Kind::SequenceEnd => Kind::Interpolation,
                kind => kind,
            };
            if Some(kind) == start {
                open += 1;
            } else if kind == end {
                if open == 0 {
                    return token;
                }
                open -= 1;
            } else if kind == Kind::End {
                return token;
            }
        }
    }

    /// Goes on behind the next thing that is opened by `start`.
    pub(super) fn skip_over(&mut self, start: Kind) {
        while !matches!(self.read().kind, kind if kind == start || kind == Kind::End) {}
        if let Some(end) = opposite(start) {
            self.skip_past(end);
        }
    }

    /// Goes on behind the end of an item of a body.
    pub(super) fn skip_item(&mut self) {
        self.recovering = true;
        let mut open: Vec<Kind> = Vec::new();
        loop {
            let kind = self.read().kind;
            match kind {
                Kind::Newline if open.is_empty() => return,
                Kind::End => return,
                Kind::OpenBrace
                | Kind::OpenBracket
                | Kind::OpenParenthesis
                | Kind::OpenQuote
                | Kind::OpenHeredoc
                | Kind::Interpolation
                | Kind::Control => open.push(kind),
                Kind::CloseBrace
                | Kind::CloseBracket
                | Kind::CloseParenthesis
                | Kind::CloseQuote
                | Kind::CloseHeredoc
                | Kind::SequenceEnd => {
                    let closes = |one: &Kind| opposite(*one) == Some(kind);
                    while open.pop().is_some_and(|one| !closes(&one)) {}
                }
                _ => {}
            }
        }
    }

    /// Looks for what stands in no HCL, wherever it is.
    pub(super) fn tokens_in_use(&mut self) {
        let mut seen = [0; 6];
        for token in self.tokens.clone() {
            match token.kind {
                Kind::QuotedNewline => self.fault("Invalid multi-line string", MULTI_LINE, token.range),
                Kind::Invalid => {
                    let (class, detail) = unused(token.text);
                    let seen = &mut seen[class];
                    let (is_told, counts) = match class {
                        BITWISE => (*seen < 4, true),
                        SEMICOLONS => (*seen == 0, true),
                        // Those that begin a text, not those that end it.
                        BACKTICKS | APOSTROPHES => (*seen % 2 == 0, *seen <= 2),
                        _ => (true, true),
                    };
                    *seen += i32::from(counts);
                    let summary = if class == BITWISE { "Unsupported operator" } else { "Invalid character" };
                    if is_told {
                        self.fault(summary, detail, token.range);
                    }
                }
                _ => {}
            }
        }
    }
}

const BITWISE: usize = 0;
const SEMICOLONS: usize = 1;
const BACKTICKS: usize = 2;
const APOSTROPHES: usize = 3;

/// Of which kind a token is that stands in no HCL, and what is said of it.
fn unused(text: &str) -> (usize, String) {
    let bitwise = |hint: &str| (BITWISE, format!("Bitwise operators are not supported.{hint}"));
    match text {
        "&" => bitwise(" Did you mean boolean AND (\"&&\")?"),
        "|" => bitwise(" Did you mean boolean OR (\"||\")?"),
        "~" => bitwise(" Did you mean boolean NOT (\"!\")?"),
        "^" => bitwise(""),
        ";" => (SEMICOLONS, SEMICOLON.to_owned()),
        "`" => (BACKTICKS, BACKTICK.to_owned()),
        "'" => (APOSTROPHES, APOSTROPHE.to_owned()),
        "\u{201c}" | "\u{201d}" => (4, CURLY.to_owned()),
        _ => (5, "This character is not used within the language.".to_owned()),
    }
}

const MULTI_LINE: &str = "Quoted strings may not be split over multiple lines. To produce a multi-line string, either use the \\n escape to represent a newline character or use the \"heredoc\" multi-line template syntax.";
const SEMICOLON: &str = "The \";\" character is not valid. Use newlines to separate arguments and blocks, and commas to separate items in collection values.";
const BACKTICK: &str =
    "The \"`\" character is not valid. To create a multi-line string, use the \"heredoc\" syntax, like \"<<EOT\".";
const APOSTROPHE: &str = "Single quotes are not valid. Use double quotes (\") to enclose strings.";
const CURLY: &str = "\"Curly quotes\" are not valid here. These can sometimes be inadvertently introduced when sharing code via documents or discussion forums. It might help to replace the character with a \"straight quote\".";

/// What closes what a token opens, and the other way round.
pub(super) fn opposite(kind: Kind) -> Option<Kind> {
    const PAIRS: [(Kind, Kind); 6] = [
        (Kind::OpenBrace, Kind::CloseBrace),
        (Kind::OpenBracket, Kind::CloseBracket),
        (Kind::OpenParenthesis, Kind::CloseParenthesis),
        (Kind::OpenQuote, Kind::CloseQuote),
        (Kind::OpenHeredoc, Kind::CloseHeredoc),
        (Kind::Interpolation, Kind::SequenceEnd),
    ];
    let of_pair = |(open, close): &(Kind, Kind)| match kind {
        kind if kind == *open => Some(*close),
        kind if kind == *close => Some(*open),
        _ => None,
    };
    if kind == Kind::Control { Some(Kind::SequenceEnd) } else { PAIRS.iter().find_map(of_pair) }
}
