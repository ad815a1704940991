//! Bringing the services up and down, in order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use ferry_spec::digest::Digest;
use ferry_store::Store;
use ferry_store::record::{self, Syncer};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::compare::Compare;
use crate::config::{EngineConfig, Live};
use crate::containers::{Containers, Parts};
use crate::error::{Context, Error, Result};
use crate::events::Events;
use crate::execs::Execs;
use crate::images::Images;
use crate::networks::Networks;
use crate::plugins::managed::{Managed, Parts as PluginParts};
use crate::plugins::{Plugins, Users};
use crate::selinux::Selinux;
use crate::shims::ShimPool;
use crate::system::System;
use crate::volumes::Volumes;
use crate::workshop::Workshop;

/// Format of the data root that this build writes and reads.
const FORMAT: u32 = 1;
/// The program of `--init`, compiled in.
const INIT_PROGRAM: &[u8] = ferry_init::INIT;

/// Every service of one data root; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// Containers.
    pub containers: Containers,
    /// Execs.
    pub execs: Execs,
    /// Images.
    pub images: Images,
    /// Networks.
    pub networks: Networks,
    /// Volumes.
    pub volumes: Volumes,
    /// What builds work with.
    pub workshop: Workshop,
    /// Plugins.
    pub plugins: Plugins,
    /// Events.
    pub events: Events,
    /// What is told about the whole.
    pub system: System,
    /// Comparing images and containers.
    pub compare: Compare,
    config: Arc<EngineConfig>,
    syncer: Syncer,
    _lock: Arc<File>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FormatFile {
    version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct EngineRecord {
    id: String,
}

impl Engine {
    /// Takes the data root, opens the services and recovers what ran.
    ///
    /// # Errors
    /// When another daemon has the data root, when a newer ferry wrote it, or when the host lacks something.
    pub async fn start(config: EngineConfig) -> Result<Self> {
        let config = Arc::new(config);
        check_log_defaults(&config)?;
        make_roots(&config)?;
        let lock = lock_data_root(&config.data_root)?;
        check_format(&config.data_root)?;
        let instance = instance_id(&config.data_root)?;
        write_init_program(&config.exec_root)?;
        load_apparmor_profile();
        let selinux = Selinux::of_host(config.selinux);
        selinux.show_to_containers(&config.exec_root.join("ferry-init"));
        let syncer = Syncer::start().context("cannot start the thread that syncs records")?;
        let id = engine_id(&config.data_root)?;

        let events = Events::open(&config.exec_root)?;
        let store =
            Store::open_with(&config.data_root, config.image_store.limits).context("cannot open the image store")?;
        let images = Images::open(&config, store.clone(), events.clone())?;
        let shims = ShimPool::open(&config.shim_program)?;
        let users = Users::default();
        let managed = Managed::open(PluginParts {
            config: Arc::clone(&config),
            instance: instance.clone(),
            store: store.clone(),
            images: images.clone(),
            events: events.clone(),
            syncer: syncer.clone(),
            shims: shims.clone(),
            users: users.clone(),
        })?;
        let plugins = Plugins::new(managed, users);
        let volumes = Volumes::open(&config.data_root, events.clone(), syncer.clone(), plugins.clone())?;
        let networks = Networks::open(&config, &instance, events.clone(), &syncer, plugins.clone())?;
        let containers = Containers::open(Parts {
            config: Arc::clone(&config),
            instance,
            store: store.clone(),
            images: images.clone(),
            networks: networks.clone(),
            volumes: volumes.clone(),
            plugins: plugins.clone(),
            shims,
            selinux,
            events: events.clone(),
            syncer: syncer.clone(),
        })?;
        // Before containers, which may have volumes and logs of theirs.
        plugins.managed().recover().await;
        containers.recover().await?;
        networks.repeat_requests();
        images.start_upkeep();
        let compare = Compare::new(store.clone(), images.clone(), containers.clone());
        let workshop = Workshop::open(&config, store.clone(), containers.clone())?;
        let system = System::new(
            id,
            Arc::clone(&config),
            store,
            containers.clone(),
            images.clone(),
            volumes.clone(),
            networks.clone(),
        );
        let execs = Execs::new(containers.clone());
        plugins
            .check_authorizers(&config.live.get().authorization_plugins)
            .await
            .map_err(|error| Error::new(error.kind(), "failed to validate authorization plugin").with_source(error))?;
        Ok(Self {
            containers,
            execs,
            images,
            networks,
            volumes,
            workshop,
            plugins,
            events,
            system,
            compare,
            config,
            syncer,
            _lock: Arc::new(lock),
        })
    }

    /// The settings in force.
    pub fn live_settings(&self) -> Arc<Live> {
        self.config.live.get()
    }

    /// Puts other settings in force and tells so.
    pub fn reload(&self, live: Live) {
        self.images.reload(&self.config, &live);
        let attributes = reload_attributes(&live);
        self.config.live.set(live);
        self.events.publish("daemon", "reload", self.system.id(), attributes);
    }

    /// Ends the engine. Containers run on when `live-restore` is set and the host stays up; they are stopped otherwise.
    pub async fn shutdown(&self, host_is_stopping: bool) {
        let live = self.config.live.get();
        if host_is_stopping || !live.live_restore {
            self.containers.stop_all(live.shutdown_timeout_s).await;
        }
        self.volumes.finish_unmounts().await;
        if host_is_stopping || !live.live_restore {
            self.plugins.managed().stop_all().await;
        }
        let (engine, nothing_runs) = (self.clone(), !self.containers.anything_runs());
        self.containers.close(nothing_runs);
        let closed = tokio::task::spawn_blocking(move || {
            engine.networks.close(nothing_runs);
            engine.images.save_last_used();
            if let Err(error) = engine.syncer.flush() {
                tracing::error!(%error, "records not synced");
            }
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "shutdown did not end in order");
        }
    }
}

/// As in Docker, a driver without options is looked at when a container asks for it.
fn check_log_defaults(config: &EngineConfig) -> Result<()> {
    if config.log_options.is_empty() {
        return Ok(());
    }
    let options = config.log_options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    crate::containers::logging::validate(&config.log_driver, &options)
        .map_err(|error| Error::new(error.kind(), "failed to set log opts").with_source(error))
}

fn make_roots(config: &EngineConfig) -> Result<()> {
    for (root, mode) in [(&config.data_root, 0o710), (&config.exec_root, 0o711)] {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(root);
        made.context(format!("cannot make {}", root.display()))?;
    }
    Ok(())
}

/// Locks by `flock`, which ends with the process, however it ends.
fn lock_data_root(data_root: &Path) -> Result<File> {
    let path = data_root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.context(format!("cannot open {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::conflict(format!(
            "another ferryd uses the data root {}; stop it, or choose another `--data-root`",
            data_root.display()
        ))),
        Err(error) => Err(error).context(format!("cannot lock {}", path.display())),
    }
}

fn check_format(data_root: &Path) -> Result<()> {
    let path = data_root.join("format.json");
    match fs::read(&path) {
        Ok(text) => {
            let found: FormatFile = serde_json::from_slice(&text).context(format!("cannot read {}", path.display()))?;
            if found.version > FORMAT {
                return Err(Error::conflict(format!(
                    "{} was written by a newer ferry (format {}, this one knows {FORMAT}); nothing was changed",
                    data_root.display(),
                    found.version
                )));
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = serde_json::to_vec(&FormatFile { version: FORMAT }).expect("plain data");
            let new = data_root.join("format.json.new");
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, &path))
                .context(format!("cannot write {}", path.display()))
        }
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

/// First 8 hex digits of SHA-256 over the canonical path of the data root.
fn instance_id(data_root: &Path) -> Result<String> {
    let canonical = data_root.canonicalize().context(format!("cannot resolve {}", data_root.display()))?;
    Ok(Digest::sha256(canonical.as_os_str().as_encoded_bytes()).hex()[..8].to_owned())
}

/// Containers bind mount it; written anew at each start, beside and renamed, so that those that run keep theirs.
fn write_init_program(exec_root: &Path) -> Result<()> {
    let path = exec_root.join("ferry-init");
    let new = exec_root.join("ferry-init.new");
    fs::write(&new, INIT_PROGRAM)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o555)))
        .and_then(|()| fs::rename(&new, &path))
        .context(format!("cannot write {}", path.display()))
}

/// Puts this version's profile in the place of an older one, aside: nobody waits for it, and a container that is quicker loads it itself.
fn load_apparmor_profile() {
    if crate::containers::confinement::apparmor::is_enabled() {
        tokio::task::spawn_blocking(|| {
            if let Err(error) = crate::containers::confinement::apparmor::install() {
                tracing::warn!(%error, "containers will not start under the default profile");
            }
        });
    }
}

/// What the event of a reload tells, by Docker's names; what cannot be changed here is at its default.
fn reload_attributes(live: &Live) -> BTreeMap<String, String> {
    let list = |values: &[String]| serde_json::to_string(values).expect("plain text");
    let runtimes: Vec<String> =
        live.runtimes.iter().map(|(name, runtime)| format!("{name}:{}", runtime.path.display())).collect();
    let pairs = [
        ("debug", live.debug.to_string()),
        ("default-cgroupns-mode", "private".to_owned()),
        ("default-ipc-mode", "private".to_owned()),
        ("default-runtime", live.default_runtime.clone()),
        ("default-shm-size", live.default_shm_size_bytes.to_string()),
        ("default-stop-timeout", "10".to_owned()),
        ("features", "map[]".to_owned()),
        ("insecure-registries", list(&live.insecure_registries)),
        ("labels", list(&live.labels)),
        ("live-restore", live.live_restore.to_string()),
        ("max-concurrent-downloads", live.max_concurrent_downloads.to_string()),
        ("max-concurrent-uploads", live.max_concurrent_uploads.to_string()),
        ("max-download-attempts", live.max_download_attempts.to_string()),
        ("name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("registry-mirrors", list(&live.registry_mirrors)),
        ("runtimes", runtimes.join(" ")),
        ("shutdown-timeout", live.shutdown_timeout_s.to_string()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Made once per data root.
fn engine_id(data_root: &Path) -> Result<String> {
    let path = data_root.join("engine.json");
    match record::read::<EngineRecord>(&path) {
        Ok(Some(record)) => return Ok(record.id),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "engine record set aside"),
    }
    let hex = crate::ids::random_id();
    let id = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    record::write(&path, &EngineRecord { id: id.clone() }).context(format!("cannot write {}", path.display()))?;
    Ok(id)
}
