//! The daemon's own log: text on stderr.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;

/// Changes how much is logged.
pub(crate) struct Level(Handle<Targets, Registry>);

impl Level {
    /// From now on this much.
    pub(crate) fn set(&self, level: &str) {
        if let Err(error) = self.0.reload(targets(level)) {
            tracing::warn!(%error, "the level of the log stays as it is");
        }
    }
}

/// Foreign crates are heard from a warning on.
fn targets(level: &str) -> Targets {
    let level = LevelFilter::from_str(level).unwrap_or(LevelFilter::INFO);
    let own = ["ferryd", "ferry_engine", "ferry_network", "ferry_registry", "ferry_shim", "ferry_store", "ferry_sys"];
    own.into_iter().fold(Targets::new().with_default(LevelFilter::WARN.min(level)), |targets, crate_name| {
        targets.with_target(crate_name, level)
    })
}

/// Starts logging.
pub(crate) fn start(level: &str, raw: bool) -> Level {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(!raw && std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).init();
    Level(handle)
}
