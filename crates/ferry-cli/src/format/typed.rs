//! Types of inspected documents, as far as templates can tell: fields that a document leaves out have zero values,
//! unknown fields are errors, structs print in order.

use std::collections::BTreeMap;
use std::rc::Rc;

use ferry_gotmpl::{Map, NilPointer, Struct, Value};
use serde_json::Value as Json;

use super::human;

/// The types, one per line: `name = field:type ..`. A type is `s` text, `i` number, `d` nanoseconds, `e` nothing, `b` truth, `?` anything, `[T]` a list,
/// `{T}` a map, `*T` a pointer, or the name of a struct; `Go=json:T` names a field that the document calls otherwise.
const SCHEMA: &str = include_str!("schema.txt");

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Plugin,
    Info,
}

impl Kind {
    /// The name of the document's type.
    fn type_name(self) -> &'static str {
        match self {
            Self::Container => "container.InspectResponse",
            Self::Image => "image.InspectResponse",
            Self::Network => "network.Inspect",
            Self::Volume => "volume.Volume",
            Self::Plugin => "plugin.Plugin",
            Self::Info => "system.dockerInfo",
        }
    }

    /// Whether Docker's client tries the raw document where the typed one fails.
    pub(crate) fn has_raw_fallback(self) -> bool {
        matches!(self, Self::Container | Self::Image | Self::Network)
    }

    /// The document as a typed value.
    pub(crate) fn value(self, document: &Json) -> Value {
        let schema = Schema::read();
        schema.value(self.type_name(), Some(document), self == Self::Image || self == Self::Container)
    }
}

/// The struct types by name: fields as Go name, name in the document, type.
struct Schema {
    types: BTreeMap<&'static str, Vec<(&'static str, &'static str, &'static str)>>,
}

impl Schema {
    fn read() -> Self {
        let types = SCHEMA
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, fields)| {
                let fields = fields.split_whitespace().filter_map(|field| {
                    let (names, kind) = field.split_once(':')?;
                    let (go, json) = names.split_once('=').unwrap_or((names, names));
                    Some((go, json, kind))
                });
                (name, fields.collect())
            })
            .collect();
        Self { types }
    }

    /// A value of a type; an absent document gives the zero value.
    fn value(&self, kind: &str, json: Option<&Json>, pointer: bool) -> Value {
        let json = json.filter(|json| !json.is_null());
        if let Some(inner) = kind.strip_prefix('*') {
            return match json {
                Some(_) => self.value(inner, json, true),
                None if self.types.contains_key(inner) => self.nil(inner),
                None => {
                    let type_name = if inner == "i" { "int64" } else { "bool" };
                    Value::NilPointer(Rc::new(NilPointer { type_name: type_name.to_owned(), fields: Vec::new() }))
                }
            };
        }
        if let Some(inner) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
            let Some(items) = json.and_then(Json::as_array) else { return Value::NilList };
            return Value::list(items.iter().map(|item| self.value(inner, Some(item), false)).collect());
        }
        if let Some(inner) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
            return self.map(inner, json);
        }
        match kind {
            "s" => Value::text(json.and_then(Json::as_str).unwrap_or_default()),
            "i" => json.map_or(Value::Int(0), Value::from_json),
            "d" => duration(json.and_then(Json::as_i64).unwrap_or_default()),
            "b" => Value::Bool(json.and_then(Json::as_bool).unwrap_or_default()),
            "e" => Value::Struct(Rc::new(Struct {
                type_name: "struct {}".to_owned(),
                fields: Vec::new(),
                json: None,
                pointer: false,
                text: None,
            })),
            "?" => json.map_or(Value::Nil, Value::from_json),
            name => self.structure(name, json, pointer),
        }
    }

    fn nil(&self, name: &str) -> Value {
        let fields = self.types[name].iter().map(|(go, ..)| (*go).to_owned()).collect();
        Value::NilPointer(Rc::new(NilPointer { type_name: name.to_owned(), fields }))
    }

    fn map(&self, inner: &str, json: Option<&Json>) -> Value {
        let object = json.and_then(Json::as_object);
        let entries = object.into_iter().flatten();
        Value::Map(Rc::new(Map {
            entries: entries.map(|(key, item)| (key.clone(), self.value(inner, Some(item), false))).collect(),
            zero: self.value(inner, None, false),
            type_name: if inner == "s" { "map[string]string".to_owned() } else { "map[string]interface {}".to_owned() },
            null: object.is_none(),
        }))
    }

    fn structure(&self, name: &str, json: Option<&Json>, pointer: bool) -> Value {
        let Some(fields) = self.types.get(name) else { return json.map_or(Value::Nil, Value::from_json) };
        let fields = fields
            .iter()
            .map(|(go, key, kind)| ((*go).to_owned(), self.value(kind, json.and_then(|json| json.get(key)), false)))
            .collect();
        Value::Struct(Rc::new(Struct { type_name: name.to_owned(), fields, json: json.cloned(), pointer, text: None }))
    }
}

/// A span of time: a number in documents, and Go's words in text.
fn duration(nanoseconds: i64) -> Value {
    Value::Struct(Rc::new(Struct {
        type_name: "time.Duration".to_owned(),
        fields: Vec::new(),
        json: Some(nanoseconds.into()),
        pointer: false,
        text: Some(human::go_duration(nanoseconds)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_gotmpl::{Options, Template};
    use serde_json::json;

    fn shown(kind: Kind, document: &Json, template: &str) -> Result<String, String> {
        let template = Template::parse("", template).unwrap();
        template.execute(&kind.value(document), Options::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_named_type_is_defined() {
        let schema = Schema::read();
        for (name, fields) in &schema.types {
            for (field, _, kind) in fields {
                let inner = kind.trim_matches(['*', '[', ']', '{', '}']);
                let known = matches!(inner, "s" | "i" | "d" | "e" | "b" | "?") || schema.types.contains_key(inner);
                assert!(known, "{name}.{field}: {kind}");
            }
        }
    }

    #[test]
    fn absent_fields_are_zero_and_unknown_ones_errors() {
        let document =
            json!({"Id": "abc", "State": {"ExitCode": 3, "Running": true}, "Config": {"Labels": {"a": "b"}}});
        assert_eq!(shown(Kind::Container, &document, "{{.ID}} {{.State.ExitCode}}").unwrap(), "abc 3");
        assert_eq!(shown(Kind::Container, &document, "{{.State.Pid}}|{{.Name}}").unwrap(), "0|");
        assert_eq!(shown(Kind::Container, &document, "{{index .Config.Labels \"x\"}}|").unwrap(), "|");
        assert_eq!(shown(Kind::Container, &document, "{{if .State.Health}}x{{else}}none{{end}}").unwrap(), "none");
        assert_eq!(shown(Kind::Container, &document, "{{json .State}}").unwrap(), r#"{"ExitCode":3,"Running":true}"#);
        let checked = json!({"Config": {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 100_000_000, "Retries": 2}}});
        let check = |template: &str| shown(Kind::Container, &checked, template).unwrap();
        assert_eq!(check("{{.Config.Healthcheck}}"), "{[CMD x] 100ms 0s 0s 0s 2}");
        assert_eq!(check("{{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck.Interval}}"), "100ms 100000000");
        assert_eq!(check("{{if .Config.Healthcheck.Timeout}}set{{end}}"), "");
        let ports = json!({"Config": {"ExposedPorts": {"80/tcp": {}}}});
        assert_eq!(shown(Kind::Container, &ports, "{{.Config.ExposedPorts}}").unwrap(), "map[80/tcp:{}]");
        assert_eq!(shown(Kind::Container, &ports, "{{json .Config.ExposedPorts}}").unwrap(), r#"{"80/tcp":{}}"#);
        assert!(shown(Kind::Container, &document, "{{.Nope}}").unwrap_err().contains("can't evaluate field Nope"));
    }
}
