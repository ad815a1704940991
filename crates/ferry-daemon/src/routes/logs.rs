//! `/containers/{id}/logs`: what a container has said.

use ferry_engine::containers::{LogsForm, LogsOptions};
use hyper::header::HeaderValue;

use super::times;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::framing::Framing;
use crate::http::reply::Outcome;
use crate::http::router::{Route, get};
use crate::streams;

pub(super) fn routes() -> Vec<Route> {
    vec![get("/containers/{name:.*}/logs", logs)]
}

async fn logs(call: Call) -> Outcome {
    let time = |name: &str| {
        times::unix_ns(&call.query, name).map_err(|error| times::of_parameter(&format!("{name:?}"), error))
    };
    let json = json_form(&call)?;
    let options = LogsOptions {
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        follow: call.query.flag("follow"),
        since_ns: time("since")?,
        until_ns: time("until")?.filter(|_| call.query.get("until") != "0"),
        timestamps: call.query.flag("timestamps"),
        // As in Docker, what is no number is `all`, and so is a negative one.
        tail: call.query.get("tail").parse().ok(),
        details: call.query.flag("details"),
        form: json.map_or(LogsForm::Text, |(_, framing)| LogsForm::Json { separated: framing == Framing::Sequence }),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let mut session = call.app.engine.containers.logs(call.value("name"), options).await?;
    let content_type = match json {
        Some((media_type, _)) => HeaderValue::from_static(media_type),
        None => streams::content_type(session.tty, call.version),
    };
    Ok(streams::stream_body(call.peer, content_type, |sender| async move {
        while let Some(chunk) = session.chunks.recv().await {
            sender.send(chunk).await?;
        }
        Ok(())
    }))
}

/// Lines as JSON, asked for by `format=json` or by the media type.
fn json_form(call: &Call) -> Result<Option<(&'static str, Framing)>, ApiError> {
    if !call.at_least(54) {
        return Ok(None);
    }
    let negotiated = Framing::negotiate(call);
    match call.query.get("format") {
        "" => Ok(negotiated),
        "json" => Ok(Some(negotiated.unwrap_or(("application/x-ndjson", Framing::Lines)))),
        _ => Err(ApiError::invalid("unsupported log format")),
    }
}
