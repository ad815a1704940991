//! Endpoints of the API that are known and not built: each answers 501 and names itself.

use hyper::Method;

use crate::http::error::ApiError;
use crate::http::router::{Route, route};

const ENDPOINTS: &[(Method, &str)] = &[
    (Method::GET, "/debug/pprof"),
    (Method::GET, "/debug/pprof/cmdline"),
    (Method::GET, "/debug/pprof/profile"),
    (Method::GET, "/debug/pprof/symbol"),
    (Method::GET, "/debug/pprof/trace"),
    (Method::GET, "/debug/pprof/{name}"),
    (Method::GET, "/debug/vars"),
    (Method::GET, "/containers/{name:.*}/checkpoints"),
    (Method::POST, "/containers/{name:.*}/checkpoints"),
    (Method::DELETE, "/containers/{name:.*}/checkpoints/{checkpoint}"),
    (Method::GET, "/configs"),
    (Method::POST, "/configs/create"),
    (Method::DELETE, "/configs/{id}"),
    (Method::GET, "/configs/{id}"),
    (Method::POST, "/configs/{id}/update"),
    (Method::GET, "/nodes"),
    (Method::DELETE, "/nodes/{id}"),
    (Method::GET, "/nodes/{id}"),
    (Method::POST, "/nodes/{id}/update"),
    (Method::GET, "/secrets"),
    (Method::POST, "/secrets/create"),
    (Method::DELETE, "/secrets/{id}"),
    (Method::GET, "/secrets/{id}"),
    (Method::POST, "/secrets/{id}/update"),
    (Method::GET, "/services"),
    (Method::POST, "/services/create"),
    (Method::DELETE, "/services/{id}"),
    (Method::GET, "/services/{id}"),
    (Method::GET, "/services/{id}/logs"),
    (Method::POST, "/services/{id}/update"),
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/init"),
    (Method::POST, "/swarm/join"),
    (Method::POST, "/swarm/leave"),
    (Method::POST, "/swarm/unlock"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/{id}"),
    (Method::GET, "/tasks/{id}/logs"),
];

pub(super) fn routes() -> Vec<Route> {
    ENDPOINTS
        .iter()
        .map(|(method, pattern)| {
            let name = format!("{method} {}", pattern.replace(":.*", ""));
            route(method.clone(), pattern, move |_| {
                let error = ApiError::not_implemented(&name);
                async move { Err(error) }
            })
        })
        .collect()
}
