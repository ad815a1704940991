//! The routing table, one module per kind of object.

mod buildkit;
mod builds;
mod containers;
mod execs;
mod files;
mod images;
mod logs;
mod networks;
mod plugins;
mod system;
mod times;
mod unbuilt;
mod volumes;

pub(crate) use self::builds::Uploads;

use crate::http::router::Route;

/// Returns every route; what is known but not built comes last and answers 501.
pub(crate) fn table() -> Vec<Route> {
    [
        system::routes(),
        logs::routes(),
        containers::routes(),
        execs::routes(),
        files::routes(),
        images::routes(),
        builds::routes(),
        buildkit::routes(),
        volumes::routes(),
        networks::routes(),
        plugins::routes(),
        unbuilt::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
