//! Starts a daemon when none answers on the default socket, or tells why not.
//!
//! Two clients that do so at once end with one daemon: a lock file serialises them, and the second finds the first
//! one's daemon. The daemon lives in a session of its own and writes to a log file that it is told of by
//! `FERRYD_LOG_FILE`, so that `info` can name it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ferry_client::{Client, Error};
use rustix::fs::{FlockOperation, flock};

use crate::context::variable;
use crate::failure::{Failure, Result};
use crate::output::Printer;

/// The hidden word by which the client turns itself into the daemon, in a new session.
pub(crate) const EXEC_WORD: &str = "__exec-daemon";

const LOG_FILE: &str = "/var/log/ferryd.log";
const PID_FILE: &str = "/run/ferry/ferryd.pid";
const LOCK_FILE: &str = "/run/ferry-autostart.lock";
const READY_WITHIN: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 10;

/// Starts a daemon if that is allowed; otherwise leaves the error to the command's own request, or adds a hint.
pub(crate) async fn start_or_explain(client: &Client, error: &Error, printer: &Printer) -> Result<()> {
    if let Error::Denied { .. } = error {
        return Err(Failure::new(format!("{}\n{}", list_denied(client), denied_hint())));
    }
    if !error.is_connect() || variable("FERRY_AUTOSTART").as_deref() == Some("0") {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!(
            "{error}\nhint: no ferryd is running and only root can start one: type `sudo ferry info`"
        )));
    }
    let _lock = lock()?;
    if client.connect().await.is_ok() {
        return Ok(());
    }
    let Some(program) = find_daemon() else {
        printer.note("hint: no ferryd beside this program or in PATH to start");
        return Ok(());
    };
    let start = log_length(Path::new(LOG_FILE));
    let child = spawn(&program)?;
    wait_until_ready(client, child, start).await
}

/// Docker's sentence, which names the request; connecting ahead of any stands for it.
fn list_denied(client: &Client) -> Error {
    let path = match client.endpoint() {
        ferry_client::Endpoint::Unix(path) => path.display().to_string(),
        ferry_client::Endpoint::Tcp(address) => address.clone(),
    };
    let operation = format!("Head \"http://{}/_ping\"", path.replace('/', "%2F"));
    Error::Denied { host: client.host().to_owned(), operation, path }
}

fn denied_hint() -> &'static str {
    if daemon_is_running() {
        "hint: you are not in the group docker: type `sudo usermod -aG docker $USER`, then log in again"
    } else {
        "hint: ferryd is not running and only root can start it: type `sudo ferry info`"
    }
}

fn daemon_is_running() -> bool {
    let Ok(pid) = std::fs::read_to_string(PID_FILE) else { return false };
    std::fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|name| name.trim_end() == "ferryd")
}

fn lock() -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(LOCK_FILE)
        .map_err(|error| Failure::new(format!("cannot open {LOCK_FILE}: {error}")))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| Failure::new(format!("cannot lock {LOCK_FILE}: {error}")))?;
    Ok(file)
}

fn find_daemon() -> Option<PathBuf> {
    let sibling = std::env::current_exe()
        .ok()
        .and_then(|path| path.canonicalize().ok())
        .map(|path| path.with_file_name("ferryd"));
    if let Some(path) = sibling.filter(|path| path.is_file()) {
        return Some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("ferryd")).find(|path| path.is_file())
}

fn log_length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn spawn(program: &Path) -> Result<Child> {
    let failed = |what: &str, error: std::io::Error| Failure::new(format!("cannot start ferryd: {what}: {error}"));
    let log = OpenOptions::new().create(true).append(true).open(LOG_FILE).map_err(|error| failed(LOG_FILE, error))?;
    let log_copy = log.try_clone().map_err(|error| failed(LOG_FILE, error))?;
    let own = std::env::current_exe().map_err(|error| failed("own program", error))?;
    Command::new(own)
        .arg(EXEC_WORD)
        .arg(program)
        .current_dir("/")
        .env("FERRYD_LOG_FILE", LOG_FILE)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_copy)
        .spawn()
        .map_err(|error| failed(&program.to_string_lossy(), error))
}

/// Leaves the terminal's session and becomes the daemon.
pub(crate) fn become_daemon(words: &[String]) -> ExitCode {
    let printer = Printer::default();
    let Some(program) = words.first() else { return ExitCode::FAILURE };
    if let Err(error) = rustix::process::setsid() {
        printer.note(&format!("cannot leave the session: {error}"));
    }
    let error = Command::new(program).args(&words[1..]).exec();
    printer.note(&format!("cannot execute {program}: {error}"));
    ExitCode::FAILURE
}

async fn wait_until_ready(client: &Client, mut child: Child, log_start: u64) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut pause = Duration::from_millis(1);
    loop {
        if client.connect().await.is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            // Somebody else's daemon may have won the race for the socket.
            if client.connect().await.is_ok() {
                return Ok(());
            }
            return Err(start_failure(&format!("it ended with {status}"), log_start));
        }
        if Instant::now() > deadline {
            return Err(start_failure("it does not answer after 10 seconds", log_start));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn start_failure(reason: &str, log_start: u64) -> Failure {
    let mut text = String::new();
    if let Ok(mut file) = File::open(LOG_FILE) {
        use std::io::{Seek, SeekFrom};
        // What cannot be read is left out: the reason stands without it.
        let _ = file.seek(SeekFrom::Start(log_start));
        let _ = file.read_to_string(&mut text);
    }
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    Failure::new(format!("cannot start ferryd: {reason}; the end of {LOG_FILE}:\n  {tail}"))
}
