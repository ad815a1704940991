//! Replays what Docker's client 28.2.2 answered to `volume inspect -f TEMPLATE`.

use ferry_gotmpl::{Map, NilPointer, Options, Struct, Template, Value};
use serde_json::Value as Json;
use std::rc::Rc;

/// Go decodes numbers of an untyped map as floats.
fn untyped(json: &Json) -> Value {
    match json {
        Json::Number(number) => Value::Float(number.as_f64().unwrap()),
        Json::Array(items) => Value::list(items.iter().map(untyped).collect()),
        Json::Object(object) => Value::map(object.iter().map(|(key, item)| (key.clone(), untyped(item))).collect()),
        other => Value::from_json(other),
    }
}

fn texts(json: &Json) -> Value {
    let entries = json.as_object().into_iter().flatten();
    Value::Map(Rc::new(Map {
        entries: entries.map(|(key, item)| (key.clone(), Value::from_json(item))).collect(),
        zero: Value::text(""),
        type_name: "map[string]string".to_owned(),
        null: json.is_null(),
    }))
}

fn volume(json: &Json) -> Value {
    let nil = |name: &str, fields: &[&str]| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Value::NilPointer(Rc::new(NilPointer { type_name: name.to_owned(), fields }))
    };
    let fields = [
        ("ClusterVolume", nil("volume.ClusterVolume", &["ID"])),
        ("CreatedAt", Value::from_json(&json["CreatedAt"])),
        ("Driver", Value::from_json(&json["Driver"])),
        ("Labels", texts(&json["Labels"])),
        ("Mountpoint", Value::from_json(&json["Mountpoint"])),
        ("Name", Value::from_json(&json["Name"])),
        ("Options", texts(&json["Options"])),
        ("Scope", Value::from_json(&json["Scope"])),
        ("Status", untyped(&json["Status"])),
        ("UsageData", nil("volume.UsageData", &["RefCount", "Size"])),
    ];
    Value::Struct(Rc::new(Struct {
        type_name: "volume.Volume".to_owned(),
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        json: Some(json.clone()),
        pointer: false,
        text: None,
    }))
}

fn answer(template: &str, data: &Value) -> (String, String, i64) {
    let failed = |error: &dyn std::fmt::Display| format!("template parsing error: {error}\n");
    match Template::parse("", template) {
        Err(error) => (String::new(), failed(&error), 64),
        Ok(parsed) => match parsed.execute(data, Options::default()) {
            Ok(text) => (format!("{text}\n"), String::new(), 0),
            Err(error) => ("\n".to_owned(), failed(&error), 1),
        },
    }
}

#[test]
fn answers_are_those_of_docker() {
    let mut recorded: Json = serde_json::from_str(include_str!("docker-28.2.2.json")).unwrap();
    recorded["volume"].as_object_mut().unwrap().sort_keys();
    sort_all(&mut recorded["volume"]["Status"]);
    let data = volume(&recorded["volume"]);
    let mut wrong = Vec::new();
    for row in recorded["answers"].as_array().unwrap() {
        let template = row["template"].as_str().unwrap();
        let (out, err, code) = answer(template, &data);
        if LENIENT.contains(&template) {
            assert_eq!((out.as_str(), code), ("a+b+3\n", 0));
            continue;
        }
        if row["out"] != out || row["err"] != err || row["rc"] != code {
            wrong.push(format!(
                "{template}\n  docker: {} {} {}\n  ferry:  {out:?} {err:?} {code}",
                row["out"], row["err"], row["rc"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Where ferry does more than the recorded client: `join` takes lists of any type.
const LENIENT: &[&str] = &["{{join .Status.list \"+\"}}"];

fn sort_all(json: &mut Json) {
    if let Json::Object(object) = json {
        object.sort_keys();
    }
}
