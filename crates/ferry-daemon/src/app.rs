//! What every handler shares: the engine and the routing table.

use std::sync::Arc;

use ferry_api::version;
use ferry_build::Builder;
use ferry_build::buildkit::{BuildKit, Worker};
use ferry_engine::Engine;
use hyper::header::HeaderValue;

use crate::http::router::Route;
use crate::routes;

/// The version that clients are told: the Docker release whose behaviour is followed.
pub(crate) const SERVER_VERSION: &str = "29.7.2";

/// Returns the commit this was built from, where the build said so.
pub(crate) fn build() -> &'static str {
    option_env!("FERRY_BUILD").unwrap_or("unknown")
}

/// Header values of every response.
pub(crate) struct HeaderValues {
    pub(crate) api_version: HeaderValue,
    pub(crate) server: HeaderValue,
}

/// What every handler shares.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) builder: Builder,
    pub(crate) buildkit: Arc<BuildKit>,
    pub(crate) uploads: routes::Uploads,
    pub(crate) header_values: HeaderValues,
    routes: Vec<Route>,
}

impl App {
    pub(crate) fn new(engine: Engine, builder: Builder) -> Self {
        let text = |text: String| HeaderValue::from_str(&text).expect("version texts are plain ASCII");
        let worker = Worker { version: env!("CARGO_PKG_VERSION").to_owned(), revision: build().to_owned() };
        Self {
            engine,
            buildkit: Arc::new(BuildKit::new(builder.clone(), worker)),
            builder,
            uploads: routes::Uploads::default(),
            header_values: HeaderValues {
                api_version: text(version::NEWEST.to_string()),
                server: text(format!("Docker/{SERVER_VERSION} (linux)")),
            },
            routes: routes::table(),
        }
    }

    /// Returns the routing table.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }
}
