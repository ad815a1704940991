//! `/volumes`.

use ferry_api::volume::CreateRequest;
use hyper::StatusCode;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/volumes", list),
        post("/volumes/create", create),
        post("/volumes/prune", prune),
        get("/volumes/{name:.*}", inspect),
        delete("/volumes/{name:.*}", remove),
    ]
}

async fn list(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.volumes.list(&call.filters()?).await?)
}

async fn create(mut call: Call) -> Outcome {
    let request: CreateRequest = call.json_or_default().await?;
    if request.cluster_volume_spec.is_some() {
        return Err(ApiError::not_implemented("cluster volumes (`ClusterVolumeSpec`)"));
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

async fn inspect(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.volumes.inspect(call.value("name")).await?)
}

async fn remove(call: Call) -> Outcome {
    call.app.engine.volumes.remove(call.value("name"), call.query.flag("force")).await?;
    reply::no_content()
}
