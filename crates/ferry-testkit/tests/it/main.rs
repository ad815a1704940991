//! End-to-end tests, by noun, against real daemons in sandboxes of their own.

mod attach;
mod bad_input;
mod bake;
mod build;
mod build_attestations;
mod build_caches;
mod build_flags;
mod build_inputs;
mod build_outputs;
mod build_shell;
mod build_tables;
mod build_transfers;
mod buildkit;
mod buildx;
mod churn;
mod clients;
mod confinement;
mod contexts;
mod crash;
mod daemon;
mod default_bridge;
mod definitions;
mod differential;
mod events;
mod exec;
mod files;
mod flags;
mod hangs;
mod health;
mod hostile;
mod image_tools;
mod image_values;
mod images;
mod leak;
mod logs;
mod map;
mod mounts;
mod networks;
mod options;
mod place;
mod plugins;
mod ports;
mod pull;
mod python;
mod registry;
mod registry_lies;
mod registry_tls;
mod reload;
mod remote_logs;
mod resources;
mod restart;
mod rules;
mod run;
mod runtimes;
mod sandbox;
mod scale;
mod servers;
mod shapes;
mod table;
mod tls;
mod torture;
mod traffic;
mod tty;
mod volumes;
mod why;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_testkit::command::Outcome;
use ferry_testkit::material::Material;
use ferry_testkit::registry::Registry;
use ferry_testkit::{Daemon, Sandbox};

/// Waits for a condition that an engine reaches by itself. It takes milliseconds, but on a machine that does ten other things.
#[track_caller]
fn until(what: &str, condition: impl FnMut() -> bool) {
    let mut condition = condition;
    let limit = Duration::from_secs(60);
    ferry_testkit::wait::until(what, limit, || condition().then_some(())).unwrap();
}

/// Waits until so many clients have been attached since the daemon's first start, those of `run` counted.
#[track_caller]
fn attached(daemon: &Daemon, clients: usize) {
    until("a client to be attached", || {
        let told = daemon.run(&["events", "--since", "1h", "--until", "0s", "--filter", "event=attach"]);
        told.out().lines().count() >= clients
    });
}

/// Runs a command line that must be answered within two seconds, whatever hangs. A loaded machine gets ten times more of what a
/// request takes at that moment which can meet nothing that hangs.
#[track_caller]
fn promptly(daemon: &Daemon, args: &[&str]) -> Outcome {
    let begun = Instant::now();
    let _ = daemon.run(&["version"]).ok();
    let limit = Duration::from_secs(2) + 10 * begun.elapsed();
    let begun = Instant::now();
    let outcome = daemon.run(args);
    let took = begun.elapsed();
    assert!(took < limit, "{args:?} took {took:?}, and may take {limit:?}: {outcome}");
    outcome
}

/// The verbs that must always answer, the last of which ends the container.
#[track_caller]
fn verbs_answer(daemon: &Daemon, name: &str) {
    assert!(promptly(daemon, &["ps", "-a"]).ok().contains(name));
    let _ = promptly(daemon, &["inspect", name]).ok();
    let _ = promptly(daemon, &["kill", name]);
    let _ = promptly(daemon, &["rm", "-f", name]).ok();
}

/// A sandbox with a registry in it and a daemon that has it as its mirror.
struct Mirrored {
    daemon: Daemon,
    _registry: Registry,
}

impl Mirrored {
    fn start() -> Self {
        let sandbox: Arc<Sandbox> = Sandbox::new().unwrap();
        let registry = Registry::start(&sandbox, &Material::get().storage()).unwrap();
        let daemon = Daemon::ferry(&sandbox, "a").args(&["--registry-mirror", "http://127.0.0.1:5000"]);
        daemon.start().unwrap();
        Self { daemon, _registry: registry }
    }
}
