//! One task per running container: it hears the shim's events and does what an end asks for.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferry_shim::protocol::{Event, Exit, Request};
use tokio::sync::mpsc;

use super::record::{EndpointRecord, Record};
use super::restart::Restart;
use super::state::{Intent, Status, Step};
use super::{Container, Containers, Live, kernel_log};
use crate::blocking;
use crate::clock;
use crate::error::Result;
use crate::shims::ShimProcess;

/// Exit code of a run of which nobody knows how it ended, as Docker's.
pub(super) const UNKNOWN_EXIT_CODE: i32 = 255;
/// Exit code of an exec that its container took along: SIGKILL's.
const ENDED_WITH_CONTAINER: i32 = 137;

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
                    Event::Oom => containers.out_of_memory(&container),
                    Event::LogTrouble { message } => {
                        tracing::error!(container = %container.name(), error = %message, "log lines were lost");
                    }
                }
            }
            let exit = match exit {
                Some(exit) => exit,
                None => containers.lost_shim(&container).await,
            };
            containers.ended(&container, &live, exit).await;
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
        Exit { code: UNKNOWN_EXIT_CODE, time_ns: clock::now_ns(), ..Exit::default() }
    }

    async fn ended(&self, container: &Arc<Container>, live: &Live, exit: Exit) {
        let verb = container.verb.lock().await;
        // Whoever has sent a signal tells of that before its consequence is told.
        drop(container.signalling.write().await);
        self.stop_watching_health(container);
        // The shim tells of the container first where both end at once. Asked for an exec meanwhile, it knows that it has ended.
        let with_it: Vec<String> = live.execs.lock().expect("no panic while held").keys().cloned().collect();
        for exec_id in with_it {
            self.exec_ended(container, live, &exec_id, ENDED_WITH_CONTAINER);
        }
        container.set_live(None);
        self.give_back_network(container).await;
        let (containers, record) = (self.clone(), container.snapshot());
        let _: Result<()> = blocking(move || {
            containers.unmount_volumes(&record);
            containers.end_plugin_log(&record.id);
            Ok(())
        })
        .await;
        if exit.oom_killed {
            self.note_oom_kills(container).await;
        }
        let (record, restart) = self.note_exit(container, &exit);
        self.publish_unmounts(&record);
        let ran_s = (exit.time_ns - record.started_ns).max(0) / 1_000_000_000;
        self.publish(&record, "die", &[("execDuration", ran_s.to_string()), ("exitCode", exit.code.to_string())]);
        self.clear_run_folder(container).await;
        self.after_exit(container, &record, &exit, restart).await;
        // The shim waits for this so that an exit is never told to nobody; one that is gone already has nothing to tidy. What it removes last
        // lies where a next run has its own, which may begin only then.
        let _ = live.shim.command(Request::Shutdown, &[]).await;
        drop(verb);
    }

    /// What follows an end: restart, removal, or rest.
    async fn after_exit(&self, container: &Arc<Container>, record: &Record, exit: &Exit, restart: Option<Restart>) {
        let auto_remove = record.host_config.auto_remove && container.restarting_by_hand.load(Ordering::Relaxed) == 0;
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
    }

    /// The memory limit killed a process; the container may live on.
    fn out_of_memory(&self, container: &Arc<Container>) {
        Self::update_in_memory(container, |record| record.oom_killed = true);
        self.publish(&container.snapshot(), "oom", &[]);
        let (containers, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move { containers.note_oom_kills(&container).await });
    }

    /// Asks the kernel's log which processes those were.
    async fn note_oom_kills(&self, container: &Container) {
        let record = container.snapshot();
        let ran_us = u64::try_from((clock::now_ns() - record.started_ns) / 1_000).unwrap_or(0);
        let cgroup = self.cgroup(&record);
        let read = blocking(move || {
            let since_us = kernel_log::uptime_us().saturating_sub(ran_us);
            Ok(kernel_log::oom_kills(&cgroup, since_us))
        });
        let Ok(kills) = read.await else { return };
        let started_ns = record.started_ns;
        Self::update_in_memory(container, |record| {
            // A next run may have begun meanwhile.
            if !kills.is_empty() && record.started_ns == started_ns {
                record.life.oom_kills = kills;
            }
        });
    }

    /// The record after an end, and whether there is to be another run.
    fn note_exit(&self, container: &Container, exit: &Exit) -> (Record, Option<Restart>) {
        let mut restart = None;
        let note = |record: &mut Record| {
            restart = Restart::decide(record, exit);
            if let Some(restart) = &restart {
                record.restart_count = restart.count;
                record.life.backoff_step = restart.backoff_step;
            }
            let step = if restart.is_some() { Step::EndedForRestart } else { Step::Ended };
            record.status = record.status.after(step).unwrap_or(Status::Exited);
            record.exit_code = exit.code;
            record.oom_killed |= exit.oom_killed;
            record.life.exit_signal = exit.signal;
            record.finished_ns = exit.time_ns;
            record.pid = 0;
            record.published.clear();
            record.endpoints.values_mut().for_each(EndpointRecord::forget_place);
        };
        if container.with_record(|record| record.host_config.auto_remove) {
            // It goes at once; should the daemon be killed before, `exit.json` tells the same.
            Self::update_in_memory(container, note);
        } else {
            self.update_whatever(container, note);
        }
        self.inner.images.set_running(&container.id, false);
        (container.snapshot(), restart)
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
