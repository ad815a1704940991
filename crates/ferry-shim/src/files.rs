//! The words spoken between the engine and the process that works in a container's files.
//!
//! That process is the same program as the shim, started anew for each piece of work: it reads one [`Work`] with its descriptors, goes into
//! the container's view of its files and nowhere else, does it, and ends. Archives are plain tars on the data socket: what was
//! compressed is decompressed by the engine, so nothing of the container's is ever run or loaded.
//!
//! Frames are those of [`crate::framing`]. Descriptors of a [`Work`], in order: the data socket, then what its [`View`] needs.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ferry_spec::runtime::Mount;
use ferry_sys::spawn::{Spawn, spawn};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::client::{ShimProgram, SpawnedShim};

/// The first argument of the program that makes it do this.
pub const ARGUMENT: &str = "files";

/// What the engine asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// Where.
    pub view: View,
    /// What.
    pub action: Action,
}

/// Which files are seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Those of a container that runs, with its mounts. Descriptor: a pidfd of its process.
    Running {
        /// Places whose mounts are left out: the kernel's own.
        hidden: Vec<String>,
    },
    /// Its root file system alone. Descriptor: a pidfd of its process.
    RunningRoot,
    /// Those of a container that does not run. Descriptors: its root file system, a detached mount; one detached tree per entry of `given`.
    Stopped {
        /// Its mounts; those that are not bind mounts have nothing in them.
        mounts: Vec<Mount>,
        /// Which of them come as descriptors, by their places in `mounts`.
        given: Vec<usize>,
    },
    /// Those of a folder that is no container's, a volume's. Descriptor: the folder, a detached mount.
    Folder,
    /// A writable layer and what lies below it. Descriptors: the layer's folder, then, if there is something below, a mount of that.
    Layers {
        /// The layer is a whole copy, and says what is gone by not having it.
        whole: bool,
    },
}

/// What is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Look at one path: [`Reply::Stat`].
    Stat {
        /// As the client wrote it.
        path: String,
    },
    /// Write an archive of a path to the data socket: [`Reply::Stat`] first, [`Reply::Done`] after the last byte.
    Read {
        /// As the client wrote it.
        path: String,
    },
    /// Unpack the archive on the data socket into a folder: [`Reply::Done`].
    Write(Unpack),
    /// Write an archive of everything to the data socket: [`Reply::Done`].
    Export {
        /// The folder itself comes first.
        itself: bool,
    },
    /// Write the changes to the data socket, each `0`, `1` or `2` (modified, added, deleted), a path and a NUL: [`Reply::Done`].
    Changes,
    /// Write the changes as the tar of an image layer to the data socket: [`Reply::Done`].
    Layer {
        /// Nothing ran there: what looks like the runtime's was put there by somebody.
        exact: bool,
    },
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpack {
    /// The folder, as the client wrote it.
    pub path: String,
    /// Neither folders replace others, nor others folders.
    pub keep_kinds: bool,
    /// Everything belongs to this user of the container's.
    pub user: Option<String>,
    /// What the archive says of the folder itself holds for it.
    pub itself: bool,
    /// Mounts of volumes and binds: where, and whether they can be written.
    pub volumes: Vec<(String, bool)>,
    /// The root file system is not to be written.
    pub read_only_root: bool,
}

/// What it answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What a path is.
    Stat(PathStat),
    /// All was done.
    Done,
    /// It failed.
    Failed {
        /// How.
        kind: FailureKind,
        /// Why.
        message: String,
    },
}

/// Kinds of [`Reply::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is nothing at the path.
    NotFound,
    /// The request is wrong.
    Invalid,
    /// Anything else.
    Internal,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Its last part.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// Unix time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads in the end, as far as it leads anywhere.
    pub link_target: String,
}

impl ShimProgram {
    /// Starts the program for one piece of work. Its socket takes the [`Work`].
    ///
    /// # Errors
    /// When no process or socket can be made.
    pub fn spawn_for_files(&self) -> io::Result<SpawnedShim> {
        let (socket, theirs) = UnixStream::pair()?;
        let argument = CString::new(ARGUMENT).map_err(|_| io::ErrorKind::InvalidInput)?;
        let pid = spawn(&Spawn {
            program: self.as_fd(),
            arguments: &[CString::from(c"ferry-shim"), argument],
            fds: &[theirs.as_fd(), self.null(), self.null()],
        })?;
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(SpawnedShim::new(socket, pid, pidfd))
    }
}
