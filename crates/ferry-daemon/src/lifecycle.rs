//! The daemon's life: start, readiness, signals, stop.
//!
//! Order of the start: the pid file and the listeners are taken first, so that a second daemon learns it before it touches anything; then the
//! engine starts and recovers; only then are clients answered. Those that came in between wait in the kernel's queue.

mod notify;
mod pidfile;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_build::Builder;
use ferry_engine::Engine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::notify::notify;
use self::pidfile::PidFile;
use crate::app::App;
use crate::config::Config;
use crate::log::Level;
use crate::server::Server;
use crate::server::listen::{Listener, TcpAccess};
use crate::server::tls::Tls;

/// Descriptors that a daemon with many containers and clients wants.
const WANTED_DESCRIPTORS: u64 = 1 << 20;
/// Threads for blocking work; each costs memory for as long as it lives.
const BLOCKING_THREADS: usize = 64;
/// Time for answers under way when the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

type AnyError = Box<dyn Error + Send + Sync>;

/// Runs the daemon until it is told to stop.
pub(crate) fn run(config: Config) -> Result<(), AnyError> {
    if !rustix::process::geteuid().is_root() {
        return Err("ferryd needs to be started with root privileges".into());
    }
    let level = crate::log::start(&config.log_level, config.raw_logs);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("ferryd")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(config, level));
    // What still reads a log or waits for a client is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, level: Level) -> Result<(), AnyError> {
    let mut signals = Signals::new()?;
    let _pid_file = PidFile::take(&config.pidfile)?;
    let access = TcpAccess {
        insecure: config.insecure_tcp,
        tls: config.tls.as_ref().map(Tls::load).transpose()?,
        verifies: config.tls.as_ref().is_some_and(|files| files.client_authority.is_some()),
    };
    let listeners =
        config.hosts.iter().map(|host| Listener::bind(host, &config.group, &access)).collect::<Result<Vec<_>, _>>()?;
    // What was handed over is ours alone.
    ferry_sys::process::close_on_exec_from(3)?;
    let engine = Engine::start(config.engine).await?;
    let builder = {
        let engine = engine.clone();
        tokio::task::spawn_blocking(move || Builder::open(engine, config.builder)).await??
    };
    let app = Arc::new(App::new(engine, builder));
    let (stop, stopped) = watch::channel(false);
    let server = Server::new(Arc::clone(&app), stopped);
    let mut accepting = JoinSet::new();
    for (listeners, host) in listeners.into_iter().zip(&config.hosts) {
        tracing::info!(address = ?host, "API listen");
        for listener in listeners {
            accepting.spawn(Arc::clone(&server).accept_loop(listener));
        }
    }
    drop(server);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "daemon has completed initialization");
    notify("READY=1");
    app.builder.collect_after_start();
    // What only the start needed: a daemon mostly waits.
    tokio::task::spawn_blocking(ferry_sys::memory::give_back);

    signals.until_stop(|| reload(&app.engine, &level)).await;
    notify("STOPPING=1");
    let host_stops = host_is_stopping().await;
    tracing::info!(host_stops, "processing signal, stopping");
    // Nobody is accepted any more; requests under way get their answers, streams end with their containers or with us.
    stop.send_replace(true);
    while accepting.join_next().await.is_some() {}
    tokio::select! {
        () = app.engine.shutdown(host_stops) => {}
        () = signals.until_stop(|| tracing::info!("stopping, nothing is reloaded")) => tracing::warn!("second signal, not waiting any longer"),
    }
    let _ = tokio::time::timeout(DRAIN, stop.closed()).await;
    tracing::info!("daemon shutdown complete");
    Ok(())
}

/// Reads the configuration once more; one that is wrong changes nothing.
fn reload(engine: &Engine, level: &Level) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    match crate::config::reload(std::env::args().skip(1), &engine.live_settings()) {
        Ok((live, log_level)) => {
            level.set(&log_level);
            tracing::info!(?live, "reloaded configuration");
            engine.reload(live);
        }
        Err(error) => tracing::error!(error = crate::chain(&error), "cannot reload the configuration"),
    }
    notify("READY=1");
}

/// The signals a daemon gets.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the signal to stop; others are served meanwhile.
    async fn until_stop(&mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => reload(),
                _ = self.user1.recv() => tracing::warn!("not implemented: dumping stacks (SIGUSR1)"),
            }
        }
    }
}

/// Tells whether the host goes down, so that containers are not to outlive us.
async fn host_is_stopping() -> bool {
    if !Path::new("/run/systemd/system").exists() {
        return false;
    }
    let asked = tokio::process::Command::new("systemctl").arg("is-system-running").kill_on_drop(true).output();
    match tokio::time::timeout(Duration::from_secs(2), asked).await {
        Ok(Ok(output)) => output.stdout.trim_ascii() == b"stopping",
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot ask systemd whether the host stops");
            false
        }
        // A manager that busy is most likely going down; but containers stopped without need are worse than ones killed late.
        Err(_) => false,
    }
}

/// Raises the limit on descriptors as far as it goes.
fn raise_descriptor_limit() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(WANTED_DESCRIPTORS), maximum: Some(WANTED_DESCRIPTORS) };
    if now.current.is_none_or(|current| current >= WANTED_DESCRIPTORS) || setrlimit(Resource::Nofile, wanted).is_ok() {
        return;
    }
    // Without the right to raise the hard limit, the soft one may at least reach it.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}
