//! Expressions. Each function follows one and returns where it is.

use super::Range;
use super::cursor::Cursor;
use super::scan::{Kind, Token};

/// How tightly operators bind, the least and the most.
const LOOSEST: u8 = 0;
const TIGHTEST: u8 = 5;

/// Expressions within each other, or blocks; what is deeper was written by nobody. Each counts up to twice: as an expression, and as a value.
pub(super) const DEEPEST: usize = 200;

impl<'a> Cursor<'a> {
    pub(super) fn expression(&mut self) -> Range {
        self.deeper(Self::conditional)
    }

    /// Follows something within something else, unless that is too deep.
    fn deeper(&mut self, follow: fn(&mut Self) -> Range) -> Range {
        if self.depth == DEEPEST {
            let range = self.peek().range;
            self.fault("Invalid expression", "Expressions are nested too deeply.", range);
            self.recovering = true;
            self.read();
            return range;
        }
        self.depth += 1;
        let range = follow(self);
        self.depth -= 1;
        range
    }

    fn conditional(&mut self) -> Range {
        let start = self.peek().range;
        let mark = self.mark();
        let condition = self.operation(LOOSEST);
        if self.is_lost_since(mark) || self.peek().kind != Kind::Question {
            return condition;
        }
        self.read();
        let mark = self.mark();
        self.expression();
        if self.is_lost_since(mark) {
            return condition;
        }
        let colon = self.peek();
        if colon.kind != Kind::Colon {
            self.fault(
                "Missing false expression in conditional",
                "The conditional operator (...?...:...) requires a false expression, delimited by a colon.",
                colon.range,
            );
            return condition;
        }
        self.read();
        let mark = self.mark();
        let last = self.expression();
        if self.is_lost_since(mark) { condition } else { start.to(last) }
    }

    /// Values with operators between them that bind as tightly as `level`, or more.
    fn operation(&mut self, level: u8) -> Range {
        if level > TIGHTEST {
            return self.value_and_way();
        }
        let mark = self.mark();
        let mut whole = self.operation(level + 1);
        if self.is_lost_since(mark) {
            return whole;
        }
        while self.peek().kind.binds() == Some(level) {
            self.read();
            let mark = self.mark();
            let right = self.operation(level + 1);
            if self.is_lost_since(mark) {
                return whole;
            }
            whole = whole.to(right);
        }
        whole
    }

    fn value_and_way(&mut self) -> Range {
        self.deeper(|cursor| {
            let value = cursor.value();
            cursor.way(value)
        })
    }

    /// Attributes, indexes and splats behind a value.
    fn way(&mut self, from: Range) -> Range {
        let mut whole = from;
        loop {
            match self.peek().kind {
                Kind::Dot => whole = self.attribute(whole),
                Kind::OpenBracket => whole = self.index(whole),
                _ => return whole,
            }
        }
    }

    fn attribute(&mut self, from: Range) -> Range {
        const SUMMARY: &str = "Invalid attribute name";
        const DETAIL: &str = "An attribute name is required after a dot.";
        self.read();
        let name = self.peek();
        match name.kind {
            Kind::Name => {
                self.read();
                from.to(name.range)
            }
            Kind::Number => {
                self.read();
                if !self.chained(name, name.range, "Use the proper index syntax instead, like") {
                    self.number(name);
                }
                from.to(name.range)
            }
            Kind::Star => self.attributes_of_all(from),
            _ => {
                self.fault(SUMMARY, DETAIL, name.range);
                self.recovering = true;
                from
            }
        }
    }

    /// `.*` and the attributes behind it.
    fn attributes_of_all(&mut self, from: Range) -> Range {
        let star = self.read();
        let mut last = star.range;
        while self.peek().kind == Kind::Dot {
            self.read();
            let name = self.peek();
            match name.kind {
                Kind::Name => {
                    self.read();
                }
                Kind::Number => {
                    self.read();
                    let instead = "Use the proper index syntax with a full splat expression [*] instead, like";
                    if !self.chained(name, star.range, instead) {
                        self.number(name);
                    }
                }
                Kind::Star => {
                    self.fault_unless_recovering(
                        "Nested splat expression not allowed",
                        "A splat expression (*) cannot be used inside another attribute-only splat expression.",
                        name.range,
                    );
                    self.recovering = true;
                    return from;
                }
                _ => {
                    let detail = "An attribute name is required after a dot.";
                    self.fault_unless_recovering("Invalid attribute name", detail, star.range);
                    self.recovering = true;
                    return from;
                }
            }
            last = name.range;
        }
        from.to(last)
    }

    /// Two indexes in one number, which older ways of writing would have.
    fn chained(&mut self, number: Token<'a>, range: Range, instead: &str) -> bool {
        let Some((first, second)) = number.text.split_once('.') else { return false };
        let detail = format!(
            "When using the legacy index syntax, chaining two indexes together is not permitted. {instead} [{first}][{second}]."
        );
        self.fault("Invalid legacy index syntax", detail, range);
        true
    }

    fn index(&mut self, from: Range) -> Range {
        self.read();
        if self.peek().kind == Kind::Star {
            self.read();
            let mut close = self.read();
            if close.kind != Kind::CloseBracket && !self.recovering {
                // Told where the way on begins, as in buildx.
                close = self.skip_past(Kind::CloseBracket);
                self.fault(
                    "Missing close bracket on splat index",
                    "The star for a full splat operator must be immediately followed by a closing bracket (\"]\").",
                    close.range,
                );
            }
            return from.to(self.way(close.range));
        }
        let close = self.counting_newlines(false, |cursor| {
            let mark = cursor.mark();
            cursor.expression();
            if cursor.is_lost_since(mark) {
                return cursor.skip_past(Kind::CloseBracket);
            }
            let close = cursor.read();
            if close.kind == Kind::CloseBracket || cursor.recovering {
                return close;
            }
            let close = cursor.skip_past(Kind::CloseBracket);
            cursor.fault(
                "Missing close bracket on index",
                "The index operator must end with a closing bracket (\"]\").",
                close.range,
            );
            close
        });
        from.to(close.range)
    }

    fn value(&mut self) -> Range {
        let start = self.peek();
        match start.kind {
            Kind::OpenParenthesis => self.parenthesis(),
            Kind::Number => {
                self.read();
                self.number(start);
                start.range
            }
            Kind::Name => {
                self.read();
                match self.peek().kind {
                    Kind::OpenParenthesis | Kind::DoubleColon => self.call(start),
                    _ => start.range,
                }
            }
            Kind::OpenQuote => {
                self.read();
                self.template(Kind::CloseQuote);
                start.range.to(self.before())
            }
            Kind::OpenHeredoc => {
                self.read();
                self.template(Kind::CloseHeredoc);
                start.range.to(self.before())
            }
            Kind::Minus | Kind::Bang => {
                self.read();
                start.range.to(self.value_and_way())
            }
            Kind::OpenBracket => self.tuple(),
            Kind::OpenBrace => self.object(),
            kind => {
                let (summary, detail) = match kind {
                    Kind::End => {
                        ("Missing expression", "Expected the start of an expression, but found the end of the file.")
                    }
                    _ => (
                        "Invalid expression",
                        "Expected the start of an expression, but found an invalid expression token.",
                    ),
                };
                self.fault_unless_recovering(summary, detail, start.range);
                self.recovering = true;
                start.range
            }
        }
    }

    fn parenthesis(&mut self) -> Range {
        let open = self.read();
        self.counting_newlines(false, |cursor| {
            let mark = cursor.mark();
            let inner = cursor.expression();
            if cursor.has_failed_since(mark) {
                cursor.skip_past(Kind::CloseParenthesis);
                return inner;
            }
            let close = cursor.peek();
            if close.kind != Kind::CloseParenthesis {
                cursor.fault(
                    "Unbalanced parentheses",
                    "Expected a closing parenthesis to terminate the expression.",
                    close.range,
                );
                cursor.recovering = true;
            }
            open.range.to(cursor.read().range)
        })
    }

    fn number(&mut self, number: Token<'a>) {
        let exponent = number.text.split_once(['e', 'E']).map(|(_, exponent)| exponent.parse::<i32>());
        if number.text.parse::<f64>().is_err() || matches!(exponent, Some(Err(_))) {
            let detail = "Failed to recognize the value of this number literal.";
            self.fault("Invalid number literal", detail, number.range);
        }
    }

    fn call(&mut self, name: Token<'a>) -> Range {
        let mut open = self.read();
        while open.kind == Kind::DoubleColon {
            let next = self.read();
            if next.kind != Kind::Name {
                let detail = "Function scope resolution symbol :: must be followed by a function name in this scope.";
                self.fault("Missing function name", detail, next.range);
                self.skip_over(Kind::OpenParenthesis);
                return name.range.to(next.range);
            }
            open = self.read();
        }
        if open.kind != Kind::OpenParenthesis {
            let detail = "Function selector must be followed by an open parenthesis to begin the function call.";
            self.fault("Missing open parenthesis", detail, open.range);
            self.skip_over(Kind::OpenParenthesis);
            return name.range.to(open.range);
        }
        let close = self.counting_newlines(false, |cursor| cursor.arguments(name, open));
        name.range.to(close.range)
    }

    /// Arguments up to the parenthesis that closes them, which is returned.
    fn arguments(&mut self, name: Token<'a>, open: Token<'a>) -> Token<'a> {
        loop {
            if self.peek().kind == Kind::CloseParenthesis {
                return self.read();
            }
            let mark = self.mark();
            self.expression();
            if self.is_lost_since(mark) {
                return self.skip_past(Kind::CloseParenthesis);
            }
            let separator = self.read();
            match separator.kind {
                Kind::CloseParenthesis => return separator,
                Kind::Comma => {}
                Kind::Ellipsis if self.peek().kind == Kind::CloseParenthesis => return self.read(),
                Kind::Ellipsis => {
                    self.fault_unless_recovering(
                        "Missing closing parenthesis",
                        "An expanded function argument (with ...) must be immediately followed by closing parentheses.",
                        separator.range,
                    );
                    return self.skip_past(Kind::CloseParenthesis);
                }
                kind => {
                    match kind {
                        Kind::End => self.fault(
                            "Unterminated function call",
                            "There is no closing parenthesis for this function call before the end of the file. This may be caused by incorrect parenthesis nesting elsewhere in this file.",
                            name.range.to(open.range),
                        ),
                        _ => self.fault(
                            "Missing argument separator",
                            "A comma is required to separate each function argument from the next.",
                            separator.range,
                        ),
                    }
                    return self.skip_past(Kind::CloseParenthesis);
                }
            }
        }
    }

    fn tuple(&mut self) -> Range {
        let open = self.read();
        self.counting_newlines(false, |cursor| match is_word(cursor.peek(), "for") {
            true => cursor.for_each(open),
            false => open.range.to(cursor.items(open).range),
        })
    }

    /// Items up to the bracket that closes them, which is returned.
    fn items(&mut self, open: Token<'a>) -> Token<'a> {
        loop {
            if self.peek().kind == Kind::CloseBracket {
                return self.read();
            }
            let mark = self.mark();
            self.expression();
            if self.is_lost_since(mark) {
                return self.skip_past(Kind::CloseBracket);
            }
            let next = self.peek();
            match next.kind {
                Kind::CloseBracket => return self.read(),
                Kind::Comma => {
                    self.read();
                }
                Kind::End => {
                    self.fault_unless_recovering(
                        "Unterminated tuple constructor expression",
                        "There is no corresponding closing bracket before the end of the file. This may be caused by incorrect bracket nesting elsewhere in this file.",
                        open.range,
                    );
                    return self.skip_past(Kind::CloseBracket);
                }
                _ => {
                    let detail = "Expected a comma to mark the beginning of the next item.";
                    self.fault_unless_recovering("Missing item separator", detail, next.range);
                    return self.skip_past(Kind::CloseBracket);
                }
            }
        }
    }

    fn object(&mut self) -> Range {
        let open = self.read();
        if self.counting_newlines(false, |cursor| is_word(cursor.peek(), "for")) {
            return self.for_each(open);
        }
        let close = self.counting_newlines(true, |cursor| cursor.pairs(open));
        open.range.to(close.range)
    }

    /// Keys and values up to the brace that closes them, which is returned.
    fn pairs(&mut self, open: Token<'a>) -> Token<'a> {
        const UNTERMINATED: &str = "There is no corresponding closing brace before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.";
        loop {
            match self.peek().kind {
                Kind::Newline => {
                    self.read();
                    continue;
                }
                Kind::CloseBrace => return self.read(),
                _ => {}
            }
            let mark = self.mark();
            self.expression();
            if self.is_lost_since(mark) {
                return self.skip_past(Kind::CloseBrace);
            }
            let next = self.peek();
            if !matches!(next.kind, Kind::Equal | Kind::Colon) {
                let (summary, detail, range) = match next.kind {
                    Kind::Newline | Kind::Comma => (
                        "Missing attribute value",
                        "Expected an attribute value, introduced by an equals sign (\"=\").",
                        next.range,
                    ),
                    Kind::Name => (
                        "Missing key/value separator",
                        "Expected an equals sign (\"=\") to mark the beginning of the attribute value. If you intended to given an attribute name containing periods or spaces, write the name in quotes to create a string literal.",
                        next.range,
                    ),
                    Kind::End => ("Unterminated object constructor expression", UNTERMINATED, open.range),
                    _ => (
                        "Missing key/value separator",
                        "Expected an equals sign (\"=\") to mark the beginning of the attribute value.",
                        next.range,
                    ),
                };
                self.fault_unless_recovering(summary, detail, range);
                return self.skip_past(Kind::CloseBrace);
            }
            self.read();
            let mark = self.mark();
            self.expression();
            if self.is_lost_since(mark) {
                return self.skip_past(Kind::CloseBrace);
            }
            let next = self.peek();
            match next.kind {
                Kind::CloseBrace => return self.read(),
                Kind::Comma | Kind::Newline => {
                    self.read();
                }
                kind => {
                    let (summary, detail, range) = match kind {
                        Kind::End => ("Unterminated object constructor expression", UNTERMINATED, open.range),
                        _ => (
                            "Missing attribute separator",
                            "Expected a newline or comma to mark the beginning of the next attribute.",
                            next.range,
                        ),
                    };
                    self.fault_unless_recovering(summary, detail, range);
                    return self.skip_past(Kind::CloseBrace);
                }
            }
        }
    }

    fn for_each(&mut self, open: Token<'a>) -> Range {
        let close = self.counting_newlines(false, |cursor| cursor.rest_of_for(open));
        open.range.to(close)
    }

    /// Behind the bracket of a `for`; returns what closes it.
    fn rest_of_for(&mut self, open: Token<'a>) -> Range {
        const SUMMARY: &str = "Invalid 'for' expression";
        self.read();
        let makes_object = open.kind == Kind::OpenBrace;
        let closing = if makes_object { Kind::CloseBrace } else { Kind::CloseBracket };
        let wrong = |cursor: &mut Self, detail: &str| {
            let range = cursor.peek().range;
            cursor.fault_unless_recovering(SUMMARY, detail, range);
            cursor.skip_past(closing).range
        };
        if self.peek().kind != Kind::Name {
            return wrong(self, "For expression requires variable name after 'for'.");
        }
        self.read();
        if self.peek().kind == Kind::Comma {
            self.read();
            if self.peek().kind != Kind::Name {
                return wrong(self, "For expression requires value variable name after comma.");
            }
            self.read();
        }
        if !is_word(self.peek(), "in") {
            return wrong(self, "For expression requires the 'in' keyword after its name declarations.");
        }
        self.read();
        let mark = self.mark();
        self.expression();
        if self.is_lost_since(mark) {
            return self.skip_past(closing).range;
        }
        if self.peek().kind != Kind::Colon {
            return wrong(self, "For expression requires a colon after the collection expression.");
        }
        self.read();
        let mark = self.mark();
        let (mut key, mut value) = (None, self.expression());
        if self.peek().kind == Kind::FatArrow {
            self.read();
            (key, value) = (Some(value), self.expression());
        }
        if self.is_lost_since(mark) {
            return self.skip_past(closing).range;
        }
        let groups = (self.peek().kind == Kind::Ellipsis).then(|| self.read().range);
        if is_word(self.peek(), "if") {
            self.read();
            let mark = self.mark();
            self.expression();
            if self.is_lost_since(mark) {
                return self.skip_past(closing).range;
            }
        }
        let close = match self.peek().kind {
            kind if kind == closing => self.read().range,
            _ => wrong(self, "Extra characters after the end of the 'for' expression."),
        };
        match (makes_object, key) {
            (false, Some(key)) => self.fault(SUMMARY, "Key expression is not valid when building a tuple.", key),
            (true, None) => self.fault(SUMMARY, "Key expression is required when building an object.", value),
            _ => {}
        }
        if let Some(range) = groups.filter(|_| !makes_object) {
            self.fault(SUMMARY, "Grouping ellipsis (...) cannot be used when building a tuple.", range);
        }
        close
    }
}

pub(super) fn is_word(token: Token<'_>, word: &str) -> bool {
    token.kind == Kind::Name && token.text == word
}
