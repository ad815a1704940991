//! `/exec`: further processes in a container.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ferry_api::exec::{CreateRequest, StartRequest};
use ferry_api::stream::{StreamKind, frame_header};
use ferry_engine::execs::StartOptions;
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::containers::{finish, window_size};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, get, post};
use crate::streams::{self, Session};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/containers/{name:.*}/exec", create),
        post("/exec/{id:.*}/start", start),
        post("/exec/{id:.*}/resize", resize),
        get("/exec/{id:.*}/json", inspect),
    ]
}

async fn create(mut call: Call) -> Outcome {
    let mut request: CreateRequest = call.json_or_default().await?;
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    // Refused now rather than when somebody types.
    streams::detach_keys(&request.detach_keys).map_err(|_| {
        let text = format!("Invalid escape keys ({}) provided", request.detach_keys);
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    if !call.at_least(42) {
        request.console_size = None;
    }
    let created = call.app.engine.execs.create(call.value("name"), request).await?;
    reply::json(StatusCode::CREATED, &created)
}

async fn start(mut call: Call) -> Outcome {
    let request: StartRequest = call.json_or_default().await?;
    let id = call.value("id").to_owned();
    let options = StartOptions {
        detach: request.detach,
        tty: request.tty,
        console_size: request.console_size.filter(|_| request.tty && call.at_least(42)).and_then(window_cells),
    };
    // Also answers for an exec that is not there.
    let inspected = call.app.engine.execs.inspect(&id).await?;
    let has_run = inspected.running || inspected.exit_code.is_some();
    let (app, exec) = (Arc::clone(&call.app), id.clone());
    let started = finish(async move { app.engine.execs.start(&exec, options).await }).await;
    let tty = inspected.process_config.tty;
    let app = Arc::clone(&call.app);
    let mut session = Session {
        tty,
        replay: None,
        stream: None,
        keys: if tty && inspected.open_stdin { Some(streams::detach_keys(&inspected.detach_keys)?) } else { None },
        on_detach: Box::new(move || app.engine.execs.detached(&id)),
    };
    match started {
        Ok(None) => return Ok(reply::status(StatusCode::OK)),
        Ok(Some(attached)) => session.stream = attached.stream,
        Err(error) if request.detach || error.status == StatusCode::NOT_FOUND => return Err(error),
        // A container that does not run is looked for first; an exec that has run already is not.
        Err(error) if error.status == StatusCode::CONFLICT && !has_run => return Err(error),
        // Docker has begun the stream by then, and says in it what went wrong.
        Err(error) => session.replay = Some(said(&format!("{}\r\n", error.message), tty)),
    }
    Ok(streams::respond(call, session))
}

fn window_cells([height, width]: [u32; 2]) -> Option<(u16, u16)> {
    Some((u16::try_from(height).ok()?, u16::try_from(width).ok()?))
}

/// Returns a stream that says one thing on stdout.
fn said(text: &str, tty: bool) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(1);
    let mut bytes = Vec::new();
    if !tty {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&frame_header(StreamKind::Stdout, length));
    }
    bytes.extend_from_slice(text.as_bytes());
    // There is room for one.
    let _ = sender.try_send(bytes.into());
    receiver
}

async fn resize(call: Call) -> Outcome {
    let (height, width) = window_size(&call)?;
    call.app.engine.execs.resize(call.value("id"), height, width).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn inspect(call: Call) -> Outcome {
    let mut exec = call.app.engine.execs.inspect(call.value("id")).await?;
    // Go writes bytes as base64.
    exec.detach_keys = if exec.detach_keys.is_empty() {
        String::new()
    } else {
        STANDARD.encode(streams::detach_keys(&exec.detach_keys)?.bytes())
    };
    reply::json(StatusCode::OK, &exec)
}
