//! `events`

use std::rc::Rc;

use ferry_api::event::Message;
use ferry_gotmpl::{Map, Options, Struct, Template, Value};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;
use crate::progress::Documents;

/// Runs `events`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let template = match parsed.text_or_empty("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let invalid = |error: String| Failure::with_code(64, format!("Error parsing format: {error}"));
    let template =
        template.map(|text| Template::parse("", text)).transpose().map_err(|error| invalid(error.to_string()))?;
    if let Some(template) = &template {
        // Mistakes are told before the first event.
        template
            .execute(&value(&Message::default()), Options::default())
            .map_err(|error| invalid(error.to_string()))?;
    }
    let time = |name: &str| human::api_time(parsed.text_or_empty(name)).map_err(Failure::new);
    let client = context.client().await?;
    let mut stream = client.events(&time("since")?, &time("until")?, &lists::filters(parsed)).await?;
    let mut documents = Documents::default();
    while let Some(bytes) = stream.next().await? {
        for message in documents.feed::<Message>(&bytes)? {
            let text = match &template {
                None => line(&message),
                Some(template) => template
                    .execute(&value(&message), Options::default())
                    .map_err(|error| Failure::new(error.to_string()))?,
            };
            context.printer.line(&text)?;
        }
    }
    Ok(0)
}

/// The message with Go's field names.
fn value(message: &Message) -> Value {
    let record = |type_name: &str, fields: Vec<(&str, Value)>, json: serde_json::Value, pointer: bool| {
        Value::Struct(Rc::new(Struct {
            type_name: type_name.to_owned(),
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            json: Some(json),
            pointer,
            text: None,
        }))
    };
    let json = serde_json::to_value(message).unwrap_or_default();
    let attributes = message.actor.attributes.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str())));
    let attributes = Value::Map(Rc::new(Map {
        entries: attributes.collect(),
        zero: Value::from(""),
        type_name: "map[string]string".to_owned(),
        null: false,
    }));
    let actor = vec![("ID", Value::from(message.actor.id.as_str())), ("Attributes", attributes)];
    let actor = record("events.Actor", actor, json["Actor"].clone(), false);
    let fields = vec![
        ("Status", message.status.as_str().into()),
        ("ID", message.id.as_str().into()),
        ("From", message.from.as_str().into()),
        ("Type", message.kind.as_str().into()),
        ("Action", message.action.as_str().into()),
        ("Actor", actor),
        ("Scope", message.scope.as_str().into()),
        ("Time", message.time.into()),
        ("TimeNano", message.time_nano.into()),
    ];
    record("events.Message", fields, json, true)
}

fn line(message: &Message) -> String {
    let time = if message.time_nano != 0 {
        Timestamp::from_nanosecond(message.time_nano.into())
    } else {
        Timestamp::from_second(message.time)
    };
    let time = time
        .map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string())
        .unwrap_or_default();
    let time = time.strip_suffix("+00:00").map_or(time.clone(), |utc| format!("{utc}Z"));
    let mut text = format!("{time} {} {} {}", message.kind, message.action, message.actor.id);
    if !message.actor.attributes.is_empty() {
        let attributes: Vec<String> =
            message.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.push_str(&format!(" ({})", attributes.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_line_each() {
        let document = serde_json::json!({
            "Type": "container", "Action": "die", "timeNano": 1_500_000_000_123_456_789_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "n", "exitCode": "7"}}
        });
        let text = line(&serde_json::from_value(document).unwrap());
        assert!(text.ends_with(" container die abc (exitCode=7, name=n)"), "{text}");
        assert!(text.contains(".123456789"), "{text}");
    }
}
