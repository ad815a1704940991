//! A real daemon in a sandbox: `ferryd`, or the `dockerd` that answers are recorded from.
//!
//! Owns start (ready by connect), stop, `kill -9` and restart, and command lines against it. A
//! daemon's data root lies on the host's disk in the sandbox's folder, its exec root and socket in
//! the sandbox's own `/run`.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::api::{self, Answer};
use crate::command::{self, Outcome, Running};
use crate::material::Material;
use crate::strip::{self, Strip};
use crate::{Sandbox, programs, wait};

/// How long a daemon may take to listen, or to end after SIGTERM.
const READY: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Daemon {
    sandbox: Arc<Sandbox>,
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    process: Mutex<Option<Child>>,
}

impl Daemon {
    /// Describes a `ferryd` that is not started yet.
    ///
    /// # Panics
    /// When `ferryd` is not built.
    #[must_use]
    pub fn ferry(sandbox: &Arc<Sandbox>, name: &str) -> Self {
        Self::new(sandbox, name, programs::binary("ferryd").expect("ferryd is built"))
    }

    /// Describes any daemon that takes dockerd's flags.
    #[must_use]
    pub fn new(sandbox: &Arc<Sandbox>, name: &str, program: PathBuf) -> Self {
        let mut daemon = Self {
            sandbox: Arc::clone(sandbox),
            name: name.to_owned(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            process: Mutex::new(None),
        };
        daemon.args = vec![
            "--data-root".to_owned(),
            daemon.data_root().display().to_string(),
            "--exec-root".to_owned(),
            daemon.exec_root().display().to_string(),
            "-p".to_owned(),
            format!("/run/{name}.pid"),
            "-H".to_owned(),
            daemon.host(),
        ];
        daemon
    }

    /// Starts a `ferryd` with the busybox image in a sandbox of its own.
    ///
    /// # Panics
    /// When it does not come up; its log is in the message.
    #[must_use]
    pub fn ready() -> Self {
        let sandbox = Sandbox::new().expect("a sandbox can be made");
        let daemon = Self::ferry(&sandbox, "a");
        daemon.start().expect("ferryd starts");
        daemon.load(&Material::get().busybox());
        daemon
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Adds a variable to the daemon's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Returns the sandbox.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Returns the data root.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.sandbox.dir().join(&self.name).join("data")
    }

    /// Returns the exec root (as seen inside).
    #[must_use]
    pub fn exec_root(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    /// Returns what `DOCKER_HOST` must say.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix:///run/{}.sock", self.name)
    }

    /// Returns the socket as this process reaches it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.sandbox.host_path(format!("/run/{}.sock", self.name))
    }

    fn log_path(&self) -> PathBuf {
        self.sandbox.dir().join(format!("{}.log", self.name))
    }

    /// Returns what the daemon has logged, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Starts the daemon and waits until it takes connections.
    ///
    /// # Errors
    /// When it ends or does not listen in time; its log is in the message.
    pub fn start(&self) -> Result<()> {
        std::fs::create_dir_all(self.data_root()).context("make the data root")?;
        let log = File::options().create(true).append(true).open(self.log_path()).context("open the daemon's log")?;
        let mut command = self.sandbox.command(&self.program);
        for (key, value) in &self.env {
            command.env(key, value);
        }
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("start the daemon")?;
        let mut ended = None;
        let ready = wait::until("the daemon to listen", READY, || {
            ended = child.try_wait().ok().flatten();
            (ended.is_some() || UnixStream::connect(self.socket()).is_ok()).then_some(())
        });
        if ended.is_some() || ready.is_err() {
            command::kill_tree(child.id());
            drop(child.wait());
            anyhow::bail!("{} did not come up ({ended:?}); its log:\n{}", self.program.display(), self.log());
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Returns the daemon's process id on the host.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        command::innermost(process.as_ref().expect("the daemon runs").id())
    }

    fn end(&self, signal: Signal) -> Result<i32> {
        let pid = self.pid();
        kill_process(command::process(pid)?, signal).context("signal the daemon")?;
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = process.take().context("the daemon is not running")?;
        let status = wait::until("the daemon to end", READY, || child.try_wait().ok().flatten())
            .with_context(|| format!("its log:\n{}", self.log()))?;
        Ok(status.code().unwrap_or(-1))
    }

    /// Stops the daemon with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self) -> Result<i32> {
        self.end(Signal::TERM)
    }

    /// Kills the daemon with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::KILL).map(drop)
    }

    /// Returns a command with the daemon as `DOCKER_HOST`.
    #[must_use]
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.client_in(None, program)
    }

    /// As [`Self::client`], in a folder.
    fn client_in(&self, folder: Option<&Path>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let strip = Strip::asked().filter(|_| Path::new(program.as_ref()).ends_with("ferry"));
        let before = strip::program(strip.as_ref()).expect("stripped-client is built");
        let is_stripped = before.is_some();
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some(folder) = folder {
            words.extend(["env".into(), "-C".into(), folder.into()]);
        }
        words.extend(before.map(Into::into));
        words.push(program.as_ref().into());
        let mut command = self.sandbox.command(&words[0]);
        command.args(&words[1..]).env("DOCKER_HOST", self.host());
        if let Some(strip) = strip.filter(|_| is_stripped) {
            command.env(strip::VARIABLE, strip.to_string());
        }
        command
    }

    /// Runs `ferry` with arguments, in a folder.
    ///
    /// # Panics
    /// When it cannot be run or takes too long.
    #[must_use]
    #[track_caller]
    pub fn run_in(&self, folder: &Path, args: &[&str]) -> Outcome {
        let mut ferry = self.client_in(Some(folder), programs::binary("ferry").expect("ferry is built"));
        ferry.args(args);
        command::run(ferry).expect("ferry ends in time")
    }

    /// Runs `ferry` with arguments.
    ///
    /// # Panics
    /// When it cannot be run or takes too long.
    #[must_use]
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with_input(args, b"")
    }

    /// Runs `ferry` with arguments and standard input.
    ///
    /// # Panics
    /// When it cannot be run or takes too long.
    #[must_use]
    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], stdin: &[u8]) -> Outcome {
        let mut ferry = self.client(programs::binary("ferry").expect("ferry is built"));
        ferry.args(args);
        command::run_with_input(ferry, stdin).expect("ferry ends in time")
    }

    /// Runs the unmodified Docker CLI with arguments.
    ///
    /// # Panics
    /// When it cannot be run or takes too long.
    #[must_use]
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Outcome {
        let mut docker = self.client(programs::docker().expect("checked by need_docker_cli"));
        docker.args(args);
        command::run(docker).expect("docker ends in time")
    }

    /// Starts `ferry` with arguments, its input closed, without waiting for its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut ferry = self.client(programs::binary("ferry").expect("ferry is built"));
        ferry.args(args);
        Running::start(ferry, b"").expect("ferry starts")
    }

    /// Runs a shell line with `ferry`, `docker` and `DOCKER_HOST` at hand.
    ///
    /// # Panics
    /// When it cannot be run or takes too long.
    #[must_use]
    #[track_caller]
    pub fn sh(&self, line: &str) -> Outcome {
        let mut shell = self.client("sh");
        shell.args(["-c", line]);
        command::run(shell).expect("a shell line ends in time")
    }

    /// Loads an image archive.
    ///
    /// # Panics
    /// When it is not taken.
    #[track_caller]
    pub fn load(&self, archive: &Path) {
        let _ = self.run(&["load", "-q", "-i", &archive.display().to_string()]).ok();
    }

    /// Sends one API request.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        api::request(&self.socket(), method, path, body).expect("the daemon answers")
    }

    /// Sends one API request without a body and leaves the answer unread, for as long as the socket is held.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    #[track_caller]
    pub fn ask_and_never_read(&self, method: &str, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).expect("the daemon listens");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: ferry\r\nContent-Length: 0\r\n\r\n")
            .expect("the daemon reads");
        stream
    }

    /// Returns one value of an inspect, by a Go template.
    ///
    /// # Panics
    /// When the object does not exist.
    #[must_use]
    #[track_caller]
    pub fn inspect(&self, object: &str, template: &str) -> String {
        self.run(&["inspect", "--format", template, object]).ok()
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "a failed test needs the daemon's own words")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- last lines of the log of daemon {}", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        if let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            command::kill_tree(child.id());
            drop(child.wait());
        }
    }
}
