//! `/volumes`.

use ferry_api::volume::CreateRequest;
use ferry_engine::containers::{VolumeCopy, Writers};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};

use super::images::body_stream;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post, route};
use crate::streams;

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/volumes", list),
        post("/volumes/create", create),
        post("/volumes/prune", prune),
        post("/volumes/{name:.*}/copy", copy),
        post("/volumes/{name:.*}/rename", rename),
        get("/volumes/{name:.*}/archive", export),
        route(Method::PUT, "/volumes/{name:.*}/archive", import),
        get("/volumes/{name:.*}/usage", usage),
        get("/volumes/{name:.*}", inspect),
        route(Method::PUT, "/volumes/{name:.*}", update),
        delete("/volumes/{name:.*}", remove),
    ]
}

async fn list(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.volumes.list(&call.filters()?).await?)
}

async fn create(mut call: Call) -> Outcome {
    let request: CreateRequest = call.json_or_default().await?;
    if request.cluster_volume_spec.is_some() && call.at_least(42) {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM));
    }
    reply::json(StatusCode::CREATED, &call.app.engine.volumes.create(request).await?)
}

async fn prune(call: Call) -> Outcome {
    let mut filters = call.filters()?;
    if !call.at_least(42) {
        // Named volumes were pruned too, then.
        filters.add("all", "true");
    }
    reply::json(StatusCode::OK, &call.app.engine.volumes.prune(&filters).await?)
}

async fn copy(call: Call) -> Outcome {
    let writers = match (call.query.flag("pause"), call.query.flag("live")) {
        (true, _) => Writers::Paused,
        (false, true) => Writers::GoOn,
        (false, false) => Writers::Refused,
    };
    let copy = VolumeCopy { to: call.query.get("to").to_owned(), snapshot: call.query.flag("snapshot"), writers };
    let made = call.app.engine.containers.copy_volume(call.value("name"), copy).await?;
    reply::json(StatusCode::CREATED, &made)
}

async fn rename(call: Call) -> Outcome {
    call.app.engine.containers.rename_volume(call.value("name"), call.query.get("to")).await?;
    reply::no_content()
}

async fn export(call: Call) -> Outcome {
    let mut archive = call.app.engine.containers.export_volume(call.value("name")).await?;
    Ok(streams::stream_body(call.peer, HeaderValue::from_static("application/x-tar"), |body| async move {
        while let Some(piece) = archive.next().await {
            body.send(piece).await?;
        }
        Ok(())
    }))
}

async fn import(call: Call) -> Outcome {
    let (name, replace) = (call.value("name").to_owned(), call.query.flag("replace"));
    let Call { app, request, .. } = call;
    app.engine.containers.import_volume(&name, replace, body_stream(request.into_body())).await?;
    reply::no_content()
}

async fn usage(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.containers.volume_use(call.value("name")).await?)
}

/// Cluster volumes are those of a swarm.
async fn update(_: Call) -> Outcome {
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

async fn inspect(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.volumes.inspect(call.value("name")).await?)
}

async fn remove(call: Call) -> Outcome {
    call.app.engine.volumes.remove(call.value("name"), call.query.flag("force")).await?;
    reply::no_content()
}
