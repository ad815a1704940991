//! The daemon's own log: text on stderr.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. Foreign crates are heard from a warning on.
pub(crate) fn start(level: &str, raw: bool) {
    let level = LevelFilter::from_str(level).unwrap_or(LevelFilter::INFO);
    let own = ["ferryd", "ferry_engine", "ferry_network", "ferry_registry", "ferry_shim", "ferry_store", "ferry_sys"];
    let targets =
        own.into_iter().fold(Targets::new().with_default(LevelFilter::WARN.min(level)), |targets, crate_name| {
            targets.with_target(crate_name, level)
        });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(!raw && std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(targets).init();
}
