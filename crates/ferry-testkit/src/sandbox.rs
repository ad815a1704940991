//! A sandbox: mount, network, PID, IPC, UTS and cgroup namespaces of its own, so that bridges,
//! rules, sysctls, cgroups and default sockets of tests never meet each other or the host's.
//!
//! Owns the namespaces' first process (`sandbox.sh`), the folder that data roots lie in, and the
//! cgroup around everything. Leaves out what runs inside: see [`crate::daemon`].
//!
//! Invariants: everything started inside dies when the sandbox is dropped or when the test process
//! ends in any way (the kernel kills a PID namespace with its first process, which ends at the end
//! of its standard input).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{self, Outcome};
use crate::{programs, wait};

const SCRIPT: &str = include_str!("sandbox.sh");

/// Joins the sandbox's cgroups, then becomes the program: a namespace alone does not move a process.
/// Started from a job in the background, the tests hand down that interrupts are ignored; a person at a terminal does not.
const JOIN: &str = "for t in /sys/fs/cgroup/*/tasks /sys/fs/cgroup/init/cgroup.procs /sys/fs/cgroup/unified/cgroup.procs; do \
    if [ -e \"$t\" ]; then echo 0 >\"$t\"; fi; done; \
    exec env --default-signal=INT,QUIT \"$@\"";

/// See the module.
#[derive(Debug)]
pub struct Sandbox {
    holder: Child,
    /// First process of the PID namespace, as the host numbers it.
    init: u32,
    name: String,
    dir: tempfile::TempDir,
}

impl Sandbox {
    /// Makes a sandbox.
    ///
    /// # Errors
    /// When the namespaces or cgroups cannot be made (no root).
    pub fn new() -> Result<Arc<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale_cgroups();
        }
        let name = format!("ferrytest-{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix("ft").tempdir().context("make a folder for the sandbox")?;
        let script = dir.path().join("sandbox.sh");
        std::fs::write(&script, SCRIPT).context("write the sandbox's script")?;
        let mut holder = Command::new("sh")
            .arg(&script)
            .args(["outer", &name])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("sandbox.log")).context("make the sandbox's log")?)
            .spawn()
            .context("start the sandbox's first process")?;
        let answers = holder.stdout.take().context("the first process has an output")?;
        let mut line = String::new();
        BufReader::new(answers).read_line(&mut line).context("wait for the sandbox")?;
        let log = || std::fs::read_to_string(dir.path().join("sandbox.log")).unwrap_or_default();
        anyhow::ensure!(line == "ready\n", "the sandbox did not come up: {}", log());
        let init = *command::children(holder.id()).first().context("the sandbox has no first process")?;
        Ok(Arc::new(Self { holder, init, name, dir }))
    }

    /// Returns the first process of the sandbox, as the host numbers it.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Returns a folder of the sandbox's own on the host's disk; its path is the same inside.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path by which the host reaches `path` of the sandbox.
    #[must_use]
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let inside = path.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        Path::new("/proc").join(self.init.to_string()).join("root").join(relative)
    }

    /// Returns a command that will run `program` inside, with an environment that starts no surprises.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.enter();
        command.args(["sh", "-c", JOIN, "sh"]).arg(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs::bin_dir().display()))
            .env("HOME", self.dir())
            .env("DOCKER_CONFIG", self.dir().join("cli"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        command
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--net", "--ipc", "--uts", "--cgroup", "--pid", "--wd=/", "--"]);
        command
    }

    /// Runs a shell line inside.
    ///
    /// # Panics
    /// When the shell cannot be run or takes longer than the limit.
    #[must_use]
    #[track_caller]
    pub fn sh(&self, line: &str) -> Outcome {
        self.sh_with_input(line, b"")
    }

    /// Runs a shell line inside with `stdin`.
    ///
    /// # Panics
    /// When the shell cannot be run or takes longer than the limit.
    #[must_use]
    #[track_caller]
    pub fn sh_with_input(&self, line: &str, stdin: &[u8]) -> Outcome {
        let mut shell = self.command("sh");
        shell.args(["-c", line]);
        command::run_with_input(shell, stdin).expect("a shell line runs in time")
    }

    /// Writes a script that can be run at once. A process of its own writes it: whatever this one starts meanwhile holds its open files for a
    /// moment, and what somebody may write to cannot be run ("text file busy").
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn program(&self, path: &Path, text: &str) {
        let line = format!("cat >'{0}' && chmod 755 '{0}'", path.display());
        let _ = self.sh_with_input(&line, text.as_bytes()).ok();
    }

    /// Calls `action` on a thread that has joined the sandbox's network; sockets stay in it.
    ///
    /// # Errors
    /// When the namespace cannot be joined.
    ///
    /// # Panics
    /// When `action` panics.
    pub fn in_network<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", self.init)).context("open the network namespace")?;
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                        .context("join the network namespace")?;
                    Ok(action())
                })
                .join()
                .expect("the action does not panic")
        })
    }

    /// Connects from inside.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connect(&self, address: impl ToSocketAddrs + Send) -> Result<TcpStream> {
        let stream = self.in_network(|| TcpStream::connect(address))??;
        stream.set_read_timeout(Some(command::LIMIT))?;
        Ok(stream)
    }

    /// Listens inside.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&self, address: impl ToSocketAddrs + Send) -> Result<TcpListener> {
        Ok(self.in_network(|| TcpListener::bind(address))??)
    }

    /// Binds a UDP socket inside.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn udp(&self, address: impl ToSocketAddrs + Send) -> Result<UdpSocket> {
        let socket = self.in_network(|| UdpSocket::bind(address))??;
        socket.set_read_timeout(Some(command::LIMIT))?;
        Ok(socket)
    }

    /// Sends a plain GET from inside and returns the whole answer.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn http_get(&self, address: &str, path: &str) -> Result<String> {
        let mut stream = self.connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // With its first process the kernel kills the whole PID namespace; the holder reaps it.
        command::kill(self.init);
        drop(self.holder.wait());
        let cgroups = cgroup_folders(&self.name);
        drop(wait::until("the sandbox's cgroups to empty", Duration::from_secs(5), || {
            cgroups.iter().all(|folder| remove_cgroup(folder)).then_some(())
        }));
    }
}

/// Lists the folders of a sandbox's cgroup in every hierarchy.
fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified_only = !own.lines().any(|line| !line.starts_with("0::"));
    own.lines()
        .filter_map(|line| {
            let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
            let root = match hierarchy {
                "" if unified_only => "/sys/fs/cgroup".to_owned(),
                "" => "/sys/fs/cgroup/unified".to_owned(),
                named => format!("/sys/fs/cgroup/{}", named.trim_start_matches("name=")),
            };
            Some(PathBuf::from(root).join(path.trim_start_matches('/')).join(name))
        })
        .collect()
}

/// Removes a cgroup with all below it; true when it is gone.
fn remove_cgroup(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    std::fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// Removes cgroups of sandboxes whose test process was killed before it could.
fn remove_stale_cgroups() {
    for probe in cgroup_folders("probe") {
        let Some(parent) = probe.parent() else { continue };
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("ferrytest-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_cgroup(&entry.path());
            }
        }
    }
}
