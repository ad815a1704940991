//! `POST /containers/{id}/start`, and every other way in which a container comes to run.
//!
//! Intent is written first; then network and files are made side by side; then one message to a shim does the rest. Whatever fails, what was made
//! before it is taken back.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_shim::protocol::{LogOptions, Reply, Request, ShimError, ShimErrorKind, Start};
use ferry_spec::runtime::{Capabilities, Process, Spec};
use ferry_store::MountOptions;
use rustix::fs::{Mode, OFlags};

use super::bundle::{self, Host};
use super::confinement::{Kernel, apparmor};
use super::donors::{Donor, Donors};
use super::logging::PluginLog;
use super::networking::Network;
use super::record::{EndpointRecord, MountKind, Record};
use super::sources::Given;
use super::state::{Intent, Status, Step};
use super::{Container, Containers, Live, logging, next_start, resources};
use crate::blocking;
use crate::clock;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::shims::{ShimCallError, ShimConnection};

/// What the thread for files hands over.
struct Files {
    spec: Spec,
    /// Sources of mounts that come as descriptors.
    given: Vec<Given>,
    rootfs: OwnedFd,
    container_dir: OwnedFd,
    run_dir: OwnedFd,
}

impl Containers {
    /// Starts a container.
    ///
    /// API: `POST /containers/{id}/start`
    ///
    /// # Errors
    /// NotFound; NotModified when it runs; Conflict when it is paused or going; what failed otherwise.
    pub async fn start(&self, reference: &str) -> Result<()> {
        let container = self.find(reference)?;
        let containers = self.clone();
        // Once begun it is finished, whether the client stays or not.
        crate::finish(async move { containers.start_found(&container).await }).await
    }

    pub(super) async fn start_found(&self, container: &Arc<Container>) -> Result<()> {
        let verb = container.verb.lock().await;
        self.may_start(container)?;
        // Written with the intent of the run.
        Self::update_in_memory(container, |record| {
            record.restart_count = 0;
            record.life.backoff_step = 0;
            record.stopped_by_hand = false;
        });
        let result = self.run(container).await;
        drop(verb);
        if result.is_err() && container.with_record(|record| record.host_config.auto_remove) {
            self.remove_after_failure(container).await;
        }
        result
    }

    fn may_start(&self, container: &Container) -> Result<()> {
        let record = container.snapshot();
        match (record.intent, record.status) {
            (Intent::Removing, _) => {
                Err(Error::conflict(format!("container {} is marked for removal and cannot be started", record.name)))
            }
            (_, Status::Paused) => {
                Err(Error::conflict("cannot start a paused container, try unpause instead".to_owned()))
            }
            (_, Status::Running | Status::Restarting) => Err(Error::not_modified("already running")),
            _ => Ok(()),
        }
    }

    /// Brings the process to life; the caller holds the verb lock.
    pub(super) async fn run(&self, container: &Arc<Container>) -> Result<()> {
        // Whoever works in its files has them mounted, and may take as long as a client likes; a removal does not wait for that.
        let mut going = container.watch();
        let files = tokio::select! {
            files = container.files.take() => files,
            _ = going.wait_for(|change| change.going) => return Err(going_away(container)),
        };
        self.update(container, |record| {
            next_start::take_up(record);
            record.intent = Intent::Starting;
            record.forget_last_run();
        })?;
        let outcome = self.try_run(container).await;
        drop(files);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => {
                self.undo(container).await;
                self.failed_to_start(container, &error);
                Err(error)
            }
        }
    }

    async fn try_run(&self, container: &Arc<Container>) -> Result<()> {
        self.mount_foreign_volumes(container).await?;
        let log = self.begin_log(container).await?;
        let record = container.snapshot();
        let donors = Arc::new(self.donors(&record).await?);
        let spare = self.inner.shims.take()?;
        self.inner.shims.refill();

        let network = {
            let containers = self.clone();
            let (record, donors) = (record.clone(), Arc::clone(&donors));
            blocking(move || containers.make_network(&record, donors.network()))
        };
        let files = {
            let containers = self.clone();
            let (record, donors) = (record.clone(), Arc::clone(&donors));
            blocking(move || containers.make_files(&record, &donors))
        };
        let (network, files) = tokio::join!(network, files);
        let (connected, mut files) = match (network, files) {
            (Ok(connected), Ok(files)) => (connected, files),
            (Err(error), _) | (_, Err(error)) => {
                self.inner.shims.give_back(spare);
                return Err(error);
            }
        };
        if !connected.endpoints.is_empty() {
            self.write_hosts(&record, &connected.endpoints)?;
        }
        self.note_endpoints(container, &connected)?;

        let (socket, process) = spare.into_parts();
        let (shim, events) = ShimConnection::open(socket).context("cannot talk to the shim")?;
        let live = Arc::new(Live { shim, execs: Mutex::default() });
        let (request, fds) = self.start_request(container, &record, &connected, &mut files, log.as_ref())?;
        self.publish_mounts(&record);
        let answer = live.shim.call(Request::Start(Box::new(request)), &fds).await;
        drop((fds, files.rootfs, files.container_dir, files.run_dir, connected.sandbox, donors));
        let pid = match answer {
            Ok(Reply::Started { pid }) => pid,
            answer => {
                self.publish_unmounts(&record);
                return Err(match answer {
                    Ok(_) => Error::internal("the shim gave an answer that does not fit"),
                    Err(error) => start_error(&record, error),
                });
            }
        };
        self.now_running(container, pid, &live);
        self.attach_latecomers(container, &live).await;
        if self.names_by_links().contains_key(&container.id) {
            let (containers, started) = (self.clone(), container.snapshot());
            let told = blocking(move || {
                containers.tell_linking(&started);
                Ok(())
            });
            told.await?;
        }
        self.begin_health(container);
        self.publish(&container.snapshot(), "start", &[]);
        self.supervise(Arc::clone(container), live, events, Some(process));
        Ok(())
    }

    /// Makes plugins bring their volumes, and notes where they are. A plugin may take its time, but not that of a removal by force.
    async fn mount_foreign_volumes(&self, container: &Arc<Container>) -> Result<()> {
        let record = container.snapshot();
        let names = foreign_volumes(&record);
        if names.is_empty() {
            return Ok(());
        }
        let mut going = container.watch();
        let places = tokio::select! {
            places = self.inner.volumes.mount_foreign(&names, &record.id) => places?,
            _ = going.wait_for(|change| change.going) => return Err(going_away(container)),
        };
        self.update(container, |record| {
            for mount in &mut record.mounts {
                if let MountKind::Volume { name, source, .. } = &mut mount.kind
                    && let Some(place) = places.get(name)
                {
                    source.clone_from(place);
                }
            }
        })
    }

    /// Tells a log plugin; it may take its time, but not that of a removal by force.
    async fn begin_log(&self, container: &Arc<Container>) -> Result<Option<PluginLog>> {
        let mut going = container.watch();
        tokio::select! {
            log = self.begin_plugin_log(container) => log,
            _ = going.wait_for(|change| change.going) => Err(going_away(container)),
        }
    }

    fn publish_mounts(&self, record: &Record) {
        for mount in &record.mounts {
            let MountKind::Volume { name, driver, .. } = &mount.kind else { continue };
            let attributes = [
                ("container", record.id.as_str()),
                ("destination", mount.destination.as_str()),
                ("propagation", mount.propagation.as_str()),
                ("read/write", if mount.writable { "true" } else { "false" }),
            ];
            self.inner.volumes.publish_use("mount", name, driver, &attributes);
        }
    }

    /// Tells that a container's run has left its volumes.
    pub(super) fn publish_unmounts(&self, record: &Record) {
        for mount in &record.mounts {
            let MountKind::Volume { name, driver, .. } = &mount.kind else { continue };
            self.inner.volumes.publish_use("unmount", name, driver, &[("container", record.id.as_str())]);
        }
    }

    /// Whatever of network and volumes was made: port and address are free when the failure is told.
    async fn undo(&self, container: &Container) {
        let (containers, record) = (self.clone(), container.snapshot());
        // Failures are logged where they arise; the first error is the one to tell.
        let _ = blocking(move || {
            if !record.endpoints.is_empty() {
                containers.inner.networks.disconnect(&record.id);
            }
            containers.unmount_volumes(&record);
            containers.end_plugin_log(&record.id);
            Ok(())
        })
        .await;
    }

    fn now_running(&self, container: &Container, pid: u32, live: &Arc<Live>) {
        self.update_whatever(container, |record| {
            // Together: who is told that it runs may ask for an exec at once.
            container.set_live(Some(Arc::clone(live)));
            record.status = record.status.after(Step::Started).unwrap_or(Status::Running);
            record.intent = Intent::None;
            record.pid = pid;
            record.has_started = true;
            record.started_ns = clock::now_ns();
        });
        self.inner.images.set_running(&container.id, true);
        container.announce(|change| change.running = true);
    }

    fn failed_to_start(&self, container: &Container, error: &Error) {
        let exit_code = start_exit_code(&error.text());
        self.update_whatever(container, |record| {
            if record.status == Status::Restarting {
                record.status = Status::Exited;
            }
            record.intent = Intent::None;
            record.pid = 0;
            record.exit_code = exit_code;
            record.error = error.text();
            record.published.clear();
            record.endpoints.values_mut().for_each(EndpointRecord::forget_place);
            if record.has_started {
                record.finished_ns = clock::now_ns();
            }
        });
        container.waiting().clear();
        let text = error.text();
        container.announce(|change| {
            change.running = false;
            change.exit_code = exit_code;
            change.error = Some(text);
        });
    }

    /// Folders, sources of mounts, the root file system, the configuration; on failure no volume is left mounted.
    fn make_files(&self, record: &Record, donors: &Donors) -> Result<Files> {
        self.mount_volumes(record)?;
        self.make_files_over_volumes(record, donors).inspect_err(|_| self.unmount_volumes(record))
    }

    fn make_files_over_volumes(&self, record: &Record, donors: &Donors) -> Result<Files> {
        let folder = self.data_folder(&record.id);
        let run_folder = self.run_folder(&record.id);
        make_run_folder(&run_folder).context("cannot make the run-time folder")?;
        match fs::remove_file(folder.join("exit.json")) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot clear the last exit"),
        }
        crate::cgroups::give_realtime(&self.cgroup(record), self.inner.config.cpu_realtime)
            .context("cannot give containers their real-time budget")?;
        self.prepare_binds(record)?;
        self.label_mounts(record)?;
        self.write_etc(record, &folder)?;
        let options = MountOptions {
            volatile: record.host_config.auto_remove || record.build_step,
            limited: super::quota::is_limited(record),
            label: record.mount_label(),
            ..MountOptions::default()
        };
        let mounted = self.inner.store.mount_rootfs(
            record.chain_id.as_ref(),
            &folder.join("upper"),
            &folder.join("work"),
            options,
        );
        let rootfs = mounted.context("cannot mount the root file system")?;
        let host = self.host(record, donors, &folder)?;
        self.label_etc(record, &host)?;
        let mut spec = bundle::spec(record, &host)?;
        let profile = spec.process.as_ref().and_then(|process| process.apparmor_profile.as_deref());
        apparmor::ensure(profile)?;
        let mut given = self.open_sources(record, &spec, donors.ipc().map(Donor::process), &rootfs)?;
        self.inject_devices(record, &mut spec, &mut given)?;
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Files {
            spec,
            given,
            rootfs,
            container_dir: open(&folder).context("cannot open the container's folder")?,
            run_dir: open(&run_folder).context("cannot open the run-time folder")?,
        })
    }

    fn host(&self, record: &Record, donors: &Donors, folder: &Path) -> Result<Host> {
        let etc = folder.join("etc");
        let file = |name: &str| etc.join(name).display().to_string();
        let mut host = Host {
            hosts_path: file("hosts"),
            hostname_path: file("hostname"),
            resolv_conf_path: file("resolv.conf"),
            init_program: self.inner.config.exec_root.join("ferry-init").display().to_string(),
            cgroup: self.cgroup(record),
            joined_ipc: donors.ipc().map(Donor::path),
            joined_pid: donors.pid().map(Donor::path),
            network_given: record.host_config.network_mode != "host",
            devices: super::control::devices(&record.host_config)?,
            block_io: resources::block_io(&record.host_config.resources()).map_err(Error::internal)?,
            default_ulimits: self.inner.config.default_ulimits.clone(),
            ..self.host_facts()
        };
        host.reads_profile = true;
        host.link_variables = self.link_variables(record)?;
        if let Some(other) = record.host_config.network_mode.strip_prefix("container:") {
            let etc = self.data_folder(&self.find(other)?.id).join("etc");
            host.hosts_path = etc.join("hosts").display().to_string();
            host.resolv_conf_path = etc.join("resolv.conf").display().to_string();
        }
        Ok(host)
    }

    /// What the configuration needs to know of the host, the container apart.
    pub(super) fn host_facts(&self) -> Host {
        Host {
            held_capabilities: super::control::held_capabilities(),
            possible_cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            default_ulimits: self.inner.config.default_ulimits.clone(),
            seccomp: self.inner.config.seccomp.clone(),
            kernel: kernel(),
            apparmor: apparmor::is_enabled(),
            no_new_privileges: self.inner.config.no_new_privileges,
            ..Host::default()
        }
    }

    /// The process as the container's own was started; what an exec differs in is the caller's.
    pub(crate) fn process_of(&self, container: &Container) -> Result<Process> {
        let record = container.snapshot();
        let host = Host { link_variables: self.link_variables(&record)?, ..self.host_facts() };
        let spec = bundle::spec(&record, &host)?;
        let mut process = spec.process.ok_or_else(|| Error::internal("a container without a process"))?;
        process.oom_score_adj = None;
        Ok(process)
    }

    /// Every capability the daemon holds, for a privileged exec.
    pub(crate) fn every_capability(&self) -> Capabilities {
        bundle::capability_sets(&super::control::held_capabilities())
    }

    fn start_request(
        &self,
        container: &Container,
        record: &Record,
        network: &Network,
        files: &mut Files,
        log: Option<&PluginLog>,
    ) -> Result<(Start, Vec<OwnedFd>)> {
        let again = |fd: &OwnedFd| fd.try_clone().context("cannot pass a descriptor");
        let mut fds = vec![again(&files.container_dir)?, again(&files.run_dir)?, again(&files.rootfs)?];
        if let Some(sandbox) = &network.sandbox {
            fds.push(sandbox.as_fd().try_clone_to_owned().context("cannot pass a descriptor")?);
        }
        let log = logging::resolve(record, log)?;
        if matches!(log, LogOptions::Remote(_)) {
            fds.push(self.logger_program()?);
        }
        let mut mount_fds = Vec::new();
        for (index, tree) in files.given.drain(..) {
            mount_fds.push(index);
            fds.push(tree);
        }
        let mut attached = Vec::new();
        for client in container.waiting().drain(..) {
            attached.push(client.streams);
            fds.push(client.socket);
        }
        let spec = std::mem::take(&mut files.spec);
        let runtime = self.inner.config.live.get().runtimes.get(&record.host_config.runtime).cloned();
        let (place, shims) = (self.place(record), self.places().shims());
        let start = Start {
            id: record.id.clone(),
            spec,
            run_dir: self.run_folder(&record.id),
            rootfs_fd: true,
            network_fd: network.given,
            mount_fds,
            cgroup: place.path,
            scope: place.scope,
            shim_cgroup: Some(shims.path),
            shim_scope: shims.scope,
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log,
            foreign_runtime: runtime,
            attached,
        };
        Ok((start, fds))
    }

    /// Opened anew each time, so that a newer one on disk is used by what starts after it.
    fn logger_program(&self) -> Result<OwnedFd> {
        let path = &self.inner.config.logger_program;
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context(format!("cannot open the logger program {}", path.display()))
    }
}

fn going_away(container: &Container) -> Error {
    Error::conflict(format!("container {} is marked for removal and cannot be started", container.name()))
}

/// Names of the volumes that plugins keep, each once.
pub(super) fn foreign_volumes(record: &Record) -> Vec<String> {
    let foreign = record.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, driver, .. } if !driver.is_empty() => Some(name.clone()),
        _ => None,
    });
    foreign.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn kernel() -> Kernel {
    // A release that is no number is older than any rule asks for.
    Kernel::parse(&rustix::system::uname().release().to_string_lossy()).unwrap_or_default()
}

fn make_run_folder(path: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Docker's words around the runtime's; clients look for the code words in them.
fn start_error(record: &Record, error: ShimCallError) -> Error {
    let ShimCallError::Refused(ShimError { kind, message }) = error else {
        return Error::internal(format!("failed to create task for container {}", record.short_id()))
            .with_source(error);
    };
    let status = match kind {
        ShimErrorKind::CommandNotFound | ShimErrorKind::CommandNotExecutable => ErrorKind::InvalidArgument,
        ShimErrorKind::Unsupported => ErrorKind::NotImplemented,
        // As in Docker, what the configuration has wrong is no fault of who asked for the start.
        ShimErrorKind::Invalid | ShimErrorKind::NotRunning | ShimErrorKind::Internal => ErrorKind::Internal,
    };
    // Docker resolves users itself, before there is a task.
    if message.starts_with("unable to find ") || message.starts_with("uids and gids") {
        return Error::new(status, message);
    }
    if message.starts_with("failed to initialize logging driver") {
        return Error::new(status, format!("failed to create task for container: {message}"));
    }
    Error::new(
        status,
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: {message}"
        ),
    )
}

/// The exit code that `inspect` shows after a start or an exec that failed; the client derives its own from the text alike.
pub(crate) fn start_exit_code(text: &str) -> i32 {
    let has = |part: &str| text.contains(part);
    if has("executable file not found")
        || has("no such file or directory")
        || has("system cannot find the file specified")
    {
        127
    } else if has("permission denied") || has("not a directory") || has("is a directory") {
        126
    } else {
        128
    }
}
