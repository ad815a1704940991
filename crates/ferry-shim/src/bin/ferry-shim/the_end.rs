//! From the death of a process to the last word about it.

use std::time::Duration;

use ferry_shim::protocol::{Event, Exit, ShimError, Target};
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::container::Container;
use crate::poller::Token;
use crate::process::{INIT, now_ns};
use crate::rights;
use crate::shim::{Shim, What};

/// Output of the container's process may be held open by others only if those are not in its pid namespace.
const CONTAINER_OUTPUT: Duration = Duration::from_secs(1);

/// Output of an exec may be held open by what it left in the background; Docker waits as long.
const EXEC_OUTPUT: Duration = Duration::from_secs(2);

/// How long a client may take over the last output of an exec before its end is told all the same.
const EXEC_CLIENTS: Duration = Duration::from_secs(2);

/// A second look at the count of victims.
const OOM_RECHECK: Duration = Duration::from_millis(50);

impl Shim {
    /// Takes the status of every child that has ended: processes, the log's compressor, orphans.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let (pid, code) = (pid.as_raw_nonzero().get(), exit_code(status));
            let signal = status.terminating_signal();
            let was_compressor = self.container.as_mut().is_some_and(|container| container.log.reaped(pid, code == 0));
            if was_compressor {
                continue;
            }
            let ended = self
                .processes
                .iter_mut()
                .find(|process| process.code.is_none() && i64::from(process.pid) == i64::from(pid));
            if let Some(process) = ended {
                process.code = Some(code);
                process.signal = signal;
                let number = process.number;
                self.expect_end_of_output(number);
            }
        }
    }

    fn expect_end_of_output(&mut self, number: u32) {
        if number != INIT {
            self.set_deadline(EXEC_OUTPUT, What::CloseOutputs(number));
            return;
        }
        self.set_deadline(CONTAINER_OUTPUT, What::CloseOutputs(number));
        if let Some(container) = &self.container
            && !container.own_pid_namespace
        {
            // With a namespace the kernel does this. What cannot be killed is met again when the cgroup is removed.
            let _ = container.cgroup().signal_all(libc::SIGKILL);
        }
    }

    /// Stops waiting for whoever else holds the streams of a process that has ended.
    pub(crate) fn close_outputs(&mut self, number: u32) {
        let Some((process, mut io, log)) = self.parts(number) else {
            return;
        };
        let logged = process.number == INIT;
        process.close_outputs(&mut io, |stream, piece| {
            if logged {
                log.push(stream, &piece);
            }
        });
    }

    /// Brings those to an end that have ended and whose output is read.
    pub(crate) fn finish_ended(&mut self) {
        for at in 0..self.processes.len() {
            let process = &mut self.processes[at];
            let Some(code) = process.code.filter(|_| !process.finished && process.outputs_closed()) else {
                continue;
            };
            process.finish(&self.poller);
            let number = process.number;
            if number == INIT {
                self.finish_container(code);
            } else {
                self.set_deadline(EXEC_CLIENTS, What::TellExec(number));
            }
        }
    }

    /// The order is the promise: log, then everything that a next run of the same container would meet, then `exit.json`, then the event.
    fn finish_container(&mut self, code: i32) {
        self.check_oom();
        let nobody_listens = self.controls.is_empty();
        let Some(container) = &mut self.container else {
            return;
        };
        container.log.end();
        if let Some(oom) = container.oom.take() {
            // Only a descriptor that is not there could fail, and ours is.
            let _ = container.oom_registration.set(&self.poller, &oom, Token::Oom, None);
        }
        let rights = rights::in_effect();
        container.remove_state();
        // What cannot be removed now is tried once more at the end.
        let _ = container.remove_cgroup();
        drop(rights);
        let signal = self.processes.iter().find(|process| process.number == INIT).and_then(|process| process.signal);
        let exit = Exit { code, time_ns: now_ns(), oom_killed: container.oom_told, signal };
        // Should even this fail, the event is all there is; an engine that is there records it.
        let written = container.write_exit(&exit);
        if nobody_listens && written.is_ok() {
            container.sync_exit();
        }
        container.exit = Some(exit.clone());
        self.tell(&Event::Exited(exit));
        for process in &mut self.processes {
            process.told |= process.number == INIT;
        }
    }

    /// Tells of an exec whose clients have everything, or have had the time.
    pub(crate) fn tell_exec(&mut self, number: u32) {
        let Some(process) = self.processes.iter_mut().find(|process| process.number == number && !process.told) else {
            return;
        };
        let (Target::Exec(exec_id), Some(code)) = (&process.target, process.code) else {
            return;
        };
        let event = Event::ExecExited { exec_id: exec_id.clone(), code };
        process.told = true;
        self.tell(&event);
    }

    /// Tells of execs whose clients have everything.
    pub(crate) fn tell_execs(&mut self) {
        for at in 0..self.processes.len() {
            let process = &self.processes[at];
            if process.finished && process.number != INIT && process.all_sent() {
                self.tell_exec(process.number);
            }
        }
    }

    /// Drops what is left of execs that were told of.
    pub(crate) fn forget_told_execs(&mut self) {
        self.processes.retain(|process| process.number == INIT || !process.told || process.has_clients());
    }

    /// The kernel says that memory has run out.
    pub(crate) fn on_oom(&mut self) {
        if let Some(oom) = self.container.as_ref().and_then(|container| container.oom.as_ref()) {
            let mut notices = [0; 4096];
            // It becomes readable again with the next one.
            let _ = rustix::io::read(oom, &mut notices);
        }
        self.check_oom();
        self.set_deadline(OOM_RECHECK, What::CheckOom);
    }

    /// Tells once that the memory limit has killed.
    pub(crate) fn check_oom(&mut self) {
        let Some(container) = &mut self.container else {
            return;
        };
        // Without a memory controller nothing can have been killed by it.
        if !container.oom_told
            && !container.cgroup_removed
            && container.cgroup().oom_kill_count().is_ok_and(|count| count > 0)
        {
            container.oom_told = true;
            self.tell(&Event::Oom);
        }
    }

    /// Removes what is left of the container in the kernel and in the run-time folder.
    pub(crate) fn clean_up(&mut self) -> Result<(), ShimError> {
        self.stop_listening();
        let _rights = rights::in_effect();
        self.container.as_mut().map_or(Ok(()), Container::remove_cgroup)
    }

    /// The last steps before the program ends.
    pub(crate) fn leave(&mut self) {
        if self.has_exited() {
            // Nobody is there to tell; a starting engine sweeps its instance's cgroups.
            let _ = self.clean_up();
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match status.exit_status() {
        Some(code) => code,
        None => 128 + status.terminating_signal().unwrap_or(0),
    }
}
