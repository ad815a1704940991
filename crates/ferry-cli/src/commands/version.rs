//! `version`

use std::rc::Rc;

use ferry_gotmpl::{Options, Struct, Template, Value};
use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::human;
use crate::format::tabwriter::{Layout, align};

/// The version of Docker's client that this one stands for, which other programs read.
pub(crate) const CLIENT_VERSION: &str = "29.7.2";

/// This program's own version.
const FERRY_VERSION: &str = env!("CARGO_PKG_VERSION");

const COMMIT: &str = match option_env!("FERRY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The one line of `--version`.
pub(crate) fn one_line(program: &str) -> String {
    if program == "docker" {
        return format!("Docker version {CLIENT_VERSION}, build ferry-{FERRY_VERSION}");
    }
    format!("ferry version {FERRY_VERSION}, build {COMMIT}, stands for Docker {CLIENT_VERSION}")
}

/// Runs `version`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let format = parsed.text_or_empty("format");
    let template = match format {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let template = template
        .map(|text| Template::parse("version", text))
        .transpose()
        .map_err(|error| Failure::with_code(64, format!("template parsing error: {error}")))?;
    let client = context.client().await?;
    // A daemon that cannot be reached is told by the request itself.
    let _ = client.negotiate().await;
    let server = match client.server_version().await {
        Ok(raw) => Ok(raw.value()?),
        Err(error) => Err(error),
    };
    let negotiated = client.version().unwrap_or(ferry_api::version::NEWEST).to_string();
    let client_part = client_json(&negotiated, &context.target()?.context);
    let text = match template {
        Some(template) => {
            let server = server.as_ref().ok().map(server_json);
            let whole = json!({ "Client": client_part, "Server": server });
            let value = typed(&whole);
            let text = template.execute(&value, Options::default()).map_err(|error| {
                // What was written before the failure is shown, as Docker's client does.
                let _ = context.printer.line(error.partial());
                Failure::new(error.to_string())
            })?;
            format!("{text}\n")
        }
        None => plain(&client_part, server.as_ref().ok()),
    };
    context.printer.data(text)?;
    match server {
        Ok(_) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn client_json(negotiated: &str, context: &str) -> Json {
    json!({
        "Version": CLIENT_VERSION,
        "ApiVersion": negotiated,
        "DefaultAPIVersion": ferry_api::version::NEWEST.to_string(),
        "GitCommit": COMMIT,
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "BuildTime": "",
        "Context": context,
    })
}

/// The architecture by its Go name.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The server's answer with build times as they are shown.
fn server_json(server: &Json) -> Json {
    const ORDER: &[&str] = &[
        "Platform",
        "Components",
        "Version",
        "ApiVersion",
        "MinAPIVersion",
        "GitCommit",
        "GoVersion",
        "Os",
        "Arch",
        "KernelVersion",
        "Experimental",
        "BuildTime",
    ];
    let mut server = server.clone();
    if let Some(object) = server.as_object_mut() {
        let ordered = ORDER.iter().filter_map(|key| Some(((*key).to_owned(), object.get(*key)?.clone()))).collect();
        *object = ordered;
    }
    for component in server["Components"].as_array_mut().into_iter().flatten() {
        if let Some(time) = component["Details"]["BuildTime"].as_str().map(human::ansi_time) {
            component["Details"]["BuildTime"] = json!(time);
        }
    }
    server
}

/// Unknown fields are errors, so the top is a struct; below, documents differ by server.
fn typed(whole: &Json) -> Value {
    let part = |name: &str| match &whole[name] {
        Json::Object(object) => Value::Struct(Rc::new(Struct {
            type_name: format!("system.{}Version", name.to_ascii_lowercase()),
            fields: fields(object),
            json: Some(Json::Object(object.clone())),
            pointer: false,
            text: None,
        })),
        _ => Value::Nil,
    };
    Value::Struct(Rc::new(Struct {
        type_name: "system.versionInfo".to_owned(),
        fields: ["Client", "Server"].map(|name| (name.to_owned(), part(name))).to_vec(),
        json: Some(whole.clone()),
        pointer: false,
        text: None,
    }))
}

/// Go calls two fields otherwise than the document.
fn fields(object: &serde_json::Map<String, Json>) -> Vec<(String, Value)> {
    let name = |key: &str| match key {
        "ApiVersion" => "APIVersion".to_owned(),
        other => other.to_owned(),
    };
    object.iter().map(|(key, value)| (name(key), Value::from_json(value))).collect()
}

fn text_of<'a>(document: &'a Json, key: &str) -> &'a str {
    document[key].as_str().unwrap_or_default()
}

fn plain(client: &Json, server: Option<&Json>) -> String {
    let negotiated = text_of(client, "ApiVersion");
    let newest = text_of(client, "DefaultAPIVersion");
    let api = if negotiated == newest { newest.to_owned() } else { format!("{negotiated} (downgraded from {newest})") };
    let mut text = format!(
        "Client:\n Version:\t{}\n Ferry version:\t{FERRY_VERSION}\n API version:\t{api}\n Git commit:\t{}\n OS/Arch:\t{}/{}\n Context:\t{}\n",
        text_of(client, "Version"),
        text_of(client, "GitCommit"),
        text_of(client, "Os"),
        text_of(client, "Arch"),
        text_of(client, "Context"),
    );
    if let Some(server) = server {
        text.push_str(&server_text(server));
    }
    align(&text, &Layout { min_width: 20, padding: 1 })
}

fn server_text(server: &Json) -> String {
    let platform = server["Platform"]["Name"].as_str().unwrap_or_default();
    let platform = if platform.is_empty() { String::new() } else { format!(" {platform}") };
    let mut text = format!("\nServer:{platform}\n");
    for component in server["Components"].as_array().into_iter().flatten() {
        let details = &component["Details"];
        text.push_str(&format!(" {}:\n  Version:\t{}\n", text_of(component, "Name"), text_of(component, "Version")));
        if text_of(component, "Name") == "Engine" {
            let api = text_of(details, "ApiVersion");
            let least = match text_of(details, "MinAPIVersion") {
                "" => text_of(details, "MinApiVersion"),
                least => least,
            };
            text.push_str(&format!(
                "  API version:\t{api} (minimum version {least})\n  Go version:\t{}\n  Git commit:\t{}\n  Built:\t{}\n  OS/Arch:\t{}/{}\n  \
                 Experimental:\t{}\n",
                text_of(details, "GoVersion"),
                text_of(details, "GitCommit"),
                human::ansi_time(text_of(details, "BuildTime")),
                text_of(details, "Os"),
                text_of(details, "Arch"),
                text_of(details, "Experimental"),
            ));
        } else {
            let mut names: Vec<_> = details.as_object().into_iter().flatten().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            for (name, value) in names {
                text.push_str(&format!("  {name}:\t{}\n", value.as_str().unwrap_or_default()));
            }
        }
    }
    text
}
