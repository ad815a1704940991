//! The words spoken between the engine and a shim, protocol version 1.
//!
//! Frame: `u32` little-endian length, then that many bytes of JSON. File descriptors travel by `SCM_RIGHTS` with the first
//! byte of the frame that names them, in the order given by the variant. Requests carry a `seq`; the reply repeats it. Events
//! have no `seq` and come unasked.
//!
//! Two transports carry the same frames: the socket pair a shim is born with (its fd 0), and `shim.sock` in the container's run-time
//! folder, on which it listens from the moment a container exists. A shim without a container ends at EOF of its fd 0; one
//! with a container outlives every connection.

use std::path::PathBuf;

use ferry_spec::runtime::{LinuxResources, Process, ScopeName, Spec};
use serde::{Deserialize, Serialize};

use crate::forward::Forward;

/// The version this build speaks; a shim announces its own in [`Hello`].
pub const PROTOCOL_VERSION: u32 = 1;

/// First frame from the shim on every connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version of the shim.
    pub version: u32,
    /// Pid of the shim.
    pub pid: u32,
}

/// A request with its sequence number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Repeated in the reply.
    pub seq: u64,
    /// What is asked.
    pub request: Request,
}

/// What an engine asks of a shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Builds the container and starts its process. Fds, in order: `container_dir` (data folder: log, `exit.json`), `run_dir`
    /// (run-time folder: `shim.sock`, `state.json`), the rootfs mount when `rootfs_fd`, the network namespace when `network_fd`, the
    /// program `ferry-logger` when the log is [`LogOptions::Remote`], one detached tree per entry of `mount_fds`, then one socket per
    /// entry of `attached`.
    Start(Box<Start>),
    /// Runs another process in the container. Fds: one socket per entry of `attached`.
    Exec(Box<Exec>),
    /// Attaches one more client. Fd: its stream socket.
    Attach {
        /// Which process.
        target: Target,
        /// Which streams.
        streams: Streams,
    },
    /// Sends a signal.
    Kill {
        /// Which process.
        target: Target,
        /// Signal number.
        signal: i32,
        /// Every process of the container's cgroup, not only the target.
        all: bool,
    },
    /// Sets the window size of a terminal.
    Resize {
        /// Which process.
        target: Target,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Freezes the container's cgroup.
    Pause,
    /// Thaws the container's cgroup.
    Resume,
    /// Answers [`Reply::State`].
    State,
    /// Lists host pids of the container: [`Reply::Pids`].
    Pids,
    /// Reads what the container has used so far: [`Reply::Usage`].
    Usage,
    /// Sets the limits that are present on the container's cgroups; the others stay.
    Update(Box<LinuxResources>),
    /// Ends the shim after the container has exited and `exit.json` is written; removes `run_dir` contents and the cgroups.
    Shutdown,
}

/// Everything that [`Request::Start`] needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Container id, 64 hex digits.
    pub id: String,
    /// The OCI runtime configuration. `root.path` is ignored when `rootfs_fd`.
    pub spec: Spec,
    /// Run-time folder by name, for binding `shim.sock` and for a foreign runtime.
    pub run_dir: PathBuf,
    /// The rootfs comes as a detached mount.
    pub rootfs_fd: bool,
    /// The network namespace comes as a descriptor.
    pub network_fd: bool,
    /// Places in `spec.mounts` whose sources come as detached trees of mounts.
    #[serde(default)]
    pub mount_fds: Vec<usize>,
    /// cgroup path below the root of each hierarchy, such as `/ferry-1a2b3c4d/<id>`; also in `spec.linux.cgroups_path`.
    pub cgroup: String,
    /// The scope of systemd's that `cgroup` is; `None` makes it as a folder.
    #[serde(default)]
    pub scope: Option<ScopeName>,
    /// cgroup for the shim itself; `None` stays where it is.
    pub shim_cgroup: Option<String>,
    /// The scope of systemd's that `shim_cgroup` is.
    #[serde(default)]
    pub shim_scope: Option<ScopeName>,
    /// Keep stdin open for attached clients (`-i`).
    pub open_stdin: bool,
    /// Close stdin when the first attached client that brought stdin goes.
    pub stdin_once: bool,
    /// How to log.
    pub log: LogOptions,
    /// A foreign runtime's program and arguments (`runtimes` in daemon.json); `None` is ferry's own.
    pub foreign_runtime: Option<ForeignRuntime>,
    /// Clients attached from before the first byte.
    pub attached: Vec<Streams>,
}

/// A foreign OCI runtime with runc's command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForeignRuntime {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments before the sub-command.
    pub args: Vec<String>,
}

/// The log driver of the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOptions {
    /// Nothing is kept.
    None,
    /// Docker's json-file in the container's data folder.
    JsonFile {
        /// File name in the data folder, `<id>-json.log`.
        file_name: String,
        /// Rotate when a file would pass this; `None` never rotates.
        max_size_bytes: Option<u64>,
        /// Files kept, the live one included; at least 1.
        max_files: u32,
        /// gzip rotated files.
        compress: bool,
        /// Extra `attrs` on each line (labels, env, tag), already chosen by the engine.
        attrs: Vec<(String, String)>,
    },
    /// Docker's local in the container's data folder.
    Local(LocalLog),
    /// Lines go to a server, by way of a `ferry-logger` that the shim starts.
    Remote(Box<RemoteLog>),
}

/// A log in the format of the driver `local`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocalLog {
    /// Folder in the data folder, made when it is missing; `None` is the data folder itself.
    pub folder: Option<String>,
    /// File name in it.
    pub file_name: String,
    /// Rotate when a file would pass this; `None` never rotates.
    pub max_size_bytes: Option<u64>,
    /// Files kept, the live one included; at least 1.
    pub max_files: u32,
    /// gzip rotated files.
    pub compress: bool,
    /// Extra attributes of each line, already chosen by the engine.
    pub attrs: Vec<(String, String)>,
}

/// A log that is kept elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoteLog {
    /// What `ferry-logger` is told.
    pub forward: Forward,
    /// A copy for `logs`, unless `cache-disabled`.
    pub cache: Option<LocalLog>,
    /// `mode=non-blocking`: bytes of text that wait at most; what comes on top of that is dropped. `None` holds the container up.
    pub drop_beyond_bytes: Option<u64>,
}

/// Everything that [`Request::Exec`] needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Exec id, 64 hex digits.
    pub exec_id: String,
    /// The OCI process.
    pub process: Process,
    /// Keep stdin open for attached clients.
    pub open_stdin: bool,
    /// Clients attached from before the first byte.
    pub attached: Vec<Streams>,
}

/// Which process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The container's own process.
    Init,
    /// An exec by its id.
    Exec(String),
}

/// Which streams an attached client takes part in.
///
/// On the stream socket the shim sends Docker's multiplexed frames (stream byte 1 or 2, three zeros, `u32` big-endian length, payload), or raw bytes when the
/// process has a terminal; and reads raw stdin. A half-close from the client is EOF on stdin. The shim closes the socket when the
/// process has ended and all its output was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Bytes from the socket go to stdin.
    pub stdin: bool,
    /// stdout is sent.
    pub stdout: bool,
    /// stderr is sent.
    pub stderr: bool,
}

/// A frame from the shim after [`Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimFrame {
    /// Answers the request of that sequence number.
    Reply {
        /// From the request.
        seq: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something happened.
    Event(Event),
}

/// Answers of a shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok,
    /// The process runs: `execve` has succeeded.
    Started {
        /// Host pid of the process.
        pid: u32,
    },
    /// The state of the container.
    State(State),
    /// Host pids.
    Pids(Vec<u32>),
    /// What the container has used.
    Usage(Box<Usage>),
    /// It failed; nothing was left behind.
    Error(ShimError),
}

/// What a container has used since its start. What the host does not count is `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Unix time in nanoseconds.
    pub time_ns: i64,
    /// Processor time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Tasks.
    pub pids: Option<PidsUsage>,
    /// Block devices.
    pub io: Option<IoUsage>,
    /// Interfaces of its network namespace.
    pub interfaces: Vec<InterfaceUsage>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CpuUsage {
    /// All.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// By processor; empty on v2.
    pub per_cpu_ns: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Counted by cgroup v2, where names and meaning of `stat` differ.
    pub unified: bool,
    /// In use, page cache included.
    pub usage: u64,
    /// Most ever in use; 0 where the kernel does not tell.
    pub max_usage: u64,
    /// Limit; `u64::MAX` without one.
    pub limit: u64,
    /// Times that the limit was hit (v1).
    pub fail_count: u64,
    /// Times that nothing could be reclaimed at the limit (v2).
    pub oom_count: u64,
    /// The lines of `memory.stat`.
    pub stat: Vec<(String, u64)>,
}

/// Tasks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PidsUsage {
    /// Counted by cgroup v2.
    pub unified: bool,
    /// How many there are.
    pub current: u64,
    /// How many there may be; `u64::MAX` without a limit.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct IoUsage {
    /// Counted by cgroup v2.
    pub unified: bool,
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
}

/// One figure of one block device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// The kernel's word on v1, such as `Read`; `read` and `write` on v2.
    pub kind: String,
    /// The figure.
    pub value: u64,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceUsage {
    /// Its name in the container.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors in receiving.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in sending.
    pub tx_errors: u64,
    /// Dropped before sending.
    pub tx_dropped: u64,
}

/// The state of a shim's container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Container id.
    pub id: String,
    /// Host pid of the container's process.
    pub pid: u32,
    /// Set when it has ended.
    pub exit: Option<Exit>,
    /// Frozen.
    pub paused: bool,
    /// Execs that run: id and host pid.
    pub execs: Vec<(String, u32)>,
}

/// Why a request failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimError {
    /// What kind of failure, for exit codes.
    pub kind: ShimErrorKind,
    /// The whole text, as runc would word it where Docker clients see it, such as `exec: "foo": executable file not found in $PATH`.
    pub message: String,
}

/// Kinds of [`ShimError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimErrorKind {
    /// The program does not exist (127).
    CommandNotFound,
    /// The program cannot be executed (126).
    CommandNotExecutable,
    /// The container, or the exec, is not there or has ended.
    NotRunning,
    /// The request is not understood or not valid.
    Invalid,
    /// The configuration asks for what this host or build cannot do.
    Unsupported,
    /// Anything else.
    Internal,
}

/// What a shim tells unasked, to every control connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container's process has ended; `exit.json` is written and all its output logged.
    Exited(Exit),
    /// An exec has ended and all its output was sent.
    ExecExited {
        /// Which.
        exec_id: String,
        /// 0..255, 128+signal.
        code: i32,
    },
    /// The memory limit killed a process of the container.
    Oom,
    /// Lines could not be delivered to a remote log.
    LogTrouble {
        /// Why, and how many.
        message: String,
    },
}

/// How the container ended; also the content of `exit.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Exit {
    /// 0..255, 128+signal.
    pub code: i32,
    /// Unix time in nanoseconds.
    pub time_ns: i64,
    /// The memory limit killed a process of the container.
    pub oom_killed: bool,
    /// Signal that ended the process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}
