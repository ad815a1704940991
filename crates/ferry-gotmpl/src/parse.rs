//! Builds the tree of a template from its tokens.

use std::collections::HashMap;

use crate::lex::{Kind, Number, Token, lex, parse_number};

/// A template text that is not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("template: {name}:{line}: {message}")]
pub struct ParseError {
    name: String,
    line: usize,
    message: String,
}

/// A sequence of nodes.
pub(crate) type List = Vec<Node>;

#[derive(Debug)]
pub(crate) enum Node {
    Literal(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { name: String, pipe: Option<Pipe>, offset: usize },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) body: List,
    pub(crate) otherwise: List,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) variables: Vec<String>,
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) kind: OperandKind,
    pub(crate) offset: usize,
}

#[derive(Debug)]
pub(crate) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number, String),
    Text(String, String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Chain(Box<Operand>, Vec<String>),
    Pipe(Pipe),
}

pub(crate) struct Parsed {
    pub(crate) root: List,
    pub(crate) defined: HashMap<String, List>,
}

pub(crate) fn parse(name: &str, text: &str) -> Result<Parsed, ParseError> {
    let mut parser = Parser {
        name,
        text,
        tokens: lex(text),
        at: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        defined: HashMap::new(),
    };
    let mut root = Vec::new();
    match parser.list(&mut root, true)? {
        Stop::End => {}
        Stop::Keyword("end") => return Err(parser.failure("unexpected {{end}}")),
        Stop::Keyword(_) => return Err(parser.failure("unexpected {{else}}")),
    }
    Ok(Parsed { root, defined: parser.defined })
}

enum Stop {
    End,
    Keyword(&'static str),
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    loops: usize,
    defined: HashMap<String, List>,
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

impl Parser<'_> {
    fn failure(&self, message: impl Into<String>) -> ParseError {
        let offset = self.tokens.get(self.at.saturating_sub(1)).map_or(0, |token| token.offset).min(self.text.len());
        let line = 1 + self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        ParseError { name: self.name.to_owned(), line, message: message.into() }
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at.min(self.tokens.len() - 1)].clone();
        self.at += 1;
        token
    }

    fn peek(&self) -> &Kind {
        &self.tokens[self.at.min(self.tokens.len() - 1)].kind
    }

    fn peek_offset(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].offset
    }

    fn skip_space(&mut self) {
        while *self.peek() == Kind::Space {
            self.at += 1;
        }
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn unexpected(&self, token: &Token, context: &str) -> ParseError {
        if let Kind::Failure(message) = &token.kind {
            return self.failure(message.clone());
        }
        self.failure(format!("unexpected {} in {context}", describe(&token.kind)))
    }

    /// Reads nodes until the end of the text or a word that ends the list (`else`, `end`), which is eaten.
    fn list(&mut self, nodes: &mut List, top: bool) -> Result<Stop> {
        loop {
            let token = self.next();
            match token.kind {
                Kind::Literal(text) => nodes.push(Node::Literal(text)),
                Kind::Open => {
                    if let Some(stop) = self.action(nodes, top)? {
                        return Ok(stop);
                    }
                }
                Kind::End if top => return Ok(Stop::End),
                Kind::End => return Err(self.failure("unexpected EOF")),
                _ => return Err(self.unexpected(&token, "input")),
            }
        }
    }

    fn action(&mut self, nodes: &mut List, top: bool) -> Result<Option<Stop>> {
        let token = self.next_non_space();
        let Kind::Keyword(word) = token.kind else {
            self.at -= 1;
            nodes.push(Node::Action(self.pipeline("command", Kind::Close)?));
            return Ok(None);
        };
        match word {
            "if" | "with" | "range" => nodes.push(self.branch(word)?),
            "template" => nodes.push(self.invocation()?),
            "block" => nodes.push(self.block()?),
            "define" if top => self.definition()?,
            "define" => return Err(self.failure("unexpected {{define}}")),
            "break" | "continue" => {
                self.close(word)?;
                if self.loops == 0 {
                    return Err(self.failure(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            "end" => {
                self.close("end")?;
                return Ok(Some(Stop::Keyword("end")));
            }
            // `else` is closed by the branch, which looks for `else if` and `else with`.
            _ => return Ok(Some(Stop::Keyword("else"))),
        }
        Ok(None)
    }

    fn close(&mut self, context: &str) -> Result<()> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Close => Ok(()),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    fn branch(&mut self, word: &'static str) -> Result<Node> {
        let depth = self.variables.len();
        let pipe = self.pipeline(word, Kind::Close)?;
        let mut branch = Branch { pipe, body: Vec::new(), otherwise: Vec::new() };
        self.loops += usize::from(word == "range");
        let stop = self.list(&mut branch.body, false);
        self.loops -= usize::from(word == "range");
        if matches!(stop?, Stop::Keyword("else")) {
            self.otherwise(word, &mut branch)?;
        }
        self.variables.truncate(depth);
        Ok(match word {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    fn otherwise(&mut self, word: &'static str, branch: &mut Branch) -> Result<()> {
        self.skip_space();
        match self.peek() {
            Kind::Keyword(chained @ ("if" | "with")) if *chained == word => {
                let chained = *chained;
                self.at += 1;
                let node = self.branch(chained)?;
                branch.otherwise.push(node);
                Ok(())
            }
            _ => {
                self.close("else")?;
                match self.list(&mut branch.otherwise, false)? {
                    Stop::Keyword("end") => Ok(()),
                    _ => Err(self.failure("expected end; found {{else}}")),
                }
            }
        }
    }

    fn name_token(&mut self, context: &str) -> Result<(String, usize)> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text(name, _) => Ok((name, token.offset)),
            _ => Err(self.unexpected(&token, context)),
        }
    }

    fn invocation(&mut self) -> Result<Node> {
        let (name, offset) = self.name_token("template clause")?;
        self.skip_space();
        let pipe = if *self.peek() == Kind::Close {
            self.at += 1;
            None
        } else {
            Some(self.pipeline("template clause", Kind::Close)?)
        };
        Ok(Node::Template { name, pipe, offset })
    }

    fn block(&mut self) -> Result<Node> {
        let (name, offset) = self.name_token("block clause")?;
        let pipe = self.pipeline("block clause", Kind::Close)?;
        self.body_of(name.clone())?;
        Ok(Node::Template { name, pipe: Some(pipe), offset })
    }

    fn definition(&mut self) -> Result<()> {
        let (name, _) = self.name_token("define clause")?;
        self.close("define clause")?;
        self.body_of(name)
    }

    /// A named body has its own variables and loops.
    fn body_of(&mut self, name: String) -> Result<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let mut body = Vec::new();
        let stop = self.list(&mut body, false)?;
        self.variables = variables;
        self.loops = loops;
        if !matches!(stop, Stop::Keyword("end")) {
            return Err(self.failure("unexpected {{else}} in define clause"));
        }
        self.defined.insert(name, body);
        Ok(())
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe> {
        let mut pipe = Pipe::default();
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_non_space();
            if token.kind == end {
                self.check(&pipe, context)?;
                return Ok(pipe);
            }
            match token.kind {
                Kind::Bool(_)
                | Kind::Number(_)
                | Kind::Dot
                | Kind::Field(_)
                | Kind::Identifier(_)
                | Kind::Nil
                | Kind::Text(..)
                | Kind::Variable(_)
                | Kind::LeftParen => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<()> {
        loop {
            self.skip_space();
            let start = self.at;
            let Kind::Variable(name) = self.peek().clone() else { return Ok(()) };
            self.at += 1;
            self.skip_space();
            match self.peek() {
                Kind::Declare | Kind::Assign => {
                    pipe.assigns = *self.peek() == Kind::Assign;
                    self.at += 1;
                    if pipe.assigns {
                        self.known(&name)?;
                    }
                    pipe.variables.push(name.clone());
                    if !pipe.assigns {
                        self.variables.extend(pipe.variables.iter().cloned());
                    }
                    return Ok(());
                }
                Kind::Comma if context == "range" && pipe.variables.is_empty() => {
                    self.at += 1;
                    pipe.variables.push(name);
                }
                Kind::Comma => return Err(self.failure(format!("too many declarations in {context}"))),
                _ if pipe.variables.is_empty() => {
                    self.at = start;
                    return Ok(());
                }
                _ => return Err(self.failure("range can only initialize variables")),
            }
        }
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<()> {
        if pipe.commands.is_empty() {
            return Err(self.failure(format!("missing value for {context}")));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            let first = &command.arguments[0].kind;
            if matches!(
                first,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number(..)
                    | OperandKind::Text(..)
            ) {
                return Err(self.failure(format!("non executable command in pipeline stage {}", index + 1)));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let mut arguments = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                arguments.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {}
                _ => return Err(self.unexpected(&token, "operand")),
            }
            break;
        }
        if arguments.is_empty() {
            return Err(self.failure("empty command"));
        }
        Ok(Command { arguments })
    }

    fn operand(&mut self) -> Result<Option<Operand>> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        if !matches!(self.peek(), Kind::Field(_)) {
            return Ok(Some(operand));
        }
        let offset = self.peek_offset();
        let mut names = Vec::new();
        while let Kind::Field(name) = self.peek().clone() {
            self.at += 1;
            names.push(name);
        }
        operand = match operand.kind {
            OperandKind::Field(mut first) => {
                first.extend(names);
                Operand { kind: OperandKind::Field(first), offset }
            }
            OperandKind::Variable(name, mut fields) => {
                fields.extend(names);
                Operand { kind: OperandKind::Variable(name, fields), offset }
            }
            OperandKind::Bool(_)
            | OperandKind::Text(..)
            | OperandKind::Number(..)
            | OperandKind::Nil
            | OperandKind::Dot => {
                return Err(self.failure(format!("unexpected . after term {}", crate::quote(&source(&operand)))));
            }
            kind => {
                Operand { kind: OperandKind::Chain(Box::new(Operand { kind, offset: operand.offset }), names), offset }
            }
        };
        Ok(Some(operand))
    }

    fn term(&mut self) -> Result<Option<Operand>> {
        let token = self.next_non_space();
        let kind = match token.kind.clone() {
            Kind::Identifier(name) => {
                if !crate::funcs::exists(&name) {
                    return Err(self.failure(format!("function {} not defined", crate::quote(&name))));
                }
                OperandKind::Function(name)
            }
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Variable(name) => {
                self.known(&name)?;
                OperandKind::Variable(name, Vec::new())
            }
            Kind::Field(name) => OperandKind::Field(vec![name]),
            Kind::Bool(truth) => OperandKind::Bool(truth),
            Kind::Number(text) => match parse_number(&text) {
                Some(number) => OperandKind::Number(number, text),
                None => return Err(self.failure(format!("malformed character constant: {text}"))),
            },
            Kind::Text(value, source) => OperandKind::Text(value, source),
            Kind::LeftParen => OperandKind::Pipe(self.pipeline("parenthesized pipeline", Kind::RightParen)?),
            Kind::Failure(message) => return Err(self.failure(message)),
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { kind, offset: token.offset }))
    }

    fn known(&self, name: &str) -> Result<()> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(self.failure(format!("undefined variable {}", crate::quote(name))))
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::End => "EOF".to_owned(),
        Kind::Keyword(word) => format!("<{word}>"),
        Kind::Failure(message) => message.clone(),
        other => {
            let text = token_source(other);
            if text.chars().count() > 10 {
                let short: String = text.chars().take(10).collect();
                return format!("{}...", crate::quote(&short));
            }
            crate::quote(&text)
        }
    }
}

fn token_source(kind: &Kind) -> String {
    match kind {
        Kind::Literal(text) | Kind::Identifier(text) | Kind::Variable(text) | Kind::Number(text) => text.clone(),
        Kind::Field(name) => format!(".{name}"),
        Kind::Text(_, source) => source.clone(),
        Kind::Bool(truth) => truth.to_string(),
        Kind::Keyword(word) => (*word).to_owned(),
        Kind::Open => "{{".to_owned(),
        Kind::Close => "}}".to_owned(),
        Kind::Space => " ".to_owned(),
        Kind::Dot => ".".to_owned(),
        Kind::Nil => "nil".to_owned(),
        Kind::Pipe => "|".to_owned(),
        Kind::Comma => ",".to_owned(),
        Kind::LeftParen => "(".to_owned(),
        Kind::RightParen => ")".to_owned(),
        Kind::Declare => ":=".to_owned(),
        Kind::Assign => "=".to_owned(),
        Kind::End | Kind::Failure(_) => String::new(),
    }
}

/// Writes an operand as Go shows it in error texts.
pub(crate) fn source(operand: &Operand) -> String {
    let chained = |fields: &[String]| fields.iter().map(|field| format!(".{field}")).collect::<String>();
    match &operand.kind {
        OperandKind::Dot => ".".to_owned(),
        OperandKind::Nil => "nil".to_owned(),
        OperandKind::Bool(truth) => truth.to_string(),
        OperandKind::Number(_, text) => text.clone(),
        OperandKind::Text(_, source) => source.clone(),
        OperandKind::Field(fields) => chained(fields),
        OperandKind::Variable(name, fields) => format!("{name}{}", chained(fields)),
        OperandKind::Function(name) => name.clone(),
        OperandKind::Chain(inner, fields) => match inner.kind {
            OperandKind::Pipe(_) => format!("{}{}", source(inner), chained(fields)),
            _ => format!("{}{}", source(inner), chained(fields)),
        },
        OperandKind::Pipe(pipe) => format!("({})", pipe_source(pipe)),
    }
}

/// Writes a command as Go shows it in error texts.
pub(crate) fn command_source(command: &Command) -> String {
    command.arguments.iter().map(source).collect::<Vec<_>>().join(" ")
}

pub(crate) fn pipe_source(pipe: &Pipe) -> String {
    let commands = pipe.commands.iter().map(command_source).collect::<Vec<_>>().join(" | ");
    if pipe.variables.is_empty() {
        return commands;
    }
    format!("{} {} {commands}", pipe.variables.join(", "), if pipe.assigns { "=" } else { ":=" })
}
