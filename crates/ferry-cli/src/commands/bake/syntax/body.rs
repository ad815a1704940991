//! Bodies: arguments and blocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::file::KINDS;
use super::Range;
use super::cursor::{Cursor, Header};
use super::expression::DEEPEST;
use super::scan::{Kind, Token};
use crate::flags::go_quote;

const REQUIRED: &str = "Argument or block definition required";
const REQUIRED_HERE: &str = "An argument or block definition is required here.";
const REQUIRED_WITH_HINT: &str = "An argument or block definition is required here. To set an argument, use the equals sign \"=\" to introduce the argument value.";
const UNCLOSED_BLOCK: &str = "There is no closing brace for this block before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.";

impl<'a> Cursor<'a> {
    /// The whole file.
    pub(super) fn file(&mut self) {
        self.body(Kind::End);
    }

    /// Looks whether each block that has a meaning has its one label.
    pub(super) fn labels(&mut self) {
        let (inputs, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.headers)
            .into_iter()
            .filter(|header| KINDS.contains(&header.kind))
            .partition(|header| matches!(header.kind, "variable" | "function"));
        let mark = self.mark();
        self.labels_of(inputs);
        if !self.has_failed_since(mark) {
            self.labels_of(others);
        }
    }

    fn labels_of(&mut self, headers: Vec<Header<'_>>) {
        for Header { kind, labels, open } in headers {
            if let Some(second) = labels.get(1) {
                let detail = format!("Only 1 labels (name) are expected for {kind} blocks.");
                self.fault(format!("Extraneous label for {kind}"), detail, *second);
            } else if labels.is_empty() {
                let detail = format!("All {kind} blocks must have 1 labels (name).");
                self.fault(format!("Missing name for {kind}"), detail, open);
            }
        }
    }

    /// Everything up to `end`.
    fn body(&mut self, end: Kind) {
        let start = self.before();
        let mut known: HashMap<&str, Range> = HashMap::new();
        loop {
            let next = self.peek();
            match next.kind {
                kind if kind == end => {
                    self.read();
                    return;
                }
                Kind::Newline => {
                    self.read();
                }
                Kind::Name => {
                    let Some((name, range)) = self.item() else { continue };
                    match known.entry(name) {
                        Entry::Occupied(earlier) => {
                            let place = format!("{}:{}", self.name, earlier.get());
                            let detail = format!(
                                "The argument {} was already set at {place}. Each argument may be set only once.",
                                go_quote(name)
                            );
                            self.fault("Attribute redefined", detail, range);
                        }
                        Entry::Vacant(place) => {
                            place.insert(range);
                        }
                    }
                }
                _ => {
                    let bad = self.read();
                    match bad.kind {
                        _ if self.recovering => {}
                        Kind::OpenQuote => {
                            self.fault("Invalid argument name", "Argument names must not be quoted.", bad.range);
                        }
                        Kind::End => self.fault("Unclosed configuration block", UNCLOSED_BLOCK, start),
                        _ => self.fault(REQUIRED, REQUIRED_HERE, bad.range),
                    }
                    self.skip_past(end);
                    return;
                }
            }
        }
    }

    /// An argument, whose name is returned, or a block.
    fn item(&mut self) -> Option<(&'a str, Range)> {
        let name = self.read();
        match self.peek().kind {
            Kind::Equal => {
                self.argument(false);
                Some((name.text, name.range))
            }
            Kind::OpenQuote | Kind::OpenBrace | Kind::Name => {
                self.block(name);
                None
            }
            _ => {
                self.skip_item();
                self.fault(REQUIRED, REQUIRED_WITH_HINT, name.range);
                None
            }
        }
    }

    /// The rest of an argument.
    fn argument(&mut self, in_one_line: bool) {
        self.read();
        let mark = self.mark();
        self.expression();
        if self.is_lost_since(mark) {
            self.skip_item();
            return;
        }
        if in_one_line {
            return;
        }
        let end = self.peek();
        if matches!(end.kind, Kind::Newline | Kind::End) {
            self.read();
            return;
        }
        match end.kind {
            Kind::Comma => self.fault_unless_recovering(
                "Unexpected comma after argument",
                "Argument definitions must be separated by newlines, not commas. An argument definition must end with a newline.",
                end.range,
            ),
            _ => self.fault_unless_recovering(
                "Missing newline after argument",
                "An argument definition must end with a newline.",
                end.range,
            ),
        }
        self.skip_item();
    }

    /// The rest of a block: labels, and what is between its braces.
    fn block(&mut self, kind: Token<'a>) {
        let mut labels = Vec::new();
        let open = loop {
            let token = self.peek();
            match token.kind {
                Kind::OpenBrace => break self.read(),
                Kind::OpenQuote => {
                    self.label();
                    labels.push(token.range.to(self.before()));
                }
                Kind::Name => labels.push(self.read().range),
                kind => {
                    const SUMMARY: &str = "Invalid block definition";
                    match kind {
                        Kind::Equal => self.fault(
                            SUMMARY,
                            "The equals sign \"=\" indicates an argument definition, and must not be used when defining a block.",
                            token.range,
                        ),
                        Kind::Newline => self.fault(
                            SUMMARY,
                            "A block definition must have block content delimited by \"{\" and \"}\", starting on the same line as the block header.",
                            token.range,
                        ),
                        _ => self.fault_unless_recovering(
                            SUMMARY,
                            "Either a quoted string block label or an opening brace (\"{\") is expected here.",
                            token.range,
                        ),
                    }
                    self.skip_item();
                    return;
                }
            }
        };
        if self.blocks == 0 {
            self.headers.push(Header { kind: kind.text, labels, open: open.range });
        }
        self.blocks += 1;
        match self.peek().kind {
            _ if self.blocks > DEEPEST => {
                self.fault("Invalid block definition", "Blocks are nested too deeply.", open.range);
                self.skip_past(Kind::CloseBrace);
            }
            Kind::Newline | Kind::End | Kind::CloseBrace => self.body(Kind::CloseBrace),
            _ => self.one_line(open),
        }
        self.blocks -= 1;
        let end = self.peek();
        if matches!(end.kind, Kind::Newline | Kind::End) {
            self.read();
            return;
        }
        self.fault_unless_recovering(
            "Missing newline after block definition",
            "A block definition must end with a newline.",
            end.range,
        );
        self.skip_item();
    }

    /// What is between the braces of a block in one line.
    fn one_line(&mut self, open: Token<'a>) {
        const SUMMARY: &str = "Invalid single-argument block definition";
        let mark = self.mark();
        self.single_argument();
        let of_argument = self.set_aside(mark);
        let end = self.peek();
        match end.kind {
            Kind::CloseBrace => {
                self.read();
            }
            Kind::Comma => self.fault(
                SUMMARY,
                "Single-line block syntax can include only one argument definition. To define multiple arguments, use the multi-line block syntax with one argument definition per line.",
                end.range,
            ),
            Kind::Newline => self.fault(
                SUMMARY,
                "An argument definition on the same line as its containing block creates a single-line block definition, which must also be closed on the same line. Place the block's closing brace immediately after the argument definition.",
                end.range,
            ),
            Kind::End => self.fault_unless_recovering("Unclosed configuration block", UNCLOSED_BLOCK, open.range),
            _ => self.fault_unless_recovering(
                SUMMARY,
                "A single-line block definition must end with a closing brace immediately after its single argument definition.",
                end.range,
            ),
        }
        if end.kind != Kind::CloseBrace {
            self.skip_past(Kind::CloseBrace);
        }
        self.put_back(of_argument);
    }

    fn single_argument(&mut self) {
        let name = self.read();
        if name.kind != Kind::Name {
            self.skip_item();
            self.fault(REQUIRED, REQUIRED_HERE, name.range);
            return;
        }
        let next = self.peek();
        match next.kind {
            Kind::Equal => self.argument(true),
            Kind::OpenQuote | Kind::OpenBrace | Kind::Name => {
                self.skip_item();
                let detail = format!(
                    "A single-line block definition can contain only a single argument. If you meant to define argument {}, use an equals sign to assign it a value. To define a nested block, place it on a line of its own within its parent block.",
                    go_quote(name.text)
                );
                self.fault("Argument definition required", detail, name.range.to(next.range));
            }
            _ => {
                self.skip_item();
                self.fault(REQUIRED, REQUIRED_WITH_HINT, name.range);
            }
        }
    }

    /// A label in quotes.
    fn label(&mut self) {
        const SUMMARY: &str = "Invalid string literal";
        self.read();
        loop {
            let token = self.read();
            match token.kind {
                Kind::CloseQuote => return,
                Kind::QuotedText => self.escapes(token),
                Kind::Interpolation | Kind::Control => {
                    let which = if token.kind == Kind::Control { "%" } else { "$" };
                    let detail = format!(
                        "Template sequences are not allowed in this string. To include a literal \"{which}\", double it (as \"{which}{which}\") to escape it."
                    );
                    self.fault(SUMMARY, detail, token.range);
                    self.skip_past(Kind::SequenceEnd);
                }
                Kind::End => {
                    self.fault(
                        "Unterminated string literal",
                        "Unable to find the closing quote mark before the end of the file.",
                        token.range,
                    );
                    return;
                }
                _ => {
                    self.fault(SUMMARY, "This item is not valid in a string literal.", token.range);
                    self.skip_past(Kind::CloseQuote);
                    return;
                }
            }
        }
    }
}
