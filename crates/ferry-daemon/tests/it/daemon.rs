//! One daemon under test, and raw HTTP with it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Program under test.
pub(crate) const FERRYD: &str = env!("CARGO_BIN_EXE_ferryd");
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Namespaces like a fresh host: an own `/run`, a loopback that is up. They go with the daemon.
const IN_NAMESPACES: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"";

/// A daemon that runs.
pub(crate) struct Daemon {
    folder: TempDir,
    child: Child,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// Tells whether a daemon can be started; says so where it cannot, or fails where the run promises that everything is present.
pub(crate) fn can_start() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root".to_owned()
    } else if !helpers().join("ferry-shim").exists() {
        format!("ferry-shim in {}: run `cargo build --workspace`", helpers().display())
    } else {
        return true;
    };
    assert!(std::env::var("FERRY_TEST_REQUIRE_ALL").as_deref() != Ok("1"), "this test needs {missing}");
    // To the terminal itself: the harness keeps what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: this test needs {missing}");
    false
}

/// Folder of the helper programs.
fn helpers() -> PathBuf {
    match std::env::var_os("FERRY_TEST_BIN_DIR") {
        Some(folder) => folder.into(),
        None => Path::new(FERRYD).parent().expect("a program lies in a folder").to_owned(),
    }
}

impl Daemon {
    pub(crate) fn start(extra: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), extra)
    }

    /// Starts with a variable, `NAME=value`, in the environment.
    pub(crate) fn start_with_env(variable: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let (name, value) = variable.split_once('=').expect("NAME=value");
        Self::spawn(Self::command(&folder, &[]).env(name, value), log, folder)
    }

    /// Starts as a service manager would that holds the socket: as descriptor 3, with two variables that say so.
    pub(crate) fn start_activated() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let socket = std::os::unix::net::UnixListener::bind(path("sock")).expect("a socket");
        let script = format!("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; {IN_NAMESPACES}");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--", "sh", "-c", &script, "sh", FERRYD, "--host", "fd://"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--libexec-dir", &helpers().display().to_string()])
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null());
        Self::spawn(&mut command, log, folder)
    }

    /// Starts on what an earlier daemon left.
    pub(crate) fn start_in(folder: TempDir, extra: &[&str]) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Self::command(&folder, extra);
        Self::spawn(&mut command, log, folder)
    }

    fn spawn(command: &mut Command, log: std::fs::File, folder: TempDir) -> Self {
        let child = command.stderr(Stdio::from(log)).spawn().expect("unshare runs");
        let mut daemon = Self { folder, child };
        let log = daemon.path("log");
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while daemon.try_get("/_ping").is_none_or(|answer| answer.status != 200) {
            let ended = daemon.child.try_wait().expect("our child");
            assert!(ended.is_none() && Instant::now() < deadline, "ferryd does not start ({ended:?}): {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn command(folder: &TempDir, extra: &[&str]) -> Command {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--", "sh", "-c", IN_NAMESPACES, "sh", FERRYD, "--debug"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("sock"))])
            .args(["--libexec-dir", &helpers().display().to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts a second one beside this, which is to fail, and returns what it says.
    pub(crate) fn rival(&self, extra: &[&str]) -> (Option<i32>, String) {
        let output = Self::command(&self.folder, extra).stderr(Stdio::piped()).output().expect("unshare runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("ferryd listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends bytes and reads to the end of the connection.
    pub(crate) fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // It may answer and hang up before it has read everything.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        parse(&bytes)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.exchange(request.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").as_bytes())
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        UnixStream::connect(self.socket()).ok()?;
        Some(self.get(path))
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("ferryd is our child");
    }

    /// Waits for its end; returns its exit code and what it leaves.
    pub(crate) fn ended(mut self) -> (Option<i32>, TempDir) {
        let status = self.child.wait().expect("our child");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        (status.code(), folder)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).unwrap_or(0);
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}
