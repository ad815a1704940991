//! `/plugins`: ferry has no managed plugins, so there is none to list and none of any name.

use hyper::StatusCode;

use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get};

pub(super) fn routes() -> Vec<Route> {
    vec![get("/plugins", list), get("/plugins/{name:.*}/json", not_found), delete("/plugins/{name:.*}", not_found)]
}

async fn list(call: Call) -> Outcome {
    call.filters()?.validate(&["capability", "enabled"])?;
    reply::json(StatusCode::OK, &[(); 0])
}

async fn not_found(call: Call) -> Outcome {
    Err(ApiError::new(StatusCode::NOT_FOUND, format!("plugin {:?} not found", call.value("name"))))
}
