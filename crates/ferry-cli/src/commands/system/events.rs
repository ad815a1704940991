//! `events`

use std::rc::Rc;

use ferry_api::event::Message;
use ferry_gotmpl::{Options, Template, Value};
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
    let template = template
        .map(|text| Template::parse("", text))
        .transpose()
        .map_err(|error| Failure::with_code(64, format!("Error parsing format: template parsing error: {error}")))?;
    let time = |name: &str| human::api_time(parsed.text_or_empty(name)).map_err(Failure::new);
    let client = context.client().await?;
    let mut stream = client.events(&time("since")?, &time("until")?, &lists::filters(parsed)).await?;
    let mut documents = Documents::default();
    while let Some(bytes) = stream.next().await? {
        for document in documents.feed::<serde_json::Value>(&bytes)? {
            let text = match &template {
                None => line(&document)?,
                Some(template) => template
                    .execute(&value(&document), Options::default())
                    .map_err(|error| Failure::new(error.to_string()))?,
            };
            context.printer.line(&text)?;
        }
    }
    Ok(0)
}

/// The same structure as the document, with Go's field names.
fn value(document: &serde_json::Value) -> Value {
    let Value::Map(map) = Value::from_json(document) else { return Value::Nil };
    let go_name = |key: &str| match key {
        "time" => "Time".to_owned(),
        "timeNano" => "TimeNano".to_owned(),
        "scope" => "Scope".to_owned(),
        "status" => "Status".to_owned(),
        "id" => "ID".to_owned(),
        "from" => "From".to_owned(),
        other => other.to_owned(),
    };
    let fields = map.entries.iter().map(|(key, value)| (go_name(key), value.clone())).collect();
    Value::Struct(Rc::new(ferry_gotmpl::Struct {
        type_name: "events.Message".to_owned(),
        fields,
        json: Some(document.clone()),
        pointer: false,
    }))
}

fn line(document: &serde_json::Value) -> Result<String> {
    let message: Message =
        ferry_api::json::from_value(document.clone()).map_err(|error| Failure::new(error.to_string()))?;
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
    Ok(text)
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
        let text = line(&document).unwrap();
        assert!(text.ends_with(" container die abc (exitCode=7, name=n)"), "{text}");
        assert!(text.contains(".123456789"), "{text}");
    }
}
