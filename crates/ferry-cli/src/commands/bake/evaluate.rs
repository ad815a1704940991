//! Values of expressions: HCL's language over JSON values.
//!
//! The parser is `hcl-rs`'s; evaluation is here, since bake's variables are looked up when they are needed and its files define functions.
//! Pure, but for what functions of the library ask the host (`functions.rs`).

use std::cell::Cell;

use hcl::Expression;
use hcl::expr::{
    BinaryOperator, ForExpr, Heredoc, HeredocStripMode, ObjectKey, Operation, TemplateExpr, Traversal,
    TraversalOperator, UnaryOperator,
};
use hcl::template::{Directive, Element, Strip, Template};
use serde_json::{Map, Value};

use super::functions;

/// Values within values end here, those counted that references and calls lead to: each takes its part of the stack.
const MAX_DEPTH: usize = 400;

/// What names stand for.
pub(super) trait Names {
    /// The value of a variable; `None` when there is none.
    fn variable(&self, name: &str, depth: usize) -> Result<Option<Value>, String>;

    /// An attribute of another block, as `target.NAME.ATTRIBUTE` names it.
    fn attribute(&self, kind: &str, name: &str, attribute: &str, depth: usize) -> Result<Option<Value>, String>;

    /// A function of the file's: its parameters, the one that takes all others, and its result.
    fn function(&self, name: &str) -> Option<&Function>;
}

/// A function that a file defines.
#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) parameters: Vec<String>,
    pub(super) variadic: Option<String>,
    pub(super) result: Expression,
}

/// An evaluation: names, and those of the expression itself before them.
pub(super) struct Scope<'a> {
    pub(super) names: &'a dyn Names,
    pub(super) own: Vec<(String, Value)>,
    depth: Cell<usize>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(names: &'a dyn Names, own: Vec<(String, Value)>, depth: usize) -> Self {
        Self { names, own, depth: Cell::new(depth) }
    }

    fn with(&self, own: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut all = self.own.clone();
        all.extend(own);
        Self { names: self.names, own: all, depth: self.depth.clone() }
    }

    /// Evaluates an expression.
    pub(super) fn value(&self, expression: &Expression) -> Result<Value, String> {
        let depth = self.depth.get();
        if depth > MAX_DEPTH {
            return Err("too many references within references".to_owned());
        }
        self.depth.set(depth + 1);
        let value = self.value_within(expression);
        self.depth.set(depth);
        value
    }

    fn value_within(&self, expression: &Expression) -> Result<Value, String> {
        match expression {
            Expression::Null => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Number(number) => Ok(number_value(number)),
            Expression::String(text) => Ok(Value::String(text.clone())),
            Expression::Array(items) => {
                items.iter().map(|item| self.value(item)).collect::<Result<_, _>>().map(Value::Array)
            }
            Expression::Object(fields) => {
                let mut map = Map::new();
                for (key, value) in fields.iter() {
                    let key = match key {
                        ObjectKey::Identifier(name) => name.to_string(),
                        ObjectKey::Expression(Expression::Variable(name)) => name.to_string(),
                        ObjectKey::Expression(expression) => text(&self.value(expression)?)?,
                        other => return Err(format!("a key of an object is of an unknown kind: {other:?}")),
                    };
                    map.insert(key, self.value(value)?);
                }
                Ok(Value::Object(map))
            }
            Expression::TemplateExpr(template) => self.template(template),
            Expression::Variable(name) => self.variable(name.as_str()),
            Expression::Traversal(traversal) => self.traversal(traversal),
            Expression::FuncCall(call) if matches!(call.name.name.as_str(), "try" | "can") => {
                let mut tried = call.args.iter().map(|argument| self.value(argument));
                match call.name.name.as_str() {
                    "can" => Ok(Value::Bool(tried.next().is_some_and(|outcome| outcome.is_ok()))),
                    _ => tried.find_map(Result::ok).ok_or_else(|| "try: no expression succeeded".to_owned()),
                }
            }
            Expression::FuncCall(call) => {
                let mut arguments =
                    call.args.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, _>>()?;
                if call.expand_final {
                    match arguments.pop() {
                        Some(Value::Array(items)) => arguments.extend(items),
                        _ => return Err("the last argument before ... is a list".to_owned()),
                    }
                }
                self.call(&call.name.name, arguments)
            }
            Expression::Parenthesis(inner) => self.value(inner),
            Expression::Conditional(conditional) => match truth(&self.value(&conditional.cond_expr)?)? {
                true => self.value(&conditional.true_expr),
                false => self.value(&conditional.false_expr),
            },
            Expression::Operation(operation) => self.operation(operation),
            Expression::ForExpr(each) => self.for_each(each),
            other => Err(format!("an expression of an unknown kind: {other:?}")),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        if let Some((_, value)) = self.own.iter().rev().find(|(known, _)| known == name) {
            return Ok(value.clone());
        }
        let found = self.names.variable(name, self.depth.get())?;
        found.ok_or_else(|| format!("Unknown variable; There is no variable named {name:?}."))
    }

    fn traversal(&self, traversal: &Traversal) -> Result<Value, String> {
        let mut operators = &traversal.operators[..];
        let mut value = match (&traversal.expr, operators) {
            (Expression::Variable(kind), [block, attribute, rest @ ..])
                if matches!(kind.as_str(), "target" | "group")
                    && !self.own.iter().any(|(known, _)| known == kind.as_str()) =>
            {
                operators = rest;
                let (block, attribute) = (self.step_name(block)?, self.step_name(attribute)?);
                let found = self.names.attribute(kind.as_str(), &block, &attribute, self.depth.get())?;
                found.ok_or_else(|| {
                    format!("Unsupported attribute; {} {block:?} has no attribute {attribute:?}.", kind.as_str())
                })?
            }
            (expression, _) => self.value(expression)?,
        };
        for (at, operator) in operators.iter().enumerate() {
            if matches!(operator, TraversalOperator::AttrSplat | TraversalOperator::FullSplat) {
                let items = match value {
                    Value::Array(items) => items,
                    Value::Null => Vec::new(),
                    single => vec![single],
                };
                let rest = &operators[at + 1..];
                let each = |item: Value| rest.iter().try_fold(item, |value, operator| self.step(value, operator));
                return items.into_iter().map(each).collect::<Result<_, _>>().map(Value::Array);
            }
            value = self.step(value, operator)?;
        }
        Ok(value)
    }

    fn step_name(&self, operator: &TraversalOperator) -> Result<String, String> {
        match operator {
            TraversalOperator::GetAttr(name) => Ok(name.to_string()),
            TraversalOperator::Index(index) => text(&self.value(index)?),
            _ => Err("a block is named by its label".to_owned()),
        }
    }

    fn step(&self, value: Value, operator: &TraversalOperator) -> Result<Value, String> {
        let index = match operator {
            TraversalOperator::GetAttr(name) => Value::String(name.to_string()),
            TraversalOperator::Index(index) => self.value(index)?,
            TraversalOperator::LegacyIndex(index) => Value::from(*index),
            _ => return Err("a splat within a splat".to_owned()),
        };
        functions::at(&value, &index)
    }

    fn call(&self, name: &str, arguments: Vec<Value>) -> Result<Value, String> {
        let Some(function) = self.names.function(name) else { return functions::call(name, &arguments) };
        let wanted = function.parameters.len();
        if arguments.len() < wanted || (arguments.len() > wanted && function.variadic.is_none()) {
            return Err(format!("function {name:?} takes {wanted} arguments, not {}", arguments.len()));
        }
        let mut own: Vec<(String, Value)> =
            function.parameters.iter().cloned().zip(arguments.iter().cloned()).collect();
        if let Some(rest) = &function.variadic {
            own.push((rest.clone(), Value::Array(arguments[wanted..].to_vec())));
        }
        Scope::new(self.names, own, self.depth.get()).value(&function.result)
    }

    fn operation(&self, operation: &Operation) -> Result<Value, String> {
        match operation {
            Operation::Unary(unary) => {
                let value = self.value(&unary.expr)?;
                match unary.operator {
                    UnaryOperator::Neg => number(&value).map(|value| from_number(-value)),
                    UnaryOperator::Not => truth(&value).map(|value| Value::Bool(!value)),
                }
            }
            Operation::Binary(binary) => {
                let left = self.value(&binary.lhs_expr)?;
                let right = || self.value(&binary.rhs_expr);
                let numbers = |apply: fn(f64, f64) -> f64| -> Result<Value, String> {
                    Ok(from_number(apply(number(&left)?, number(&right()?)?)))
                };
                let compares = |apply: fn(&f64, &f64) -> bool| -> Result<Value, String> {
                    Ok(Value::Bool(apply(&number(&left)?, &number(&right()?)?)))
                };
                match binary.operator {
                    BinaryOperator::Eq => Ok(Value::Bool(functions::equal(&left, &right()?))),
                    BinaryOperator::NotEq => Ok(Value::Bool(!functions::equal(&left, &right()?))),
                    BinaryOperator::And => Ok(Value::Bool(truth(&left)? && truth(&right()?)?)),
                    BinaryOperator::Or => Ok(Value::Bool(truth(&left)? || truth(&right()?)?)),
                    BinaryOperator::LessEq => compares(f64::le),
                    BinaryOperator::GreaterEq => compares(f64::ge),
                    BinaryOperator::Less => compares(f64::lt),
                    BinaryOperator::Greater => compares(f64::gt),
                    BinaryOperator::Plus => numbers(|a, b| a + b),
                    BinaryOperator::Minus => numbers(|a, b| a - b),
                    BinaryOperator::Mul => numbers(|a, b| a * b),
                    BinaryOperator::Div => numbers(|a, b| a / b),
                    BinaryOperator::Mod => numbers(|a, b| a % b),
                }
            }
        }
    }

    fn for_each(&self, each: &ForExpr) -> Result<Value, String> {
        let mut items = Vec::new();
        let mut fields = Map::new();
        for (key, value) in pairs(self.value(&each.collection_expr)?)? {
            let mut own = vec![(each.value_var.to_string(), value)];
            if let Some(name) = &each.key_var {
                own.push((name.to_string(), key));
            }
            let scope = self.with(own);
            if let Some(condition) = &each.cond_expr
                && !truth(&scope.value(condition)?)?
            {
                continue;
            }
            let value = scope.value(&each.value_expr)?;
            match &each.key_expr {
                None => items.push(value),
                Some(key) => {
                    let key = text(&scope.value(key)?)?;
                    match (each.grouping, fields.get_mut(&key)) {
                        (true, Some(Value::Array(known))) => known.push(value),
                        (true, _) => drop(fields.insert(key, Value::Array(vec![value]))),
                        (false, _) => drop(fields.insert(key, value)),
                    }
                }
            }
        }
        Ok(if each.key_expr.is_some() { Value::Object(fields) } else { Value::Array(items) })
    }

    fn template(&self, template: &TemplateExpr) -> Result<Value, String> {
        let source = match template {
            TemplateExpr::QuotedString(text) => text.clone(),
            TemplateExpr::Heredoc(heredoc) => heredoc_text(heredoc),
        };
        self.text_template(&source)
    }

    /// Evaluates a template; one that is a single interpolation is the value itself.
    pub(super) fn text_template(&self, source: &str) -> Result<Value, String> {
        let template: Template = source.parse().map_err(|error: hcl::Error| error.to_string())?;
        if let [Element::Interpolation(only)] = template.elements() {
            return self.value(&only.expr);
        }
        self.elements(&template).map(Value::String)
    }

    fn elements(&self, template: &Template) -> Result<String, String> {
        let mut out = String::new();
        let mut trims = false;
        for element in template.elements() {
            let (written, strip) = match element {
                Element::Literal(literal) => {
                    let literal = if trims { literal.trim_start() } else { literal };
                    trims = false;
                    out.push_str(literal);
                    continue;
                }
                Element::Interpolation(one) => (text(&self.value(&one.expr)?)?, one.strip),
                Element::Directive(directive) => self.directive(directive)?,
            };
            if matches!(strip, Strip::Start | Strip::Both) {
                out.truncate(out.trim_end().len());
            }
            trims = matches!(strip, Strip::End | Strip::Both);
            out.push_str(&written);
        }
        Ok(out)
    }

    fn directive(&self, directive: &Directive) -> Result<(String, Strip), String> {
        match directive {
            Directive::If(choice) => {
                let written = match (truth(&self.value(&choice.cond_expr)?)?, &choice.false_template) {
                    (true, _) => self.elements(&choice.true_template)?,
                    (false, Some(other)) => self.elements(other)?,
                    (false, None) => String::new(),
                };
                Ok((written, strip_of(choice.if_strip, choice.endif_strip)))
            }
            Directive::For(each) => {
                let mut written = String::new();
                for (key, value) in pairs(self.value(&each.collection_expr)?)? {
                    let mut own = vec![(each.value_var.to_string(), value)];
                    if let Some(name) = &each.key_var {
                        own.push((name.to_string(), key));
                    }
                    written.push_str(&self.with(own).elements(&each.template)?);
                }
                Ok((written, strip_of(each.for_strip, each.endfor_strip)))
            }
        }
    }
}

fn strip_of(first: Strip, last: Strip) -> Strip {
    let before = matches!(first, Strip::Start | Strip::Both);
    let after = matches!(last, Strip::End | Strip::Both);
    match (before, after) {
        (true, true) => Strip::Both,
        (true, false) => Strip::Start,
        (false, true) => Strip::End,
        (false, false) => Strip::None,
    }
}

/// The text of a heredoc; one with `<<-` without what all its lines begin with.
fn heredoc_text(heredoc: &Heredoc) -> String {
    if heredoc.strip == HeredocStripMode::None {
        return heredoc.template.clone();
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = heredoc.template.split_inclusive('\n').collect();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line)).min().unwrap_or(0);
    lines.iter().map(|line| line.get(least..).unwrap_or(line.trim_start())).collect()
}

/// What a collection holds, each with its key.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Array(items) => Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect()),
        Value::Object(fields) => {
            let mut all: Vec<_> = fields.into_iter().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(all.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
        }
        other => Err(format!("{other} is no collection")),
    }
}

fn number_value(number: &hcl::Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::from(whole),
        (None, Some(number)) => from_number(number),
        _ => Value::Null,
    }
}

/// A number as a value; whole ones without a fraction.
pub(super) fn from_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Value::from(number as i64);
    }
    serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A value as a number; texts that are one count.
pub(super) fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| format!("{number} is too large")),
        Value::String(text) => text.parse().map_err(|_| format!("a number is required, not {text:?}")),
        other => Err(format!("a number is required, not {other}")),
    }
}

/// A value as a truth.
pub(super) fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" || text == "1" => Ok(true),
        Value::String(text) if text == "false" || text == "0" => Ok(false),
        other => Err(format!("a bool is required, not {other}")),
    }
}

/// A value as a text.
pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("a string is required, not null".to_owned()),
        other => Err(format!("a string is required, not {other}")),
    }
}
