//! One task per running container: it hears the shim's events and does what an end asks for.

use std::fs;
use std::sync::Arc;

use ferry_shim::protocol::{Event, Exit, Request};
use tokio::sync::mpsc;

use super::record::Record;
use super::restart::Restart;
use super::state::{Intent, Status, Step};
use super::{Container, Containers, Live};
use crate::blocking;
use crate::clock;
use crate::error::Result;
use crate::shims::ShimProcess;

/// Exit code of a run of which nobody knows how it ended, as Docker's.
pub(super) const UNKNOWN_EXIT_CODE: i32 = 255;

impl Containers {
    /// Listens until the container has ended, and then settles everything. `process` is the shim when this daemon spawned it.
    pub(super) fn supervise(
        &self,
        container: Arc<Container>,
        live: Arc<Live>,
        mut events: mpsc::UnboundedReceiver<Event>,
        process: Option<ShimProcess>,
    ) {
        let containers = self.clone();
        tokio::spawn(async move {
            let mut exit = None;
            while let Some(event) = events.recv().await {
                match event {
                    Event::Exited(ended) => {
                        exit = Some(ended);
                        break;
                    }
                    Event::ExecExited { exec_id, code } => containers.exec_ended(&container, &live, &exec_id, code),
                    Event::Oom => containers.publish(&container.snapshot(), "oom", &[]),
                }
            }
            let exit = match exit {
                Some(exit) => exit,
                None => containers.lost_shim(&container).await,
            };
            containers.ended(&container, &live, exit).await;
            // The shim waits for this so that an exit is never told to nobody; one that is gone already has nothing to tidy.
            let _ = live.shim.command(Request::Shutdown, &[]).await;
            drop(process);
        });
    }

    /// The connection broke without an exit: the shim wrote one down, or it was killed.
    async fn lost_shim(&self, container: &Container) -> Exit {
        let folder = self.data_folder(&container.id);
        if let Some(exit) = read_exit(&folder) {
            return exit;
        }
        tracing::error!(container = %container.name(), "the shim is gone; ending what is left of the container");
        let pid = container.with_record(|record| record.pid);
        let cgroup = self.cgroup(&container.snapshot());
        // Without its parent the process has no log and no exit status; it cannot stay.
        let _ = blocking(move || {
            super::control::kill_remains(pid, &cgroup);
            Ok(())
        })
        .await;
        Exit { code: UNKNOWN_EXIT_CODE, time_ns: clock::now_ns(), oom_killed: false }
    }

    async fn ended(&self, container: &Arc<Container>, live: &Live, exit: Exit) {
        let verb = container.verb.lock().await;
        container.set_live(None);
        for (exec_id, sender) in live.execs.lock().expect("no panic while held").drain() {
            tracing::debug!(%exec_id, "exec ended with its container");
            // Read before writing: both in one statement would wait for itself.
            let code = sender.borrow().unwrap_or(137);
            sender.send_replace(Some(code));
        }
        self.give_back_network(container).await;
        let record = self.note_exit(container, &exit);
        let ran_s = (exit.time_ns - record.started_ns).max(0) / 1_000_000_000;
        self.publish(&record, "die", &[("execDuration", ran_s.to_string()), ("exitCode", exit.code.to_string())]);
        self.clear_run_folder(container).await;
        self.after_exit(container, &record, &exit, verb).await;
    }

    /// What follows an end: restart, removal, or rest.
    async fn after_exit(
        &self,
        container: &Arc<Container>,
        record: &Record,
        exit: &Exit,
        verb: tokio::sync::MutexGuard<'_, ()>,
    ) {
        let restart = Restart::decide(record, exit);
        let auto_remove = record.host_config.auto_remove;
        container.announce(|change| {
            change.exits += 1;
            change.exit_code = exit.code;
            change.error = None;
            change.running = restart.is_some();
        });
        match restart {
            Some(restart) => self.restart_later(Arc::clone(container), restart),
            None if auto_remove && record.intent != Intent::Removing => {
                self.remove_ended(container, true).await;
            }
            None => {}
        }
        drop(verb);
    }

    fn note_exit(&self, container: &Container, exit: &Exit) -> Record {
        let note = |record: &mut Record| {
            let restarts = Restart::decide(record, exit).is_some();
            let step = if restarts { Step::EndedForRestart } else { Step::Ended };
            record.status = record.status.after(step).unwrap_or(Status::Exited);
            record.exit_code = exit.code;
            record.oom_killed = exit.oom_killed;
            record.finished_ns = exit.time_ns;
            record.pid = 0;
            record.published.clear();
            for endpoint in record.endpoints.values_mut() {
                endpoint.endpoint_id.clear();
                endpoint.address = None;
                endpoint.gateway = None;
                endpoint.mac_address.clear();
            }
        };
        if container.with_record(|record| record.host_config.auto_remove) {
            // It goes at once; should the daemon be killed before, `exit.json` tells the same.
            Self::update_in_memory(container, note);
        } else {
            self.update_whatever(container, note);
        }
        self.inner.images.set_running(&container.id, false);
        container.snapshot()
    }

    /// Port and address are free when an exit is told.
    pub(super) async fn give_back_network(&self, container: &Container) {
        if container.with_record(|record| record.endpoints.is_empty()) {
            return;
        }
        let (networks, id) = (self.inner.networks.clone(), container.id.clone());
        // Failures are logged where they arise; an exit is told all the same.
        let _ = blocking(move || {
            networks.disconnect(&id);
            Ok(())
        })
        .await;
    }

    async fn clear_run_folder(&self, container: &Container) {
        let folder = self.run_folder(&container.id);
        let _: Result<()> = blocking(move || {
            // The shim removes what it made; a file that is gone is as good as removed.
            let _ = fs::remove_file(folder.join("state.json"));
            Ok(())
        })
        .await;
    }
}

/// What the shim wrote down before it told anybody.
pub(super) fn read_exit(folder: &std::path::Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(folder.join("exit.json")).ok()?).ok()
}
