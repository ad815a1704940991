//! `/networks`.

use std::sync::Arc;

use ferry_api::network::{ConnectRequest, CreateRequest, DisconnectRequest};
use ferry_api::version::Reply;
use hyper::StatusCode;

use super::containers::finish;
use crate::http::call::Call;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/networks", list),
        post("/networks/create", create),
        post("/networks/prune", prune),
        post("/networks/{id:.*}/connect", connect),
        post("/networks/{id:.*}/disconnect", disconnect),
        get("/networks/{id:.*}", inspect),
        delete("/networks/{id:.*}", remove),
    ]
}

async fn create(mut call: Call) -> Outcome {
    let request: CreateRequest = call.json().await?;
    let app = Arc::clone(&call.app);
    let created = finish(async move { app.engine.networks.create(request).await }).await?;
    reply::json(StatusCode::CREATED, &created)
}

async fn remove(call: Call) -> Outcome {
    let (app, id) = (Arc::clone(&call.app), call.value("id").to_owned());
    finish(async move { app.engine.networks.remove(&id).await }).await?;
    reply::no_content()
}

async fn prune(call: Call) -> Outcome {
    let (app, filters) = (Arc::clone(&call.app), call.filters()?);
    let report = finish(async move { app.engine.networks.prune(&filters).await }).await?;
    reply::json(StatusCode::OK, &report)
}

async fn connect(mut call: Call) -> Outcome {
    let request: ConnectRequest = call.json_or_default().await?;
    let (app, id) = (Arc::clone(&call.app), call.value("id").to_owned());
    finish(async move { app.engine.containers.connect_network(&id, request).await }).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn disconnect(mut call: Call) -> Outcome {
    let request: DisconnectRequest = call.json_or_default().await?;
    let (app, id) = (Arc::clone(&call.app), call.value("id").to_owned());
    finish(async move { app.engine.containers.disconnect_network(&id, request).await }).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn list(call: Call) -> Outcome {
    let networks = call.app.engine.networks.list(&call.filters()?).await?;
    reply::shaped(Reply::NetworkSummary, call.version, &networks)
}

async fn inspect(call: Call) -> Outcome {
    let network =
        call.app.engine.networks.inspect(call.value("id"), call.query.non_empty("scope").unwrap_or_default()).await?;
    reply::shaped(Reply::NetworkInspect, call.version, &network)
}
