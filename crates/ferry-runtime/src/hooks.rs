//! Hooks: programs of a configuration that run at moments of a container's life, with its state on stdin.
//!
//! Owns: running them in order, each with its time limit, and telling how one failed. Leaves out: when each moment is, and what a failure
//! means then. What a hook says is kept in files of memory, so that nothing it leaves behind in the background can hold us up.
//!
//! Spec: OCI runtime configuration, POSIX-platform hooks

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use ferry_spec::runtime::{Hook, Hooks, State};
use ferry_sys::namespace::Namespaces;
use ferry_sys::process::Child;
use ferry_sys::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::channel::{self, FromChild};
use crate::error::Error;

/// Of what a hook says, this much is told when it fails.
const MAX_TOLD_BYTES: u64 = 2048;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Outside, while the container is made; the older name of the next.
    Prestart,
    /// Outside, once the container's namespaces are there.
    CreateRuntime,
    /// In the container's namespaces, before its root is the root.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// Outside, after its program has begun.
    Poststart,
    /// Outside, after the container is gone.
    Poststop,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Moment::Prestart => "prestart",
            Moment::CreateRuntime => "createRuntime",
            Moment::CreateContainer => "createContainer",
            Moment::StartContainer => "startContainer",
            Moment::Poststart => "poststart",
            Moment::Poststop => "poststop",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            Moment::Prestart => &hooks.prestart,
            Moment::CreateRuntime => &hooks.create_runtime,
            Moment::CreateContainer => &hooks.create_container,
            Moment::StartContainer => &hooks.start_container,
            Moment::Poststart => &hooks.poststart,
            Moment::Poststop => &hooks.poststop,
        }
    }

    const ALL: [Moment; 6] = [
        Moment::Prestart,
        Moment::CreateRuntime,
        Moment::CreateContainer,
        Moment::StartContainer,
        Moment::Poststart,
        Moment::Poststop,
    ];
}

/// Checks that every hook can be run at all.
pub(crate) fn check(hooks: &Hooks) -> Result<(), Error> {
    for moment in Moment::ALL {
        for (number, hook) in moment.of(hooks).iter().enumerate() {
            let name = moment.name();
            if !hook.path.starts_with('/') {
                return Err(Error::invalid(format!(
                    "{name} hook #{number}: path {:?} must be an absolute path",
                    hook.path
                )));
            }
            if hook.timeout == Some(0) {
                return Err(Error::invalid(format!("{name} hook #{number}: timeout must be greater than zero")));
            }
        }
    }
    Ok(())
}

/// Runs the hooks of a moment, in order.
///
/// # Errors
/// The first that fails or takes too long; those after it do not run.
pub fn run(hooks: &Hooks, moment: Moment, state: &State) -> Result<(), Error> {
    for number in 0..moment.of(hooks).len() {
        run_number(hooks, moment, number, state)?;
    }
    Ok(())
}

/// Runs all hooks of a moment, whatever comes of each; returns what went wrong.
pub fn run_each(hooks: &Hooks, moment: Moment, state: &State) -> Vec<Error> {
    (0..moment.of(hooks).len()).filter_map(|number| run_number(hooks, moment, number, state).err()).collect()
}

fn run_number(hooks: &Hooks, moment: Moment, number: usize, state: &State) -> Result<(), Error> {
    let stage = format!("error running {} hook #{number}", moment.name());
    run_one(&moment.of(hooks)[number], state).map_err(|error| error.within(&stage))
}

fn run_one(hook: &Hook, state: &State) -> Result<(), Error> {
    let text = serde_json::to_vec(state).map_err(|error| Error::internal(format!("word the state: {error}")))?;
    let mut stdin = memory_file()?;
    stdin.write_all(&text).and_then(|()| stdin.rewind()).map_err(|error| Error::step("write the state", error))?;
    let (mut stdout, mut stderr) = (memory_file()?, memory_file()?);
    let again = |file: &File| file.try_clone().map_err(|error| Error::step("copy a descriptor", error));
    let mut command = Command::new(&hook.path);
    if let [name, arguments @ ..] = hook.args.as_slice() {
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    command.envs(hook.env.iter().filter_map(|variable| variable.split_once('=')));
    command.stdin(stdin).stdout(again(&stdout)?).stderr(again(&stderr)?);
    let mut child = command.spawn().map_err(|error| Error::step(&hook.path, error))?;
    let ended = wait(&child, hook.timeout.map(Duration::from_secs));
    if !matches!(ended, Ok(true)) {
        // Whatever is wrong with it, it must not run on; its end is waited for just below.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Error::step(format!("wait for {}", hook.path), error))?;
    match ended {
        Ok(true) if status.success() => Ok(()),
        Ok(true) => Err(Error::internal(format!(
            "{}, stdout: {}, stderr: {}",
            status_text(status),
            said(&mut stdout),
            said(&mut stderr)
        ))),
        Ok(false) => {
            let limit = hook.timeout.unwrap_or_default();
            Err(Error::internal(format!("hook ran past specified timeout of {limit}.0s")))
        }
        Err(error) => Err(Error::step(format!("wait for {}", hook.path), error)),
    }
}

/// Waits until it has ended, or until the time is over: then answers false.
fn wait(child: &std::process::Child, limit: Option<Duration>) -> std::io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(std::io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn memory_file() -> Result<File, Error> {
    memfd_create("hook", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| Error::step("make a file in memory", error))
}

fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}

fn said(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // A failure is told already; its words are an addition.
    let _ = file.rewind().and_then(|()| file.take(MAX_TOLD_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// A process outside of the container that runs the hooks which belong there, when the container's process asks for it: the
/// caller itself may be waiting for that process.
#[derive(Debug)]
pub(crate) struct Outside {
    server: Child,
}

impl Outside {
    /// Starts it, where there are such hooks; returns also the container's end of the way to it.
    pub(crate) fn start(hooks: &Hooks, state: &State) -> Result<Option<(Outside, OwnedFd)>, Error> {
        if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
            return Ok(None);
        }
        let (theirs, ours) = channel::pair()?;
        let serve = || {
            // Only ours may be left: the end of theirs is the end of the container's process.
            let closed = ferry_sys::process::close_from(3, &[std::os::fd::AsFd::as_fd(&ours)]);
            i32::from(closed.is_err() || serve(&ours, hooks, state).is_err())
        };
        let server = ferry_sys::process::clone_child(Namespaces::empty(), None, serve)
            .map_err(|error| Error::step("start the process that runs hooks", error))?;
        Ok(Some((Outside { server }, theirs)))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It has ended when all went well; otherwise there is nothing left for it to do.
        let _ = ferry_sys::process::kill(self.server.pid, libc::SIGKILL);
        let _ = self.server.wait();
    }
}

fn serve(socket: &OwnedFd, hooks: &Hooks, state: &State) -> std::io::Result<()> {
    let mut message = [0u8; 16];
    let length = socket::receive(socket, &mut message, &mut Vec::new())?;
    let pid = std::str::from_utf8(&message[..length]).ok().and_then(|text| text.parse().ok());
    // Nobody asks any more: the container's process has failed before.
    let Some(pid) = pid else { return Ok(()) };
    let state = State { pid, ..state.clone() };
    match run(hooks, Moment::Prestart, &state).and_then(|()| run(hooks, Moment::CreateRuntime, &state)) {
        Ok(()) => channel::say_ready(socket, None),
        Err(error) => channel::say_failed(socket, error.into()),
    }
}

/// The container's process, while it still sees the host: has the hooks outside run, then runs its own.
pub(crate) fn while_creating(hooks: &Hooks, state: &State, outside: Option<&OwnedFd>) -> Result<(), channel::Failure> {
    if let Some(outside) = outside {
        // The host's procfs names this process as the host does, whatever namespace it lives in.
        let pid =
            rustix::fs::readlink("/proc/self", Vec::new()).map_err(|error| Error::step("read /proc/self", error))?;
        let step = |error: std::io::Error| Error::step("have hooks run", error);
        socket::send(outside, pid.as_bytes(), &[]).map_err(step)?;
        match channel::hear(outside)? {
            FromChild::Ready { .. } => {}
            FromChild::Failed(failure) => return Err(failure),
            FromChild::Closed => return Err(Error::internal("the process that runs hooks is gone").into()),
        }
    }
    in_container(hooks, Moment::CreateContainer, state)
}

/// Runs hooks as what the container's process is by now.
pub(crate) fn in_container(hooks: &Hooks, moment: Moment, state: &State) -> Result<(), channel::Failure> {
    if moment.of(hooks).is_empty() {
        return Ok(());
    }
    let pid = rustix::process::getpid().as_raw_pid();
    let before = rustix::process::umask(Mode::from_raw_mode(0o022));
    let ran = run(hooks, moment, &State { pid, ..state.clone() });
    rustix::process::umask(before);
    Ok(ran?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["name".into(), "-c".into(), script.into()],
            env: vec!["A=b".into()],
            timeout: None,
        }
    }

    fn failure(hook: Hook) -> String {
        let hooks = Hooks { poststart: vec![hook], ..Hooks::default() };
        run(&hooks, Moment::Poststart, &State::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_hook_has_its_environment_and_the_state() {
        let state = State { id: "x".into(), status: "created".into(), pid: 7, ..State::default() };
        let script =
            r#"test "$A" = b && test -z "$HOME" && test "$0" = name && grep -q '"id":"x","status":"created","pid":7'"#;
        let hooks = Hooks { poststop: vec![hook(script)], ..Hooks::default() };
        run(&hooks, Moment::Poststop, &state).unwrap();
    }

    #[test]
    fn failures_are_told_with_what_was_said() {
        assert_eq!(
            failure(hook("echo out; echo err >&2; exit 3")),
            "error running poststart hook #0: exit status 3, stdout: out, stderr: err"
        );
        let missing = Hook { path: "/no/such/hook".into(), ..Hook::default() };
        assert_eq!(failure(missing), "error running poststart hook #0: /no/such/hook: no such file or directory");
        // What it left in the background holds its output open.
        let slow = Hook { timeout: Some(1), ..hook("sleep 2 & sleep 2; :") };
        assert_eq!(failure(slow), "error running poststart hook #0: hook ran past specified timeout of 1.0s");
    }

    #[test]
    fn after_a_failure_the_rest_runs_only_where_it_should() {
        let hooks = Hooks { poststop: vec![hook("exit 1"), hook("exit 2")], ..Hooks::default() };
        assert!(run(&hooks, Moment::Poststop, &State::default()).unwrap_err().to_string().contains("#0"));
        assert_eq!(run_each(&hooks, Moment::Poststop, &State::default()).len(), 2);
    }

    #[test]
    fn hooks_that_cannot_be_meant_are_refused() {
        let relative = Hooks { prestart: vec![Hook { path: "x".into(), ..Hook::default() }], ..Hooks::default() };
        assert!(check(&relative).unwrap_err().to_string().contains("absolute"));
        let timeout = Hooks { prestart: vec![Hook { timeout: Some(0), ..hook("") }], ..Hooks::default() };
        assert!(check(&timeout).unwrap_err().to_string().contains("timeout"));
    }
}
