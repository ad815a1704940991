//! Walks a parsed template over a value.

use crate::funcs::{self, CallError};
use crate::lex::Number;
use crate::parse::{Branch, Command, List, Node, Operand, OperandKind, Pipe, command_source, pipe_source, source};
use crate::{Options, Template, Value, format};

/// A template that failed while it ran.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("template: {name}:{line}:{column}: executing {quoted} at <{context}>: {message}")]
pub struct ExecError {
    name: Box<str>,
    quoted: Box<str>,
    line: usize,
    column: usize,
    context: Box<str>,
    message: Box<str>,
    partial: Box<str>,
}

impl ExecError {
    /// What had been written before the failure.
    pub fn partial(&self) -> &str {
        &self.partial
    }
}

/// Templates may call each other; Go stops at a depth too.
const MAX_DEPTH: usize = 200;

pub(crate) fn execute(template: &Template, data: &Value, options: Options) -> Result<String, ExecError> {
    let mut state = State {
        template,
        options,
        out: String::new(),
        variables: vec![("$".to_owned(), data.clone())],
        depth: 0,
        running: template.name.clone(),
    };
    match state.list(&template.root, data) {
        Ok(_) => Ok(state.out),
        Err(error) => Err(ExecError { partial: state.out.into(), ..error }),
    }
}

struct State<'a> {
    template: &'a Template,
    options: Options,
    out: String,
    variables: Vec<(String, Value)>,
    depth: usize,
    running: String,
}

/// Whether a loop goes on after a list of nodes.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Result<T, E = ExecError> = std::result::Result<T, E>;

impl<'a> State<'a> {
    fn failure(&self, offset: usize, context: String, message: impl Into<String>) -> ExecError {
        let before = &self.template.text[..offset.min(self.template.text.len())];
        let column = before.rfind('\n').map_or(offset, |at| offset - at - 1);
        ExecError {
            name: self.template.name.as_str().into(),
            quoted: format::quote(&self.running).into(),
            line: 1 + before.matches('\n').count(),
            column,
            context: context.into(),
            message: message.into().into(),
            partial: Box::default(),
        }
    }

    fn at(&self, operand: &Operand, message: impl Into<String>) -> ExecError {
        self.failure(operand.offset, source(operand), message)
    }

    fn list(&mut self, nodes: &'a List, dot: &Value) -> Result<Flow> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Literal(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.print(&value);
                }
            }
            Node::If(branch) => return self.scoped(|state| state.branch(branch, dot, false)),
            Node::With(branch) => return self.scoped(|state| state.branch(branch, dot, true)),
            Node::Range(branch) => return self.scoped(|state| state.range(branch, dot)),
            Node::Template { name, pipe, offset } => self.invoke(name, pipe.as_ref(), *offset, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Drops the variables that a block declared.
    fn scoped<T>(&mut self, block: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mark = self.variables.len();
        let result = block(self);
        self.variables.truncate(mark);
        result
    }

    fn print(&mut self, value: &Value) {
        match value {
            Value::Missing | Value::Nil => self.out.push_str("<no value>"),
            other => self.out.push_str(&format::plain(other)),
        }
    }

    fn branch(&mut self, branch: &'a Branch, dot: &Value, moves_dot: bool) -> Result<Flow> {
        let value = self.pipe(&branch.pipe, dot)?;
        if value.truth() {
            self.list(&branch.body, if moves_dot { &value } else { dot })
        } else {
            self.list(&branch.otherwise, dot)
        }
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Result<Flow> {
        let over = self.pipe_value(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &over {
            Value::Missing | Value::Nil | Value::NilList => Vec::new(),
            Value::List(items) => {
                items.iter().enumerate().map(|(index, item)| (index_value(index), item.clone())).collect()
            }
            Value::Map(map) => {
                map.entries.iter().map(|(key, item)| (Value::text(key.as_str()), item.clone())).collect()
            }
            Value::Int(count) => (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            other => {
                let offset = branch.pipe.commands[0].arguments[0].offset;
                let context = branch.pipe.commands.iter().map(command_source).collect::<Vec<_>>().join(" | ");
                let message = format!("range can't iterate over {}", format::plain(other));
                return Err(self.failure(offset, context, message));
            }
        };
        if items.is_empty() {
            return self.list(&branch.otherwise, dot);
        }
        for (key, item) in items {
            let flow = self.scoped(|state| {
                state.bind_loop(&branch.pipe, &key, &item);
                state.list(&branch.body, &item)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind_loop(&mut self, pipe: &Pipe, key: &Value, item: &Value) {
        let bound: Vec<(&String, &Value)> = match pipe.variables.as_slice() {
            [one] => vec![(one, item)],
            [first, second] => vec![(first, key), (second, item)],
            _ => Vec::new(),
        };
        for (name, value) in bound {
            self.bind(name, value.clone(), pipe.assigns);
        }
    }

    fn bind(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn invoke(&mut self, name: &str, pipe: Option<&'a Pipe>, offset: usize, dot: &Value) -> Result<()> {
        let template = self.template;
        let data_source = pipe.map(|pipe| format!(" {}", pipe_source(pipe))).unwrap_or_default();
        let context = format!("{{{{template {}{data_source}}}}}", format::quote(name));
        let Some(body) = template.defined.get(name) else {
            return Err(self.failure(offset, context, format!("template {} not defined", format::quote(name))));
        };
        if self.depth >= MAX_DEPTH {
            return Err(self.failure(offset, context, format!("exceeded maximum template depth ({MAX_DEPTH})")));
        }
        let data = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        let running = std::mem::replace(&mut self.running, name.to_owned());
        self.depth += 1;
        let result = self.list(body, &data);
        self.depth -= 1;
        self.variables = variables;
        self.running = running;
        result.map(drop)
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            self.bind(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &'a Command, dot: &Value, last: Option<Value>) -> Result<Value> {
        let first = &command.arguments[0];
        let more = &command.arguments[1..];
        match &first.kind {
            OperandKind::Function(name) => return self.call(name, command, dot, last),
            OperandKind::Field(names) => return self.fields(dot.clone(), names, first, Some((more, dot, last))),
            OperandKind::Variable(name, names) => {
                let value = self.variable(name, first)?;
                if !names.is_empty() {
                    return self.fields(value, names, first, Some((more, dot, last)));
                }
                self.no_arguments(first, more, last.as_ref())?;
                return Ok(value);
            }
            OperandKind::Chain(inner, names) => {
                let value = self.operand(inner, dot)?;
                return self.fields(value, names, first, Some((more, dot, last)));
            }
            OperandKind::Nil => return Err(self.at(first, "nil is not a command")),
            _ => {}
        }
        self.no_arguments(first, more, last.as_ref())?;
        self.operand(first, dot)
    }

    fn no_arguments(&self, first: &Operand, more: &[Operand], last: Option<&Value>) -> Result<()> {
        if more.is_empty() && last.is_none() {
            return Ok(());
        }
        Err(self.at(first, format!("can't give argument to non-function {}", source(first))))
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value) -> Result<Value> {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(truth) => Value::Bool(*truth),
            OperandKind::Number(Number::Int(number), _) => Value::Int(*number),
            OperandKind::Number(Number::Float(number), _) => Value::Float(*number),
            OperandKind::Text(text, _) => Value::text(text.as_str()),
            OperandKind::Field(names) => self.fields(dot.clone(), names, operand, None)?,
            OperandKind::Variable(name, names) => {
                let value = self.variable(name, operand)?;
                self.fields(value, names, operand, None)?
            }
            OperandKind::Chain(inner, names) => {
                let value = self.operand(inner, dot)?;
                self.fields(value, names, operand, None)?
            }
            OperandKind::Function(name) => {
                return self.call_with(name, operand, source(operand), &[], Vec::new());
            }
            OperandKind::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn variable(&self, name: &str, operand: &Operand) -> Result<Value> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| self.at(operand, format!("undefined variable: {name}")))
    }

    /// Follows a chain of field names; arguments belong to the last one.
    fn fields(
        &mut self,
        mut value: Value,
        names: &[String],
        operand: &Operand,
        call: Option<(&'a [Operand], &Value, Option<Value>)>,
    ) -> Result<Value> {
        let (arguments, dot, last) = call.unwrap_or((&[], &Value::Nil, None));
        for (index, name) in names.iter().enumerate() {
            value = self.field(&value, name, operand)?;
            let final_name = index + 1 == names.len();
            if matches!(value, Value::Lookup(_) | Value::KeyTitle) {
                let mut keys = Vec::new();
                if final_name {
                    for argument in arguments {
                        keys.push(self.operand(argument, dot)?);
                    }
                    keys.extend(last.clone());
                }
                return self.look_up(&value, name, &keys, operand);
            }
            if final_name && !(arguments.is_empty() && last.is_none()) {
                return Err(self.at(operand, format!("{name} has arguments but cannot be invoked as function")));
            }
        }
        Ok(value)
    }

    fn look_up(&self, method: &Value, name: &str, keys: &[Value], operand: &Operand) -> Result<Value> {
        match (keys, method) {
            ([Value::Text(key)], Value::Lookup(entries)) => {
                return Ok(Value::text(entries.get(&**key).map_or("", String::as_str)));
            }
            ([Value::Text(key)], _) => {
                let last = key.rsplit('.').next().unwrap_or_default();
                return Ok(Value::text(last.replace(['-', '_'], " ")));
            }
            _ => {}
        }
        match keys {
            [other] => {
                Err(self.at(operand, format!("wrong type for value; expected string; got {}", other.type_name())))
            }
            _ => Err(self.at(operand, format!("wrong number of args for {name}: want 1 got {}", keys.len()))),
        }
    }

    fn field(&self, value: &Value, name: &str, operand: &Operand) -> Result<Value> {
        match value {
            Value::Missing if self.options.missing_key_is_error => {
                Err(self.at(operand, format!("nil data; no entry for key {}", format::quote(name))))
            }
            Value::Missing => Ok(Value::Missing),
            Value::Nil => Err(self.at(operand, format!("nil pointer evaluating interface {{}}.{name}"))),
            Value::NilPointer(pointer) => {
                let kind = &pointer.type_name;
                let known = pointer.fields.iter().any(|field| field == name);
                let message = if known {
                    format!("nil pointer evaluating *{kind}.{name}")
                } else {
                    format!("can't evaluate field {name} in type *{kind}")
                };
                Err(self.at(operand, message))
            }
            Value::Map(map) => match map.entries.get(name) {
                Some(entry) => Ok(entry.clone()),
                None if self.options.missing_key_is_error => {
                    Err(self.at(operand, format!("map has no entry for key {}", format::quote(name))))
                }
                None => Ok(Value::Missing),
            },
            Value::Struct(record) => match record.field(name) {
                Some(field) => Ok(field.clone()),
                None => {
                    let star = if record.pointer { "*" } else { "" };
                    let message = format!("can't evaluate field {name} in type {star}{}", record.type_name);
                    Err(self.at(operand, message))
                }
            },
            Value::List(_) | Value::NilList => {
                Err(self.at(operand, format!("can't evaluate field {name} in type interface {{}}")))
            }
            other => Err(self.at(operand, format!("can't evaluate field {name} in type {}", other.type_name()))),
        }
    }

    fn call(&mut self, name: &str, command: &'a Command, dot: &Value, last: Option<Value>) -> Result<Value> {
        let first = &command.arguments[0];
        let more = &command.arguments[1..];
        if name == "and" || name == "or" {
            return self.short_circuit(name == "and", first, more, dot, last);
        }
        let mut arguments = Vec::with_capacity(more.len() + 1);
        for argument in more {
            if let OperandKind::Function(function) = &argument.kind {
                arguments.push(self.call_with(function, argument, source(argument), &[], Vec::new())?);
            } else {
                arguments.push(self.operand(argument, dot)?);
            }
        }
        arguments.extend(last);
        self.call_with(name, first, command_source(command), more, arguments)
    }

    fn call_with(
        &self,
        name: &str,
        first: &Operand,
        context: String,
        more: &[Operand],
        arguments: Vec<Value>,
    ) -> Result<Value> {
        funcs::call(name, &arguments, self.options.functions).map_err(|error| match error {
            CallError::Shape(message) => self.at(first, message),
            CallError::NotFunction(kind) => {
                let what = more.first().map(source).unwrap_or_default();
                let message = format!("error calling {name}: non-function {what} of type {kind}");
                self.failure(first.offset, context, message)
            }
            CallError::Argument(index, message) => match more.get(index) {
                Some(Operand {
                    kind: OperandKind::Number(..) | OperandKind::Bool(_) | OperandKind::Text(..), ..
                }) => {
                    let wanted = message.split("expected ").nth(1).and_then(|rest| rest.split(';').next());
                    let found = source(&more[index]);
                    self.at(&more[index], format!("expected {}; found {found}", wanted.unwrap_or_default()))
                }
                Some(argument) => self.at(argument, message),
                None => self.failure(first.offset, context, message),
            },
            CallError::Failed(message) => {
                self.failure(first.offset, context, format!("error calling {name}: {message}"))
            }
        })
    }

    /// `and` and `or` evaluate no more operands than they need.
    fn short_circuit(
        &mut self,
        and: bool,
        first: &'a Operand,
        more: &'a [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value> {
        let mut value = None;
        for argument in more {
            let current = self.operand(argument, dot)?;
            if current.truth() != and {
                return Ok(current);
            }
            value = Some(current);
        }
        match last.or(value) {
            Some(value) => Ok(value),
            None => {
                let name = if and { "and" } else { "or" };
                Err(self.at(first, format!("wrong number of args for {name}: want at least 1 got 0")))
            }
        }
    }
}

fn index_value(index: usize) -> Value {
    Value::Int(i64::try_from(index).unwrap_or(i64::MAX))
}
