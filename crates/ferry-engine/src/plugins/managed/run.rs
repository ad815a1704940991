//! A plugin that runs: started by `enable` and by the daemon's start, started again when it ends by itself, ended by `disable`.
//!
//! A shim is its parent, as a container's; with it a plugin outlives a daemon that is killed, and is found again.

use std::fs::{self, DirBuilder};
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferry_shim::client;
use ferry_shim::protocol::{Event, LogOptions, Reply, Request, Start, Streams, Target};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, open_tree};
use tokio::sync::{mpsc, watch};

use super::spec::{self, Folders};
use super::{Entry, Managed, PROPAGATED, ROOTFS};
use crate::cgroups::Places;
use crate::error::{Context, Error, Result, os_text};
use crate::shims::ShimConnection;

/// How long a plugin may take until it listens.
const LISTEN: Duration = Duration::from_secs(10);
/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(10);
/// Before it is started again after it ended by itself; doubled up to a minute.
const RESTART: Duration = Duration::from_millis(200);

/// The life of a plugin.
#[derive(Default)]
pub(super) struct Runs {
    live: Mutex<Option<Arc<Life>>>,
}

/// One run.
struct Life {
    shim: ShimConnection,
    /// It is meant to end.
    stopping: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl Entry {
    fn life(&self) -> Option<Arc<Life>> {
        self.runs.live.lock().expect("no panic while held").clone()
    }

    fn set_life(&self, life: Option<Arc<Life>>) {
        *self.runs.live.lock().expect("no panic while held") = life;
    }
}

impl Managed {
    /// The run-time folder of a plugin.
    pub(super) fn run_time(&self, id: &str) -> PathBuf {
        self.inner.config.exec_root.join("p").join(&id[..12])
    }

    /// Where a plugin's socket is.
    pub(super) fn sockets(&self, id: &str) -> PathBuf {
        self.run_time(id).join("sockets")
    }

    fn places(&self) -> Places<'_> {
        Places::new(&self.inner.config, &self.inner.instance)
    }

    /// Starts a plugin.
    ///
    /// API: `POST /plugins/{name}/enable`
    ///
    /// # Errors
    /// NotFound; Conflict when it runs; what failed otherwise, and it does not run then.
    pub async fn enable(&self, name: &str, timeout_s: u64) -> Result<()> {
        let (managed, name) = (self.clone(), name.to_owned());
        crate::finish(async move {
            let entry = managed.find(&name)?;
            let _verb = entry.verb.lock().await;
            let record = entry.record();
            if record.enabled {
                return Err(Error::conflict(format!("plugin already enabled: plugin {} is enabled", record.name)));
            }
            managed.start(&entry).await?;
            let noted = managed.update(&entry, |record| {
                record.enabled = true;
                record.timeout_s = timeout_s;
                Ok(())
            });
            if noted.is_err() {
                managed.stop(&entry).await;
            }
            noted?;
            managed.publish("enable", &entry.id, &name);
            Ok(())
        })
        .await
    }

    /// Stops a plugin that nobody uses, or any when forced.
    ///
    /// API: `POST /plugins/{name}/disable`
    ///
    /// # Errors
    /// NotFound; Conflict when it does not run or is used.
    pub async fn disable(&self, name: &str, force: bool) -> Result<()> {
        let (managed, name) = (self.clone(), name.to_owned());
        crate::finish(async move {
            let entry = managed.find(&name)?;
            let _verb = entry.verb.lock().await;
            let record = entry.record();
            if !force && managed.inner.users.any(&record.name) {
                return Err(Error::conflict(format!("plugin {} is in use", record.name)));
            }
            if !record.enabled {
                let text = format!("plugin is already disabled: plugin {} found but disabled", record.name);
                return Err(Error::conflict(text));
            }
            managed.update(&entry, |record| {
                record.enabled = false;
                Ok(())
            })?;
            managed.stop(&entry).await;
            managed.publish("disable", &entry.id, &name);
            Ok(())
        })
        .await
    }

    /// Finds plugins that ran on while no daemon was there, starts those that are enabled and do not run, and ends the others.
    pub(crate) async fn recover(&self) {
        let entries: Vec<Arc<Entry>> = self.table().values().cloned().collect();
        let known: Vec<String> = entries.iter().map(|entry| entry.id[..12].to_owned()).collect();
        self.sweep(&known).await;
        let recovered = entries.iter().map(|entry| async move {
            let _verb = entry.verb.lock().await;
            let enabled = entry.record().enabled;
            let found = self.adopt(entry).await;
            match (enabled, found) {
                (true, true) => {}
                (true, false) => {
                    self.clean_up(entry).await;
                    if let Err(error) = self.start(entry).await {
                        let name = entry.record().name;
                        tracing::error!(plugin = %name, error = %error.text(), "plugin not started; it is disabled now");
                        // As in Docker: whoever looks sees that it does not run.
                        let _ = self.update(entry, |record| {
                            record.enabled = false;
                            Ok(())
                        });
                    }
                }
                (false, true) => self.stop(entry).await,
                (false, false) => self.clean_up(entry).await,
            }
        });
        futures_util::future::join_all(recovered).await;
    }

    /// Run-time folders and cgroups of plugins that are no more.
    async fn sweep(&self, known: &[String]) {
        let root = self.inner.config.exec_root.join("p");
        let stale: Vec<PathBuf> = fs::read_dir(&root)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !known.iter().any(|id| entry.file_name().to_string_lossy() == id.as_str()))
            .map(|entry| entry.path())
            .collect();
        let parent = self.places().plugins();
        let is_known = |id: &str| known.iter().any(|one| id.starts_with(one.as_str()));
        let scopes = self.places().stale_plugin_scopes(is_known);
        let known = known.to_vec();
        let _: Result<()> = crate::blocking(move || {
            crate::containers::sweep_cgroups(&parent, |id| known.iter().any(|one| id.starts_with(one.as_str())));
            scopes.iter().for_each(|scope| crate::containers::end_cgroup(scope, &parent));
            for folder in stale {
                if let Err(error) = fs::remove_dir_all(&folder) {
                    tracing::warn!(folder = %folder.display(), %error, "run-time folder of no plugin left behind");
                }
            }
            Ok(())
        })
        .await;
    }

    async fn adopt(&self, entry: &Arc<Entry>) -> bool {
        let folder = self.run_time(&entry.id).join("run");
        let connected = crate::blocking(move || client::connect(&folder).context("no shim")).await;
        let Ok(socket) = connected else { return false };
        let Ok((shim, events)) = ShimConnection::open(socket) else { return false };
        match shim.call(Request::State, &[]).await {
            Ok(Reply::State(state)) if state.id == entry.id && state.exit.is_none() => {
                let life =
                    Arc::new(Life { shim, stopping: watch::Sender::new(false), ended: watch::Sender::new(false) });
                if let Ok((ours, theirs)) = UnixStream::pair() {
                    let streams = Streams { stdin: false, stdout: true, stderr: true };
                    let attach = Request::Attach { target: Target::Init, streams };
                    if life.shim.command(attach, &[OwnedFd::from(theirs)]).await.is_ok() {
                        tell_output(entry.record().name, ours);
                    }
                }
                entry.set_life(Some(Arc::clone(&life)));
                self.watch(Arc::clone(entry), life, events);
                true
            }
            Ok(_) => {
                let _ = shim.command(Request::Shutdown, &[]).await;
                false
            }
            Err(_) => false,
        }
    }

    /// Starts the process and waits until it listens; the caller holds the verb lock.
    async fn start(&self, entry: &Arc<Entry>) -> Result<()> {
        let begun = self.begin(entry).await;
        let listening = match begun {
            Ok(()) => self.wait_until_it_listens(entry).await,
            Err(error) => Err(error),
        };
        if listening.is_err() {
            self.stop(entry).await;
        }
        listening
    }

    async fn begin(&self, entry: &Arc<Entry>) -> Result<()> {
        let spare = self.inner.shims.take()?;
        self.inner.shims.refill();
        let (socket, process) = spare.into_parts();
        let (shim, events) = ShimConnection::open(socket).context("cannot talk to the shim")?;
        let (managed, started) = (self.clone(), Arc::clone(entry));
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let prepared = crate::blocking(move || managed.prepare(&started, theirs)).await;
        let (start, fds) = prepared?;
        match shim.call(Request::Start(Box::new(start)), &fds).await {
            Ok(Reply::Started { .. }) => {}
            Ok(_) => return Err(Error::internal("the shim gave an answer that does not fit")),
            Err(error) => return Err(Error::internal(error.to_string())),
        }
        tell_output(entry.record().name, ours);
        let life = Arc::new(Life { shim, stopping: watch::Sender::new(false), ended: watch::Sender::new(false) });
        entry.set_life(Some(Arc::clone(&life)));
        self.watch(Arc::clone(entry), life, events);
        // Reaped when it ends.
        drop(process);
        Ok(())
    }

    fn prepare(&self, entry: &Entry, output: UnixStream) -> Result<(Start, Vec<OwnedFd>)> {
        let record = entry.record();
        super::fetch::fs_safe(&record.config)?;
        let (folder, run_time) = (self.folder(&entry.id), self.run_time(&entry.id));
        let (run, sockets, logging) = (run_time.join("run"), run_time.join("sockets"), run_time.join("logging"));
        for part in [&run, &sockets, &logging] {
            let make = || DirBuilder::new().recursive(true).mode(0o700).create(part);
            // The folder of all goes with the last that ends, at any time.
            let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            let made = make().or_else(|error| if gone(&error) { make() } else { Err(error) });
            made.context("cannot make the run-time folder")?;
        }
        let propagated = folder.join(PROPAGATED);
        if !record.config.propagated_mount.is_empty() {
            share(&propagated).context("error setting up propagated mount dir")?;
        }
        for stale in ["exit.json", "config.json"] {
            // Of an earlier run, or none.
            let _ = fs::remove_file(folder.join(stale));
        }
        let (place, shims) = (self.places().plugin(&entry.id), self.places().shims());
        let folders = Folders { sockets: &sockets, logging: &logging, propagated: &propagated };
        let spec = spec::of(&record, &folders, &place.path, &crate::containers::held_capabilities())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let rootfs = open_tree(CWD, folder.join(ROOTFS), flags).context("cannot take the plugin's files")?;
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fds = vec![
            open(&folder).context("cannot open the plugin's folder")?,
            open(&run).context("cannot open the run-time folder")?,
            rootfs,
            OwnedFd::from(output),
        ];
        let start = Start {
            id: entry.id.clone(),
            spec,
            run_dir: run,
            rootfs_fd: true,
            network_fd: false,
            mount_fds: Vec::new(),
            cgroup: place.path,
            scope: place.scope,
            shim_cgroup: Some(shims.path),
            shim_scope: shims.scope,
            open_stdin: false,
            stdin_once: false,
            log: LogOptions::None,
            foreign_runtime: None,
            attached: vec![Streams { stdin: false, stdout: true, stderr: true }],
        };
        Ok((start, fds))
    }

    async fn wait_until_it_listens(&self, entry: &Entry) -> Result<()> {
        let socket = self.sockets(&entry.id).join(entry.record().config.interface.socket);
        let begun = Instant::now();
        loop {
            let error = match tokio::net::UnixStream::connect(&socket).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let over = entry.life().is_none_or(|life| *life.ended.borrow());
            if over || begun.elapsed() > LISTEN {
                let reason = os_text(&error);
                return Err(Error::internal(format!("dial unix {}: connect: {reason}", socket.display())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Hears the end of a run, and starts another where nobody wanted it to end.
    fn watch(&self, entry: Arc<Entry>, life: Arc<Life>, mut events: mpsc::UnboundedReceiver<Event>) {
        let managed = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if matches!(event, Event::Exited(_)) {
                    break;
                }
            }
            // It waits for this; one that is gone already has nothing to tidy.
            let _ = life.shim.command(Request::Shutdown, &[]).await;
            life.ended.send_replace(true);
            let name = entry.record().name;
            let mut wait = RESTART;
            while !*life.stopping.borrow() && entry.record().enabled {
                tracing::warn!(plugin = %name, wait_ms = wait.as_millis(), "plugin has ended by itself, starting it again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(60));
                let _verb = entry.verb.lock().await;
                let is_this_run = entry.life().is_some_and(|now| Arc::ptr_eq(&now, &life));
                if !is_this_run || *life.stopping.borrow() || !entry.record().enabled {
                    return;
                }
                managed.clean_up(&entry).await;
                match managed.begin(&entry).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(plugin = %name, error = %error.text(), "plugin not started again"),
                }
                entry.set_life(Some(Arc::clone(&life)));
            }
        });
    }

    /// Ends a plugin; the caller holds the verb lock.
    pub(super) async fn stop(&self, entry: &Arc<Entry>) {
        if let Some(life) = entry.life() {
            life.stopping.send_replace(true);
            let mut ended = life.ended.subscribe();
            for signal in [libc::SIGTERM, libc::SIGKILL] {
                let kill = Request::Kill { target: Target::Init, signal, all: signal == libc::SIGKILL };
                // One that has ended meanwhile is told of by its event.
                let _ = life.shim.command(kill, &[]).await;
                if tokio::time::timeout(END, ended.wait_for(|ended| *ended)).await.is_ok() {
                    break;
                }
            }
            entry.set_life(None);
        }
        self.clean_up(entry).await;
    }

    /// What a run leaves.
    async fn clean_up(&self, entry: &Entry) {
        let (run_time, places) = (self.run_time(&entry.id), self.places());
        let (cgroup, parent) = (places.plugin(&entry.id).path, places.plugins());
        let propagated = self.folder(&entry.id).join(PROPAGATED);
        let _: Result<()> = crate::blocking(move || {
            crate::containers::end_cgroup(&cgroup, &parent);
            super::take_off_mounts(&propagated);
            match fs::remove_dir_all(&run_time) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %run_time.display(), %error, "run-time folder of a plugin left behind");
                }
                _ => {}
            }
            // The last one's; another is made with the next.
            let _ = run_time.parent().map(fs::remove_dir);
            Ok(())
        })
        .await;
    }

    /// Ends every plugin, for a daemon that ends with its containers. They are enabled still.
    pub(crate) async fn stop_all(&self) {
        let entries: Vec<Arc<Entry>> = self.table().values().cloned().collect();
        let stops = entries.iter().map(|entry| async move {
            let _verb = entry.verb.lock().await;
            if entry.life().is_some() {
                self.stop(entry).await;
            }
        });
        futures_util::future::join_all(stops).await;
    }
}

/// A folder that is a mount of its own, and shares what is mounted below.
fn share(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    rustix::mount::mount(folder, folder, "", MountFlags::BIND | MountFlags::REC, None)?;
    Ok(rustix::mount::mount_change(folder, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?)
}

/// Words what a plugin prints as messages of the daemon.
fn tell_output(name: String, socket: UnixStream) {
    let told = std::thread::Builder::new().name("plugin".to_owned()).spawn(move || {
        let mut output = std::io::BufReader::new(socket);
        // Frames begin with their stream and length; a line ends where the plugin ended it.
        let mut line = Vec::new();
        loop {
            line.clear();
            match output.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = match line.as_slice() {
                        [1 | 2, 0, 0, 0, _, _, _, _, text @ ..] => text,
                        text => text,
                    };
                    let text = String::from_utf8_lossy(text);
                    tracing::info!(plugin = %name, "{}", text.trim_end());
                }
            }
        }
    });
    if let Err(error) = told {
        tracing::warn!(%error, "output of a plugin is not told");
    }
}
