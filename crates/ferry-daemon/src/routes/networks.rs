//! `/networks`.

use ferry_api::version::Reply;

use crate::http::call::Call;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, get};

pub(super) fn routes() -> Vec<Route> {
    vec![get("/networks", list), get("/networks/{id:.*}", inspect)]
}

async fn list(call: Call) -> Outcome {
    let networks = call.app.engine.networks.list(&call.filters()?).await?;
    reply::shaped(Reply::NetworkSummary, call.version, &networks)
}

async fn inspect(call: Call) -> Outcome {
    let network = call.app.engine.networks.inspect(call.value("id")).await?;
    reply::shaped(Reply::NetworkInspect, call.version, &network)
}
