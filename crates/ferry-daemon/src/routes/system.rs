//! `/_ping`, `/version`, `/info`, `/events`.

use ferry_api::event::Message;
use ferry_api::system::{ComponentVersion, Platform, Version};
use ferry_api::version::{self, ApiVersion, Reply};
use ferry_engine::events::EventQuery;
use ferry_engine::system::UsageKinds;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use hyper::{Method, Response, StatusCode};
use serde_json::Value;

use super::times;
use crate::app;
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::framing::Framing;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, get, route};
use crate::streams;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/_ping", ping),
        route(Method::HEAD, "/_ping", ping),
        get("/version", version),
        get("/info", info),
        get("/events", events),
        get("/system/df", disk_usage),
        get("/system/storage", storage),
        route(Method::OPTIONS, "/{any:.*}", options),
    ]
}

async fn storage(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.system.storage().await?)
}

async fn disk_usage(call: Call) -> Outcome {
    let asked = call.at_least(42) && call.query.has("type");
    let kinds = match asked {
        true => UsageKinds::parse(call.query.all("type"))?,
        false => UsageKinds::ALL,
    };
    let mut usage = call.app.engine.system.disk_usage(kinds).await?;
    if kinds.build_cache {
        usage.build_cache_usage = Some(call.app.builder.usage().await?);
    }
    // Who asks for everything knows the newer lists; others get the older ones beside them.
    let both = ApiVersion::new(1, 52);
    let shape = match call.version {
        version if version < both => version,
        _ if call.query.flag("verbose") => version::NEWEST,
        _ => both,
    };
    reply::shaped(Reply::DiskUsage, shape, &usage)
}

async fn options(_call: Call) -> Outcome {
    Ok(reply::status(StatusCode::OK))
}

async fn ping(call: Call) -> Outcome {
    let is_head = call.request.method() == Method::HEAD;
    let body = if is_head { Body::Empty } else { Body::full("OK") };
    let mut response: Response<Body> = reply::with_type(HeaderValue::from_static("text/plain; charset=utf-8"), body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // Clients may build by BuildKit's protocol; the one before is spoken too.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("2"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    Ok(response)
}

async fn version(_call: Call) -> Outcome {
    reply::json(StatusCode::OK, &version_report())
}

fn version_report() -> Version {
    let (os, arch) = ("linux".to_owned(), go_architecture().to_owned());
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let engine_details = [
        ("ApiVersion", version::NEWEST.to_string()),
        ("Arch", arch.clone()),
        ("BuildTime", String::new()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", app::build().to_owned()),
        ("GoVersion", String::new()),
        ("KernelVersion", kernel.clone()),
        ("MinAPIVersion", version::MIN.to_string()),
        ("Os", os.clone()),
    ];
    let component = |name: &str, version: &str, details: Vec<(&str, String)>| ComponentVersion {
        name: name.to_owned(),
        version: version.to_owned(),
        details: details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    };
    Version {
        platform: Platform { name: "ferry".to_owned() },
        version: app::SERVER_VERSION.to_owned(),
        api_version: version::NEWEST.to_string(),
        min_api_version: version::MIN.to_string(),
        os,
        arch,
        components: vec![
            component("Engine", app::SERVER_VERSION, engine_details.into()),
            component("ferry", env!("CARGO_PKG_VERSION"), vec![("GitCommit", app::build().to_owned())]),
        ],
        git_commit: app::build().to_owned(),
        go_version: String::new(),
        kernel_version: kernel,
        experimental: false,
        build_time: String::new(),
    }
}

/// Returns the processor in Go's words.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

async fn info(call: Call) -> Outcome {
    let info = call.app.engine.system.info().await?;
    reply::shaped(Reply::Info, call.version, &info)
}

async fn events(call: Call) -> Outcome {
    let time = |name: &str| {
        times::unix_ns(&call.query, name).map_err(|error| times::of_parameter(&format!("'{name}'"), error))
    };
    let (since_ns, until_ns) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since_ns, until_ns)
        && until < since
    {
        let (since, until) = (call.query.get("since"), call.query.get("until"));
        return Err(ApiError::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let query = EventQuery { since_ns, until_ns, filters: call.filters()? };
    let default = if call.at_least(52) { "application/jsonl" } else { "application/json" };
    let (content_type, framing) = Framing::negotiate(&call).unwrap_or((default, Framing::Lines));
    let content_type = HeaderValue::from_static(content_type);
    let requested = call.version;
    let mut stream = call.app.engine.events.subscribe(query);
    Ok(streams::stream_body(call.peer, content_type, move |sender| async move {
        while let Some(event) = stream.next().await {
            if !call_sees(requested, &event) {
                continue;
            }
            let Some(bytes) = encode(requested, event, framing) else { continue };
            sender.send(bytes).await?;
        }
        Ok(())
    }))
}

/// Events that a version did not have are not sent to its clients.
fn call_sees(requested: version::ApiVersion, event: &Message) -> bool {
    requested >= version::ApiVersion::new(1, 46) || event.kind != "image" || event.action != "create"
}

fn encode(requested: version::ApiVersion, event: Message, framing: Framing) -> Option<Vec<u8>> {
    // These belong to old versions, and are put back for them.
    let event = Message { status: String::new(), id: String::new(), from: String::new(), ..event };
    let mut value: Value = serde_json::to_value(&event).ok()?;
    version::shape(Reply::Event, requested, &mut value);
    let mut bytes = if framing == Framing::Sequence { vec![0x1e] } else { Vec::new() };
    bytes.extend_from_slice(value.to_string().as_bytes());
    bytes.push(b'\n');
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::event::Actor;
    use ferry_api::version::ApiVersion;

    #[test]
    fn events_are_shaped_for_their_reader() {
        let event = Message {
            status: "start".into(),
            kind: "container".into(),
            action: "start".into(),
            actor: Actor { id: "x".into(), ..Actor::default() },
            ..Message::default()
        };
        let text = |minor: u32, framing| {
            String::from_utf8(encode(ApiVersion::new(1, minor), event.clone(), framing).unwrap()).unwrap()
        };
        let newest = "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"x\",\"Attributes\":{}}}\n";
        assert_eq!(text(56, Framing::Lines), newest);
        assert_eq!(text(56, Framing::Sequence), format!("\u{1e}{newest}"));
        assert!(text(51, Framing::Lines).starts_with("{\"status\":\"start\",\"id\":\"x\",\"from\":\"\","));
    }

    #[test]
    fn image_create_is_new_in_1_46() {
        let event = Message { kind: "image".into(), action: "create".into(), ..Message::default() };
        assert!(call_sees(ApiVersion::new(1, 46), &event) && !call_sees(ApiVersion::new(1, 45), &event));
    }
}
