//! What a starting engine makes of what it finds: the table of `docs/design/state.md`.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_shim::client;
use ferry_shim::protocol::{Event, Exit, Reply, Request, State};
use ferry_store::record as records;
use tokio::sync::{mpsc, watch};

use super::ending::{EndVerb, EndedBy};
use super::process::process_of;
use super::record::{MountKind, Record};
use super::restart::Restart;
use super::state::{Intent, Status};
use super::stop::Ending;
use super::supervisor::{UNKNOWN_EXIT_CODE, read_exit};
use super::{Container, Containers, Live, StopOptions};
use crate::blocking;
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::shims::ShimConnection;

/// A shim that answered.
struct Found {
    connection: ShimConnection,
    events: mpsc::UnboundedReceiver<Event>,
    state: State,
}

impl Containers {
    /// Reads every record, finishes or undoes what was begun, and takes running containers up again.
    pub(crate) async fn recover(&self) -> Result<()> {
        let containers = self.clone();
        let records = blocking(move || containers.read_records()).await?;
        for record in &records {
            self.take_references(record);
        }
        let mut started = Vec::new();
        for record in records {
            started.extend(self.recover_one(record).await);
        }
        let containers = self.clone();
        blocking(move || {
            containers.inner.volumes.unmount_unused();
            containers.recover_plugin_logs(&containers.live_ids());
            containers.sweep_kernel()
        })
        .await?;
        self.inner.shims.refill();
        for container in started {
            self.restart_at_start(container);
        }
        Ok(())
    }

    fn read_records(&self) -> Result<Vec<Record>> {
        let folder = self.inner.config.data_root.join("containers");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).context("cannot read the containers folder")? {
            let path = entry.context("cannot read the containers folder")?.path();
            records::sweep_or_warn(&path);
            match records::read::<Record>(&path.join("container.json")) {
                Ok(Some(record)) if record.intent == Intent::Creating => discard(&path),
                Ok(Some(record)) => found.push(record),
                Ok(None) if has_damaged_record(&path) => {
                    tracing::error!(container = %path.display(), "the record was damaged and set aside; the folder is left alone");
                }
                Ok(None) => discard(&path),
                Err(error @ records::RecordError::Newer { .. }) => {
                    return Err(Error::internal("cannot start on this data root").with_source(error));
                }
                Err(error) => tracing::error!(container = %path.display(), %error, "container record set aside"),
            }
        }
        Ok(found)
    }

    fn take_references(&self, record: &Record) {
        self.inner.images.acquire(&record.image_id, &record.id);
        for mount in &record.mounts {
            match &mount.kind {
                MountKind::Volume { name, .. } => {
                    if let Err(error) = self.inner.volumes.acquire(name, &record.id) {
                        tracing::error!(container = %record.name, error = %error.text(), "volume of a container is missing");
                    }
                }
                MountKind::Image { content: Some(content), .. } => {
                    self.inner.images.acquire(&content.id, &record.id);
                }
                _ => {}
            }
        }
    }

    /// Returns the container when its policy may want it started.
    async fn recover_one(&self, record: Record) -> Option<Arc<Container>> {
        let folder = self.data_folder(&record.id);
        let shim = self.reach_shim(&record).await;
        let removing = record.intent == Intent::Removing || record.build_step;
        let category = self.inner.selinux.keep(&record.process_label);
        let container = Arc::new(Container::new(record, folder, category));
        self.insert(Arc::clone(&container));
        match shim {
            Some(found) if found.state.exit.is_none() => {
                self.adopt(&container, found).await;
                if removing {
                    self.finish_removal(Arc::clone(&container));
                }
                None
            }
            found => {
                let exit = found.as_ref().and_then(|found| found.state.exit.clone());
                if let Some(found) = found {
                    // It only waited for somebody to tell.
                    let _ = found.connection.command(Request::Shutdown, &[]).await;
                }
                self.settle_ended(&container, exit).await;
                if removing || container.with_record(|record| record.host_config.auto_remove && record.has_started) {
                    let volumes = container.with_record(|record| record.host_config.auto_remove);
                    self.remove_ended(&container, volumes).await;
                    return None;
                }
                Some(container)
            }
        }
    }

    async fn reach_shim(&self, record: &Record) -> Option<Found> {
        let folder = self.run_folder(&record.id);
        let socket = blocking(move || client::connect(&folder).context("no shim")).await.ok()?;
        let (connection, events) = ShimConnection::open(socket).ok()?;
        match connection.call(Request::State, &[]).await {
            Ok(Reply::State(state)) if state.id == record.id => Some(Found { connection, events, state }),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(container = %record.name, %error, "the shim does not tell its state");
                None
            }
        }
    }

    /// It ran on while no daemon was there.
    async fn adopt(&self, container: &Arc<Container>, found: Found) {
        let Found { connection, events, mut state } = found;
        if state.paused && container.with_record(|record| record.paused_for_copy) {
            // Whoever copied its files is no more.
            match connection.command(Request::Resume, &[]).await {
                Ok(()) => {
                    state.paused = false;
                    self.publish(&container.snapshot(), "unpause", &[]);
                }
                Err(error) => {
                    tracing::error!(container = %container.name(), %error, "not thawed after a copy that was cut short")
                }
            }
        }
        self.update_whatever(container, |record| {
            record.paused_for_copy &= state.paused;
            record.status = if state.paused { Status::Paused } else { Status::Running };
            if record.intent == Intent::Starting {
                record.intent = Intent::None;
            }
            if !record.has_started || record.started_ns == 0 {
                record.has_started = true;
                record.started_ns = clock::now_ns();
            }
            record.pid = state.pid;
        });
        let record = container.snapshot();
        for mount in &record.mounts {
            if let MountKind::Volume { name, .. } = &mount.kind {
                self.inner.volumes.keep_mounted(name, &record.id);
            }
        }
        self.inner.images.set_running(&container.id, true);
        container.announce(|change| change.running = true);
        let live = Arc::new(Live { shim: connection, execs: Mutex::default() });
        for (exec_id, pid) in state.execs {
            live.execs.lock().expect("no panic while held").insert(exec_id.clone(), watch::channel(None).0);
            self.inner.execs.adopt(&exec_id, &container.id, pid);
        }
        container.set_live(Some(Arc::clone(&live)));
        let execs: Vec<String> = live.execs.lock().expect("no panic while held").keys().cloned().collect();
        for exec_id in execs {
            self.end_orphaned_check(container, &live, &exec_id);
        }
        self.take_network_again(container).await;
        if !state.paused {
            self.watch_health(container);
        }
        self.supervise(Arc::clone(container), live, events, None);
    }

    async fn take_network_again(&self, container: &Arc<Container>) {
        let (containers, record) = (self.clone(), container.snapshot());
        let taken = async {
            let process = process_of(container).await?;
            blocking(move || containers.adopt_networks(&record, process.as_ref().map(AsFd::as_fd))).await
        };
        if let Err(error) = taken.await {
            tracing::error!(container = %container.name(), error = %error.text(), "network of a running container not taken again");
        }
    }

    /// Not running: the record says what is true now.
    async fn settle_ended(&self, container: &Arc<Container>, told: Option<Exit>) {
        let record = container.snapshot();
        let folder = self.data_folder(&record.id);
        let was_live = record.status.is_live();
        let was_starting = record.intent == Intent::Starting;
        if !was_live && !was_starting {
            return;
        }
        let exit = told.or_else(|| read_exit(&folder));
        let cgroup = self.cgroup(&record);
        let pid = record.pid;
        // Whatever a killed shim left goes; its end was not seen by anybody.
        let containers = self.clone();
        let _ = blocking(move || {
            super::control::kill_remains(pid, &cgroup);
            super::control::remove_cgroup(&cgroup);
            containers.inner.networks.part_from(record.endpoints.values());
            // A plugin may have mounted them, or not yet; it is told in any case.
            for name in super::start::foreign_volumes(&record) {
                containers.inner.volumes.keep_mounted(&name, &record.id);
                containers.inner.volumes.unmount(&name, &record.id);
            }
            Ok(())
        })
        .await;
        self.update_whatever(container, |record| {
            record.paused_for_copy = false;
            record.intent = if record.intent == Intent::Removing { Intent::Removing } else { Intent::None };
            record.pid = 0;
            record.published.clear();
            match exit {
                Some(exit) => {
                    record.status = Status::Exited;
                    record.has_started = true;
                    record.exit_code = exit.code;
                    record.oom_killed = exit.oom_killed;
                    record.life.exit_signal = exit.signal;
                    record.finished_ns = exit.time_ns;
                }
                None if was_live => {
                    record.status = Status::Exited;
                    record.exit_code = UNKNOWN_EXIT_CODE;
                    record.finished_ns = clock::now_ns();
                    record.error =
                        "the host was restarted or the container's shim was killed; how it ended is not known"
                            .to_owned();
                }
                None => {}
            }
        });
        let record = container.snapshot();
        container.announce(|change| {
            change.running = false;
            change.exit_code = record.exit_code;
        });
        if was_live || record.finished_ns > 0 {
            self.publish(&record, "die", &[("exitCode", record.exit_code.to_string())]);
        }
    }

    fn finish_removal(&self, container: Arc<Container>) {
        let containers = self.clone();
        tokio::spawn(async move {
            let by = EndedBy::new(EndVerb::Remove, 0, None);
            let stopped = containers.end_run(&container, &Ending::kill(), by).await;
            if let Err(error) = stopped {
                tracing::error!(container = %container.name(), error = %error.text(), "a removal cannot be finished");
                return;
            }
            let _verb = container.verb.lock().await;
            let volumes = container.with_record(|record| record.host_config.auto_remove);
            containers.remove_ended(&container, volumes).await;
        });
    }

    /// Policies speak after everything else is settled.
    fn restart_at_start(&self, container: Arc<Container>) {
        let record = container.snapshot();
        let wanted = match record.host_config.restart_policy.name.as_str() {
            "always" => record.has_started,
            "unless-stopped" => record.has_started && !record.stopped_by_hand,
            "on-failure" => {
                let exit = Exit { code: record.exit_code, time_ns: record.finished_ns, ..Exit::default() };
                record.has_started && Restart::decide(&record, &exit).is_some()
            }
            _ => record.status == Status::Restarting,
        };
        if !wanted {
            if record.status == Status::Restarting {
                self.update_whatever(&container, |record| record.status = Status::Exited);
                container.announce(|change| change.running = false);
            }
            return;
        }
        let containers = self.clone();
        tokio::spawn(async move {
            let _verb = container.verb.lock().await;
            // Somebody may have been quicker: it runs already, was stopped, or was removed and must not come back.
            let found = (record.status, record.stopped_by_hand);
            if container.with_record(|now| (now.status, now.stopped_by_hand) != found || now.intent == Intent::Removing)
            {
                return;
            }
            containers.update_whatever(&container, |record| {
                record.stopped_by_hand = false;
                record.life.backoff_step = 0;
            });
            if let Err(error) = containers.run(&container).await {
                tracing::error!(container = %container.name(), error = %error.text(), "not started again by its restart policy");
            }
        });
    }

    fn live_ids(&self) -> Vec<String> {
        let all = self.all();
        all.iter().filter(|container| container.status().is_live()).map(|container| container.id.clone()).collect()
    }

    /// Everything with our mark that belongs to no running container goes.
    fn sweep_kernel(&self) -> Result<()> {
        let live = self.live_ids();
        self.inner.networks.sweep(live.iter().cloned())?;
        let parent = format!("/ferry-{}", self.inner.instance);
        for cgroup in super::control::stale_cgroups(&parent, |name| live.iter().any(|id| id == name)) {
            super::control::kill_remains(0, &cgroup);
            super::control::remove_cgroup(&cgroup);
        }
        for scope in self.places().stale_scopes(|name| live.iter().any(|id| id == name)) {
            super::control::kill_remains(0, &scope);
        }
        let run = self.inner.config.exec_root.join("c");
        for entry in fs::read_dir(&run).context("cannot read the run-time folder")?.flatten() {
            let name = entry.file_name();
            let known = live.iter().any(|id| name.to_string_lossy() == id[..12]);
            if !known && let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(folder = %entry.path().display(), %error, "run-time folder of no container left behind");
            }
        }
        Ok(())
    }

    /// Gives every container that runs its stop signal, for a host that goes down.
    pub(crate) async fn stop_all(&self, timeout_s: i64) {
        let stopping: Vec<_> = self
            .all()
            .into_iter()
            .filter(|container| container.status().counts_as_running())
            .map(|container| {
                let containers = self.clone();
                tokio::spawn(async move {
                    let own = container.with_record(|record| record.config.stop_timeout);
                    let by_hand = container.with_record(|record| record.stopped_by_hand);
                    let options = StopOptions { timeout_s: Some(own.unwrap_or(timeout_s)), ..StopOptions::default() };
                    let by = EndedBy::new(EndVerb::Shutdown, 0, None);
                    if let Err(error) = containers.stop_found(&container, options, by).await {
                        tracing::warn!(container = %container.name(), error = %error.text(), "not stopped");
                    }
                    // The host went down, not the container by anybody's hand: its policy starts it again.
                    containers.update_whatever(&container, |record| record.stopped_by_hand = by_hand);
                })
            })
            .collect();
        for task in stopping {
            // A task that panicked has said so.
            let _ = task.await;
        }
    }

    /// Lets the spare shims go, and with nothing running the instance's cgroups.
    pub(crate) fn close(&self, nothing_runs: bool) {
        self.inner.shims.close();
        if nothing_runs {
            let own = format!("/ferry-{}", self.inner.instance);
            super::control::remove_cgroup(&format!("{own}-shims"));
            super::control::remove_cgroup(&own);
        }
    }
}

/// Never acknowledged, or removed as far as anybody knows.
fn discard(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "folder of no container left behind");
    }
}

fn has_damaged_record(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("container.json.damaged"))
}
