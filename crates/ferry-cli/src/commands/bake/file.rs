//! Bake files as they are written: HCL and JSON, merged, their variables resolved when they are needed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hcl::{Body, Expression, Structure};
use serde_json::{Map, Value};

use super::evaluate::{Function, Names, Scope, number, text, truth};
use super::types::Type;

/// The variable with the context that the command line names.
const COMMAND_CONTEXT: &str = "BAKE_CMD_CONTEXT";

/// The kinds of blocks.
pub(super) const KINDS: [&str; 4] = ["variable", "function", "group", "target"];

/// An attribute: an expression of HCL's, or a value of JSON whose texts are templates.
#[derive(Debug, Clone)]
enum Source {
    Hcl(Expression),
    Json(Value),
}

/// Something named, with attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub(super) name: String,
    attributes: Vec<(String, Source)>,
}

#[derive(Debug, Clone, Default)]
struct Variable {
    /// What it has to be.
    kind: Option<Type>,
    default: Option<Source>,
    checks: Vec<(Source, Option<Source>)>,
    description: Option<Source>,
}

/// A variable, as it is listed.
pub(super) struct Listed {
    pub(super) name: String,
    /// Its type in words; empty where none is written.
    pub(super) kind: String,
    pub(super) value: Value,
    pub(super) description: String,
}

/// Everything that bake files say.
pub(super) struct Definitions<'a> {
    variables: BTreeMap<String, Variable>,
    /// Attributes outside of blocks.
    constants: BTreeMap<String, Source>,
    functions: BTreeMap<String, Function>,
    /// Groups and targets, each in the order of the files; one name may be there several times.
    pub(super) groups: Vec<Block>,
    pub(super) targets: Vec<Block>,
    /// Variables of the command line and the environment.
    given: &'a dyn Fn(&str) -> Option<String>,
    resolving: RefCell<Vec<String>>,
}

impl<'a> Definitions<'a> {
    /// Says which context the command line names.
    pub(super) fn set_command_context(&mut self, address: &str) {
        self.constants.insert(COMMAND_CONTEXT.to_owned(), Source::Hcl(Expression::String(address.to_owned())));
    }

    pub(super) fn new(given: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let mut constants = BTreeMap::new();
        let platform = format!(
            "linux/{}",
            match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
        );
        for (name, value) in [(COMMAND_CONTEXT, "cwd://".to_owned()), ("BAKE_LOCAL_PLATFORM", platform)] {
            constants.insert(name.to_owned(), Source::Hcl(Expression::String(value)));
        }
        Self {
            variables: BTreeMap::new(),
            constants,
            functions: BTreeMap::new(),
            groups: Vec::new(),
            targets: Vec::new(),
            given,
            resolving: RefCell::default(),
        }
    }

    /// Adds what an HCL file says.
    pub(super) fn add_hcl(&mut self, text: &str) -> Result<(), String> {
        let body: Body = hcl::parse(text).map_err(|error| error.to_string())?;
        for structure in body.into_inner() {
            match structure {
                Structure::Attribute(attribute) => {
                    self.constants.insert(attribute.key().to_owned(), Source::Hcl(attribute.expr().clone()));
                }
                // What nobody knows is passed over, as in buildx.
                Structure::Block(block) if !KINDS.contains(&block.identifier()) => {}
                Structure::Block(block) => {
                    let label = block.labels().first().map(|label| label.as_str().to_owned());
                    let name = label.ok_or_else(|| format!("Missing name for {}", block.identifier()))?;
                    let attributes = block.body().attributes();
                    let attributes: Vec<(String, Source)> = attributes
                        .map(|attribute| (attribute.key().to_owned(), Source::Hcl(attribute.expr().clone())))
                        .collect();
                    let checks =
                        block.body().blocks().filter(|inner| inner.identifier() == "validation").map(|inner| {
                            inner
                                .body()
                                .attributes()
                                .map(|one| (one.key().to_owned(), Source::Hcl(one.expr().clone())))
                                .collect()
                        });
                    let checks: Vec<Vec<(String, Source)>> = checks.collect();
                    self.add_block(block.identifier(), name, attributes, checks)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what a JSON file says.
    pub(super) fn add_json(&mut self, document: Value) -> Result<(), String> {
        let Value::Object(fields) = document else { return Err("a bake file is an object".to_owned()) };
        for (kind, value) in fields {
            if !KINDS.contains(&kind.as_str()) {
                self.constants.insert(kind, Source::Json(value));
                continue;
            }
            let blocks: Vec<(String, Value)> = match value {
                Value::Object(blocks) => blocks.into_iter().collect(),
                Value::Array(all) => all.into_iter().filter_map(|one| one.as_object().cloned()).flatten().collect(),
                _ => return Err(format!("{kind} is no object")),
            };
            for (name, block) in blocks {
                let Value::Object(fields) = block else { return Err(format!("{kind} {name:?} is no object")) };
                let mut attributes = Vec::new();
                let mut checks = Vec::new();
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("validation", Value::Array(all)) => {
                            let all = all.into_iter().filter_map(|one| one.as_object().cloned());
                            checks.extend(
                                all.map(|one| one.into_iter().map(|(key, value)| (key, Source::Json(value))).collect()),
                            );
                        }
                        (_, value) => attributes.push((key, Source::Json(value))),
                    }
                }
                self.add_block(&kind, name, attributes, checks)?;
            }
        }
        Ok(())
    }

    fn add_block(
        &mut self,
        kind: &str,
        name: String,
        attributes: Vec<(String, Source)>,
        checks: Vec<Vec<(String, Source)>>,
    ) -> Result<(), String> {
        let find = |attributes: &[(String, Source)], wanted: &str| {
            attributes.iter().find(|(key, _)| key == wanted).map(|(_, source)| source.clone())
        };
        match kind {
            "variable" => {
                let variable = self.variables.entry(name).or_default();
                if let Some(default) = find(&attributes, "default") {
                    variable.default = Some(default);
                }
                if let Some(kind) = find(&attributes, "type") {
                    variable.kind = Some(match &kind {
                        Source::Hcl(expression) => Type::read(expression)?,
                        Source::Json(value) => Type::read(&Expression::String(text(value)?))?,
                    });
                }
                variable.description = find(&attributes, "description").or(variable.description.take());
                for check in checks {
                    let condition = find(&check, "condition").ok_or("a validation without a condition")?;
                    variable.checks.push((condition, find(&check, "error_message")));
                }
            }
            "function" => {
                let function = self.read_function(&attributes)?;
                if self.functions.insert(name.clone(), function).is_some() {
                    return Err(format!("Duplicate function; function {name:?} is defined twice"));
                }
            }
            "group" => self.groups.push(Block { name, attributes }),
            _ => self.targets.push(Block { name, attributes }),
        }
        Ok(())
    }

    fn read_function(&self, attributes: &[(String, Source)]) -> Result<Function, String> {
        let names = |source: &Source| -> Result<Vec<String>, String> {
            match source {
                Source::Hcl(Expression::Array(items)) => items
                    .iter()
                    .map(|item| match item {
                        Expression::Variable(name) => Ok(name.to_string()),
                        other => Err(format!("{other} is no name of a parameter")),
                    })
                    .collect(),
                Source::Hcl(Expression::Variable(name)) => Ok(vec![name.to_string()]),
                Source::Json(Value::Array(items)) => items.iter().map(text).collect(),
                Source::Json(Value::String(name)) => Ok(vec![name.clone()]),
                _ => Err("parameters are a list of names".to_owned()),
            }
        };
        let find = |wanted: &str| attributes.iter().find(|(key, _)| key == wanted).map(|(_, source)| source);
        let result = match find("result").ok_or("a function without a result")? {
            Source::Hcl(expression) => expression.clone(),
            Source::Json(Value::String(template)) => {
                let template = hcl::expr::TemplateExpr::QuotedString(template.clone());
                Expression::TemplateExpr(Box::new(template))
            }
            Source::Json(other) => return Err(format!("{other} is no result of a function")),
        };
        Ok(Function {
            parameters: find("params").map(names).transpose()?.unwrap_or_default(),
            variadic: find("variadic_params").map(names).transpose()?.and_then(|names| names.into_iter().next()),
            result,
        })
    }

    /// Evaluates an attribute of a block, with names of its own.
    pub(super) fn attribute_of(
        &self,
        block: &Block,
        key: &str,
        own: &[(String, Value)],
    ) -> Result<Option<Value>, String> {
        let found = block.attributes.iter().find(|(name, _)| name == key);
        found.map(|(_, source)| self.evaluate(source, own, 0)).transpose()
    }

    /// Evaluates those attributes of a block that have a meaning; what others say is not even looked at, as in buildx.
    pub(super) fn attributes(
        &self,
        block: &Block,
        own: &[(String, Value)],
        known: &[&str],
    ) -> Result<Map<String, Value>, String> {
        let wanted = block.attributes.iter().filter(|(key, _)| known.contains(&key.as_str()));
        wanted.map(|(key, source)| Ok((key.clone(), self.evaluate(source, own, 0)?))).collect()
    }

    fn evaluate(&self, source: &Source, own: &[(String, Value)], depth: usize) -> Result<Value, String> {
        let scope = Scope::new(self, own.to_vec(), depth);
        match source {
            Source::Hcl(expression) => scope.value(expression),
            Source::Json(value) => json_value(&scope, value),
        }
    }

    /// All variables, as they are listed.
    pub(super) fn listed_variables(&self) -> Result<Vec<Listed>, String> {
        let each = self.variables.iter().map(|(name, variable)| {
            let description = match &variable.description {
                Some(source) => text(&self.evaluate(source, &[], 0)?)?,
                None => String::new(),
            };
            let kind = variable.kind.as_ref().map(Type::name).unwrap_or_default();
            let value = self.variable(name, 0)?.unwrap_or_default();
            Ok(Listed { name: name.clone(), kind, value, description })
        });
        each.collect()
    }

    /// Checks what variables must be.
    pub(super) fn validate(&self) -> Result<(), String> {
        for variable in self.variables.values() {
            for (condition, message) in &variable.checks {
                if !truth(&self.evaluate(condition, &[], 0)?)? {
                    let message = message.as_ref().map(|message| self.evaluate(message, &[], 0)).transpose()?;
                    let message = message
                        .map_or_else(|| "This check failed.".to_owned(), |message| text(&message).unwrap_or_default());
                    return Err(format!("Validation failed; {message}"));
                }
            }
        }
        Ok(())
    }

    fn resolve(&self, name: &str, depth: usize) -> Result<Option<Value>, String> {
        let Some(variable) = self.variables.get(name) else {
            return self.constants.get(name).map(|source| self.evaluate(source, &[], depth)).transpose();
        };
        let default = variable.default.as_ref().map(|source| self.evaluate(source, &[], depth)).transpose()?;
        let given = (self.given)(name);
        if let Some(kind) = &variable.kind {
            let value = match (given, default) {
                (Some(given), _) => kind.of_text(name, &given),
                (None, default) => kind.converted(&default.unwrap_or_default()),
            };
            return value.map(Some).map_err(|reason| format!("Invalid value; {reason}"));
        }
        let Some(given) = given else { return Ok(Some(default.unwrap_or(Value::String(String::new())))) };
        let wrong = |kind: &str| format!("failed to parse {name} as {kind}: {given:?}");
        Ok(Some(match default {
            Some(Value::Bool(_)) => Value::Bool(truth(&Value::String(given.clone())).map_err(|_| wrong("bool"))?),
            Some(Value::Number(_)) => {
                super::evaluate::from_number(number(&Value::String(given.clone())).map_err(|_| wrong("number"))?)
            }
            Some(Value::Array(_)) if given.starts_with('[') => {
                serde_json::from_str(&given).map_err(|_| wrong("list"))?
            }
            Some(Value::Array(_)) => given.split(',').map(|word| Value::from(word.trim())).collect(),
            Some(Value::Object(_)) => serde_json::from_str(&given).map_err(|_| wrong("object"))?,
            _ => Value::String(given),
        }))
    }
}

/// A value of JSON with its templates evaluated.
fn json_value(scope: &Scope<'_>, value: &Value) -> Result<Value, String> {
    match value {
        Value::String(template) if template.contains(['$', '%']) => scope.text_template(template),
        Value::Array(items) => {
            items.iter().map(|item| json_value(scope, item)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Ok((key.clone(), json_value(scope, value)?)));
            fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}

impl Names for Definitions<'_> {
    fn variable(&self, name: &str, depth: usize) -> Result<Option<Value>, String> {
        if self.resolving.borrow().iter().any(|known| known == name) {
            return Err(format!("Variable cycle not allowed; {name:?} refers to itself"));
        }
        self.resolving.borrow_mut().push(name.to_owned());
        let resolved = self.resolve(name, depth);
        self.resolving.borrow_mut().pop();
        resolved
    }

    fn attribute(&self, kind: &str, name: &str, attribute: &str, depth: usize) -> Result<Option<Value>, String> {
        let blocks = if kind == "group" { &self.groups } else { &self.targets };
        let mut of_name = blocks.iter().rev().filter(|block| block.name == name).peekable();
        if of_name.peek().is_none() {
            return Err(format!("there is no {kind} {name:?}"));
        }
        let found = of_name.find_map(|block| block.attributes.iter().find(|(key, _)| key == attribute));
        found.map(|(_, source)| self.evaluate(source, &[], depth)).transpose()
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }
}
