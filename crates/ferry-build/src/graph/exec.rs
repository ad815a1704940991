//! The operation that runs a program.

use ferry_api::container::Ulimit;
use serde::Serialize;

/// Runs a program; its root is the mount at `/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Exec {
    /// Command line.
    pub args: Vec<String>,
    /// `NAME=value` entries, in order.
    pub env: Vec<String>,
    /// Working directory; made when it is not there.
    pub cwd: String,
    /// `user[:group]`, by name from the root's files or by number; empty is root.
    pub user: String,
    /// Host name; empty is `buildkitsandbox`.
    pub hostname: String,
    /// Proxies: part of the environment, but not of the cache key.
    pub proxy: Option<ProxyEnvironment>,
    /// Lines of `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Exit codes that count as success; empty is 0 alone.
    pub valid_exit_codes: Vec<i32>,
    /// Which network it sees.
    pub network: NetworkMode,
    /// How it is confined.
    pub security: SecurityMode,
    /// What is mounted, the root included.
    pub mounts: Vec<Mount>,
    /// Secrets in the environment.
    pub secret_env: Vec<SecretEnvironment>,
    /// Devices (`--device`).
    pub devices: Vec<Device>,
    /// Size of `/dev/shm` in bytes; 0 is the default.
    pub shm_size_bytes: u64,
}

impl Exec {
    /// How many outputs it has.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.mounts.iter().filter_map(|mount| mount.output).map(|output| output + 1).max().unwrap_or(0)
    }
}

/// Proxies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ProxyEnvironment {
    /// `HTTP_PROXY`.
    pub http_proxy: String,
    /// `HTTPS_PROXY`.
    pub https_proxy: String,
    /// `FTP_PROXY`.
    pub ftp_proxy: String,
    /// `NO_PROXY`.
    pub no_proxy: String,
    /// `ALL_PROXY`.
    pub all_proxy: String,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtraHost {
    /// The name.
    pub host: String,
    /// The address.
    pub ip: String,
}

/// Which network a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum NetworkMode {
    /// One of its own, with a way out.
    #[default]
    Sandbox,
    /// The host's; the daemon must allow it.
    Host,
    /// Loopback alone.
    None,
}

/// How a program is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum SecurityMode {
    /// As a container.
    #[default]
    Sandbox,
    /// As a privileged container; the daemon must allow it.
    Insecure,
}

/// Something mounted into the program's view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The tree it starts from, a place in the inputs; `None` is an empty one.
    pub input: Option<usize>,
    /// Only this path of that tree.
    pub selector: String,
    /// Where it is mounted.
    pub target: String,
    /// What is written there becomes this output; `None` is thrown away.
    pub output: Option<usize>,
    /// It cannot be written.
    pub read_only: bool,
    /// What it is.
    pub kind: MountKind,
    /// Its content, not how it came about, is in the cache key (bind mounts of contexts, read-only); `None` leaves that to the executor.
    pub content_cache: Option<bool>,
}

/// What a mount is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum MountKind {
    /// A tree.
    Bind,
    /// A secret as a file.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// Memory.
    Tmpfs(TmpfsMount),
}

/// A secret as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Nothing is mounted when there is no such secret.
    pub optional: bool,
}

/// The socket of an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshMount {
    /// Which agent; `default` when empty.
    pub id: String,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Nothing is mounted when there is no such agent.
    pub optional: bool,
}

/// A directory that outlives the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheMount {
    /// What it is known by.
    pub id: String,
    /// Who may use it at the same time.
    pub sharing: CacheSharing,
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum CacheSharing {
    /// Everybody.
    #[default]
    Shared,
    /// Everybody, each a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TmpfsMount {
    /// Its size in bytes; 0 is the kernel's default.
    pub size_bytes: u64,
}

/// A secret in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretEnvironment {
    /// Which secret.
    pub id: String,
    /// The variable.
    pub name: String,
    /// It is left out when there is no such secret.
    pub optional: bool,
}

/// A device by its CDI name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Such as `vendor.com/class=name`.
    pub name: String,
    /// It is left out when there is no such device.
    pub optional: bool,
}
