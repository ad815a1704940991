//! Containers: from create to remove.
//!
//! Owns `<data-root>/containers/<id>/` (but for the log and `exit.json`, which the shim writes) and `<exec-root>/c/<id[..12]>/`.
//! Leaves out how a process is confined (`bundle.rs` words it, the shim does it).
//!
//! Locks, in this order, none held across a client's I/O:
//! 1. `Container::verb`: one verb at a time changes a container (start, exit, remove, rename). `kill`, `inspect` and lists never take it.
//! 2. `Container::record`: what is known; held for copying or for one short change with its file write.
//! 3. `Index`: names and ids; held for a look-up or an insertion.
//!
//! `Container::signalling` is taken after the verb lock by an end, and alone by a signal.
//!
//! `Container::files` is taken after the verb lock by a start, and alone by work in files (`files.rs`).

mod addresses;
mod attach;
mod bundle;
mod combinations;
pub(crate) mod confinement;
mod control;
mod create;
mod deaf;
mod defaults;
mod donors;
mod ending;
mod files;
mod filter;
pub(crate) mod health;
mod inspect;
mod journal;
mod kernel_log;
mod kill;
mod labels;
mod limits;
mod links;
mod list;
pub(crate) mod logging;
mod logs;
mod lookup;
mod mounts;
mod networking;
mod next_start;
mod ports;
mod process;
mod prune;
mod quota;
pub(crate) mod record;
mod recover;
mod remove;
mod resources;
mod restart;
mod sources;
mod start;
pub(crate) mod state;
mod stats;
mod step;
mod stop;
mod supervisor;
mod top;
mod traffic;
mod update;
mod validate;
mod volume_import;
mod volume_verbs;
mod wait;
mod why;
mod writable;

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use ferry_shim::protocol::Streams;
use ferry_store::Store;
use ferry_store::record::Syncer;
use tokio::sync::watch;

pub(crate) use self::attach::stream_pair;
pub use self::attach::{AttachOptions, AttachSession};
pub(crate) use self::control::{devices as host_devices, end_cgroup, held_capabilities, sweep_cgroups};
pub use self::files::{ArchiveStream, CommitOptions, UnpackOptions};
pub use self::list::ListOptions;
pub use self::logs::{LogsForm, LogsOptions, LogsSession};
pub use self::remove::RemoveOptions;
pub(crate) use self::start::start_exit_code;
pub use self::stats::StatsSession;
pub use self::step::{Step, StepMount, StepRequest, StepSource};
pub(crate) use self::stop::is_restarting;
pub use self::stop::{StopOptions, Stopped};
pub use self::volume_verbs::{VolumeCopy, Writers};
pub use self::wait::{WaitCondition, WaitHandle};

use self::lookup::Index;
use self::record::Record;
use self::state::Status;
use self::stats::Sampler;
use crate::cgroups::{Place, Places};
use crate::config::EngineConfig;
use crate::error::{Context, Result};
use crate::events::Events;
use crate::execs::ExecTable;
use crate::images::Images;
use crate::networks::Networks;
use crate::plugins::Plugins;
use crate::selinux::{Category, Selinux};
use crate::shims::{ShimConnection, ShimPool};
use crate::volumes::Volumes;

/// The containers of one engine.
#[derive(Clone)]
pub struct Containers {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) instance: String,
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    pub(crate) plugins: Plugins,
    pub(crate) events: Events,
    pub(crate) syncer: Syncer,
    pub(crate) shims: ShimPool,
    pub(crate) selinux: Selinux,
    pub(crate) execs: ExecTable,
    /// A prune runs.
    pruning: AtomicBool,
    /// Held while a project number is chosen.
    projects: Mutex<()>,
    index: RwLock<Index>,
}

/// What the service is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) instance: String,
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    pub(crate) plugins: Plugins,
    pub(crate) shims: ShimPool,
    pub(crate) selinux: Selinux,
    pub(crate) events: Events,
    pub(crate) syncer: Syncer,
}

/// One container in memory.
pub(crate) struct Container {
    pub(crate) id: String,
    folder: PathBuf,
    verb: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    live: Mutex<Option<Arc<Live>>>,
    waiting: Mutex<Vec<WaitingClient>>,
    sampler: Sampler,
    changes: watch::Sender<Change>,
    watching_health: Mutex<Option<health::Watching>>,
    /// Restarts by hand that are under way: their stops are not the end of a `--rm` container.
    restarting_by_hand: AtomicUsize,
    /// Shared by who sends a signal and tells of it, until it is told.
    signalling: tokio::sync::RwLock<()>,
    files: files::FilesLock,
    /// Keeps the categories of its label from others, as long as it is there.
    _category: Option<Category>,
}

/// The connection to the shim of a container that runs.
pub(crate) struct Live {
    pub(crate) shim: ShimConnection,
    /// Execs that run or ran in this life, to tell them when it ends.
    pub(crate) execs: Mutex<HashMap<String, watch::Sender<Option<i32>>>>,
}

/// A client that attached before the start; its socket goes to the shim with the start.
struct WaitingClient {
    streams: Streams,
    socket: OwnedFd,
}

/// What waiting callers watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Counts ends of runs.
    pub(crate) exits: u64,
    /// Exit code of the last run that ended.
    pub(crate) exit_code: i32,
    /// Why it never ran, in the answer of `wait`.
    pub(crate) error: Option<String>,
    /// A process lives, or the policy is about to start one.
    pub(crate) running: bool,
    /// Somebody removes it by force: nothing waits for anything on its way to run.
    pub(crate) going: bool,
    /// Gone from the API.
    pub(crate) removed: bool,
}

impl Container {
    fn new(record: Record, folder: PathBuf, category: Option<Category>) -> Self {
        let change =
            Change { running: record.status.counts_as_running(), exit_code: record.exit_code, ..Change::default() };
        Self {
            id: record.id.clone(),
            folder,
            verb: tokio::sync::Mutex::new(()),
            record: Mutex::new(record),
            live: Mutex::new(None),
            waiting: Mutex::new(Vec::new()),
            sampler: Sampler::default(),
            changes: watch::channel(change).0,
            watching_health: Mutex::new(None),
            restarting_by_hand: AtomicUsize::new(0),
            signalling: tokio::sync::RwLock::new(()),
            files: files::FilesLock::default(),
            _category: category,
        }
    }

    /// A copy of what is known.
    pub(crate) fn snapshot(&self) -> Record {
        self.record.lock().expect("no panic while held").clone()
    }

    /// Looks at the record without copying it whole.
    pub(crate) fn with_record<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock().expect("no panic while held"))
    }

    pub(crate) fn status(&self) -> Status {
        self.with_record(|record| record.status)
    }

    /// Name as shown to users.
    pub(crate) fn name(&self) -> String {
        self.with_record(|record| record.name.clone())
    }

    /// The connection to its shim, while it runs.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().expect("no panic while held").clone()
    }

    pub(crate) fn set_live(&self, live: Option<Arc<Live>>) {
        *self.live.lock().expect("no panic while held") = live;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<WaitingClient>> {
        self.waiting.lock().expect("no panic while held")
    }

    fn watching_health(&self) -> MutexGuard<'_, Option<health::Watching>> {
        self.watching_health.lock().expect("no panic while held")
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    fn announce(&self, change: impl FnOnce(&mut Change)) {
        self.changes.send_modify(change);
    }

    /// Data folder.
    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }
}

impl Containers {
    /// Opens the service over its folders; containers come with `recover`.
    pub(crate) fn open(parts: Parts) -> Result<Self> {
        let data = parts.config.data_root.join("containers");
        fs::DirBuilder::new().recursive(true).mode(0o710).create(&data).context("cannot make the containers folder")?;
        let run = parts.config.exec_root.join("c");
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&run).context("cannot make the run-time folder")?;
        let inner = Inner {
            config: parts.config,
            instance: parts.instance,
            store: parts.store,
            images: parts.images,
            networks: parts.networks,
            volumes: parts.volumes,
            events: parts.events,
            syncer: parts.syncer,
            shims: parts.shims,
            selinux: parts.selinux,
            plugins: parts.plugins,
            execs: ExecTable::default(),
            pruning: AtomicBool::new(false),
            projects: Mutex::default(),
            index: RwLock::new(Index::default()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Data folder of a container.
    pub(crate) fn data_folder(&self, id: &str) -> PathBuf {
        self.inner.config.data_root.join("containers").join(id)
    }

    /// Run-time folder of a container's shim.
    pub(crate) fn run_folder(&self, id: &str) -> PathBuf {
        self.inner.config.exec_root.join("c").join(&id[..12])
    }

    /// Where the cgroups of this instance lie.
    pub(crate) fn places(&self) -> Places<'_> {
        Places::new(&self.inner.config, &self.inner.instance)
    }

    /// Where a container's cgroup lies.
    pub(crate) fn place(&self, record: &Record) -> Place {
        self.places().container(&record.host_config.cgroup_parent, &record.id)
    }

    /// cgroup of a container below the root of each hierarchy.
    pub(crate) fn cgroup(&self, record: &Record) -> String {
        self.place(record).path
    }

    /// Changes the record in memory and on disk together.
    pub(crate) fn update<T>(&self, container: &Container, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        let mut record = container.record.lock().expect("no panic while held");
        let mut changed = record.clone();
        let result = change(&mut changed);
        self.write_record(&changed)?;
        *record = changed;
        Ok(result)
    }

    /// Like [`Containers::update`], for facts that hold whether the disk takes them or not (an exit, say).
    pub(crate) fn update_whatever(&self, container: &Container, change: impl FnOnce(&mut Record)) {
        let mut record = container.record.lock().expect("no panic while held");
        change(&mut record);
        self.write_whatever(&record);
    }

    /// As [`Containers::update_whatever`]; the disk is told only where `change` says that it is to be.
    pub(crate) fn update_and_write(&self, container: &Container, change: impl FnOnce(&mut Record) -> bool) {
        let mut record = container.record.lock().expect("no panic while held");
        if change(&mut record) {
            self.write_whatever(&record);
        }
    }

    /// Changes what is known in memory alone, where the disk tells the same by other means.
    pub(crate) fn update_in_memory(container: &Container, change: impl FnOnce(&mut Record)) {
        change(&mut container.record.lock().expect("no panic while held"));
    }

    fn write_whatever(&self, record: &Record) {
        if let Err(error) = self.write_record(record) {
            tracing::error!(container = %record.name, error = %error.text(), "record not written; the daemon knows better than the disk");
        }
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.data_folder(&record.id).join("container.json");
        self.inner.syncer.write(&path, record).context(format!("cannot write the record of container {}", record.name))
    }

    /// Tells what happened to a container.
    pub(crate) fn publish(&self, record: &Record, action: &str, more: &[(&str, String)]) {
        if record.build_step {
            return;
        }
        let mut attributes = record.event_attributes();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.inner.events.publish("container", action, &record.id, attributes);
    }
}
