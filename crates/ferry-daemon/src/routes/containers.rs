//! `/containers`: from create to removal.

use std::sync::Arc;

use ferry_api::container::{CreateRequest, StopReport, UpdateRequest};
use ferry_api::version::{Reply, adapt_create, adapt_update};
use ferry_engine::containers::{AttachOptions, ListOptions, RemoveOptions, StopOptions, Stopped, WaitCondition};
use hyper::StatusCode;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post};
use crate::streams::{self, Session, websocket};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/containers/json", list),
        post("/containers/create", create),
        get("/containers/{name:.*}/json", inspect),
        get("/containers/{name:.*}/stats", stats),
        get("/containers/{name:.*}/top", top),
        get("/containers/{name:.*}/why", why),
        get("/containers/{name:.*}/flows", flows),
        post("/containers/prune", prune),
        post("/containers/{name:.*}/start", start),
        post("/containers/{name:.*}/stop", stop),
        post("/containers/{name:.*}/restart", restart),
        post("/containers/{name:.*}/kill", kill),
        post("/containers/{name:.*}/pause", pause),
        post("/containers/{name:.*}/unpause", unpause),
        post("/containers/{name:.*}/rename", rename),
        post("/containers/{name:.*}/update", update),
        post("/containers/{name:.*}/resize", resize),
        post("/containers/{name:.*}/attach", attach),
        get("/containers/{name:.*}/attach/ws", attach_websocket),
        post("/containers/{name:.*}/wait", wait),
        delete("/containers/{name:.*}", remove),
    ]
}

async fn list(call: Call) -> Outcome {
    let limit = call.query.integer("limit")?.unwrap_or(0);
    let options = ListOptions {
        all: call.query.flag("all"),
        size: call.query.flag("size"),
        limit: Some(limit).filter(|limit| *limit > 0),
        filters: call.filters()?,
    };
    let containers = call.app.engine.containers.list(options).await?;
    reply::shaped(Reply::ContainerSummary, call.version, &containers)
}

async fn create(mut call: Call) -> Outcome {
    let mut request: CreateRequest = call.json().await?;
    if request.config == ferry_api::container::Config::default() {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    let warnings = adapt_create(call.version, &mut request, cgroup_v2()).map_err(ApiError::invalid)?;
    let platform = call.query.non_empty("platform").filter(|_| call.at_least(41));
    if call.query.flag("dryRun") {
        let name = call.query.non_empty("name");
        let (container, more) = call.app.engine.containers.dry_run(name, platform, request).await?;
        return reply::planned(call.version, &container, &[warnings, more].concat());
    }
    let mut created = call.app.engine.containers.create(call.query.non_empty("name"), platform, request).await?;
    created.warnings.extend(warnings);
    reply::json(StatusCode::CREATED, &created)
}

/// Tells whether the host has the unified cgroup hierarchy alone.
fn cgroup_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

async fn inspect(call: Call) -> Outcome {
    let container = call.app.engine.containers.inspect(call.value("name"), call.query.flag("size")).await?;
    reply::shaped(Reply::ContainerInspect, call.version, &container)
}

async fn why(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.containers.why(call.value("name")).await?)
}

async fn flows(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.containers.flows(call.value("name")).await?)
}

async fn prune(call: Call) -> Outcome {
    let report = call.app.engine.containers.prune(call.filters()?).await?;
    reply::json(StatusCode::OK, &report)
}

async fn stats(call: Call) -> Outcome {
    let name = call.value("name");
    if !call.query.flag_or("stream", true) {
        let one_shot = call.at_least(41) && call.query.flag("one-shot");
        return reply::json(StatusCode::OK, &call.app.engine.containers.stats_once(name, one_shot).await?);
    }
    let mut session = call.app.engine.containers.stats(name)?;
    Ok(streams::stream_body(call.peer, reply::JSON, |sender| async move {
        while let Some(stats) = session.next().await {
            sender.send(reply::line(&stats).unwrap_or_default()).await?;
        }
        Ok(())
    }))
}

async fn top(call: Call) -> Outcome {
    let top = call.app.engine.containers.top(call.value("name"), call.query.get("ps_args")).await?;
    reply::json(StatusCode::OK, &top)
}

async fn start(call: Call) -> Outcome {
    let has_body = hyper::body::Body::size_hint(call.request.body()).exact().is_none_or(|length| length > 7);
    if has_body {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    // The folder alone means nothing, to Docker neither.
    if call.query.non_empty("checkpoint").is_some() {
        return Err(ApiError::invalid("checkpoint is only supported in experimental mode"));
    }
    // Work that has begun is finished, whether the client waits for it or not.
    let (app, name) = (Arc::clone(&call.app), call.value("name").to_owned());
    finish(async move { app.engine.containers.start(&name).await }).await?;
    reply::no_content()
}

async fn stop(call: Call) -> Outcome {
    let options = stop_options(&call)?;
    let (app, name) = (Arc::clone(&call.app), call.value("name").to_owned());
    stopped(finish(async move { app.engine.containers.stop(&name, options).await }).await?)
}

/// Docker's answer, but where the client asked for more and there is more to tell.
fn stopped(stopped: Stopped) -> Outcome {
    match stopped.killed_at_once {
        Some(reason) => reply::json(StatusCode::OK, &StopReport { killed_at_once: reason }),
        None => reply::no_content(),
    }
}

async fn restart(call: Call) -> Outcome {
    let options = stop_options(&call)?;
    let (app, name) = (Arc::clone(&call.app), call.value("name").to_owned());
    stopped(finish(async move { app.engine.containers.restart(&name, options).await }).await?)
}

fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    let signal = call.query.non_empty("signal").filter(|_| call.at_least(42));
    Ok(StopOptions {
        signal: signal.map(str::to_owned),
        timeout_s: call.query.integer("t")?,
        // Of our own: Docker's clients never ask for it, and get Docker's behaviour.
        kill_deaf: call.query.flag("kill-deaf"),
        by: call.peer.describe(),
    })
}

/// Runs a verb in a task of its own: a client that leaves ends its answer, not the verb.
pub(super) async fn finish<T, F>(verb: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = ferry_engine::Result<T>> + Send + 'static,
{
    match tokio::spawn(verb).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the verb did not end: {error}"))),
    }
}

async fn kill(call: Call) -> Outcome {
    let name = call.value("name");
    let by = call.peer.describe();
    call.app.engine.containers.kill(name, call.query.non_empty("signal"), by).await.map_err(|error| {
        let error = ApiError::from(error);
        ApiError { message: format!("cannot kill container: {name}: {}", error.message), ..error }
    })?;
    reply::no_content()
}

async fn pause(call: Call) -> Outcome {
    call.app.engine.containers.pause(call.value("name")).await?;
    reply::no_content()
}

async fn unpause(call: Call) -> Outcome {
    call.app.engine.containers.unpause(call.value("name")).await?;
    reply::no_content()
}

async fn rename(call: Call) -> Outcome {
    call.app.engine.containers.rename(call.value("name"), call.query.get("name")).await?;
    reply::no_content()
}

async fn update(mut call: Call) -> Outcome {
    let mut request: UpdateRequest = call.json().await?;
    adapt_update(call.version, &mut request);
    reply::json(StatusCode::OK, &call.app.engine.containers.change(call.value("name"), request).await?)
}

async fn resize(call: Call) -> Outcome {
    let (height, width) = window_size(&call)?;
    call.app.engine.containers.resize(call.value("name"), height, width).await?;
    Ok(reply::status(StatusCode::OK))
}

/// Reads the size of a window. Kernels know none beyond 65535; larger ones are cut to that.
pub(super) fn window_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let cells =
        |key: &str, what: &str| call.query.size(key, what).map(|cells| u16::try_from(cells).unwrap_or(u16::MAX));
    Ok((cells("h", "resize height")?, cells("w", "resize width")?))
}

async fn attach(call: Call) -> Outcome {
    let streams = [call.query.flag("stdin"), call.query.flag("stdout"), call.query.flag("stderr")];
    let session = attach_session(&call, streams).await?;
    Ok(streams::respond(call, session))
}

async fn attach_websocket(call: Call) -> Outcome {
    let accepted = websocket::accept(&call)?;
    // Older clients could not choose.
    let chosen = |name: &str| !call.at_least(42) || call.query.flag(name);
    let streams = [chosen("stdin"), chosen("stdout"), chosen("stderr")];
    let session = attach_session(&call, streams).await?;
    websocket::respond(call, accepted, session)
}

/// Attaches to the input and the two outputs that are wanted.
async fn attach_session(call: &Call, [stdin, stdout, stderr]: [bool; 3]) -> Result<Session, ApiError> {
    let keys = streams::detach_keys(call.query.get("detachKeys"))?;
    let (stream, logs) = (call.query.flag("stream"), call.query.flag("logs"));
    let options = AttachOptions { stdin, stdout, stderr, stream, logs };
    let name = call.value("name").to_owned();
    let attached = call.app.engine.containers.attach(&name, options).await?;
    let app = Arc::clone(&call.app);
    Ok(Session {
        tty: attached.tty,
        replay: attached.replay,
        stream: attached.stream,
        keys: (attached.tty && stdin).then_some(keys),
        on_detach: Box::new(move || app.engine.containers.detached(&name)),
    })
}

async fn wait(call: Call) -> Outcome {
    let condition = match call.query.get("condition") {
        _ if !call.at_least(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let handle = call.app.engine.containers.wait(call.value("name"), condition)?;
    if !call.at_least(30) {
        return reply::json(StatusCode::OK, &handle.finish().await?);
    }
    Ok(streams::stream_body(call.peer, reply::JSON, |sender| async move {
        match handle.finish().await {
            Ok(status) => sender.send(reply::line(&status).unwrap_or_default()).await,
            Err(error) => {
                // The headers are gone already; an empty body is an error to every client.
                tracing::error!(error = error.text(), "cannot wait for a container");
                Ok(())
            }
        }
    }))
}

async fn remove(call: Call) -> Outcome {
    let options =
        RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v"), link: call.query.flag("link") };
    let (app, name) = (Arc::clone(&call.app), call.value("name").to_owned());
    finish(async move { app.engine.containers.remove(&name, options).await }).await?;
    reply::no_content()
}
