//! Driving a runtime with runc's command line: runc, crun, youki.
//!
//! ```text
//! <run_dir>/bundle/config.json   the configuration, root at `rootfs`
//! <run_dir>/bundle/rootfs        where the root mount is put, in a mount namespace of the shim's own
//! <run_dir>/foreign/             the runtime's state (`--root`), its log, pid files, console socket
//! ```
//! The shim is the child subreaper, so the processes which the runtime starts become its children once the runtime has ended, and
//! end, streams and signals are handled as for ferry's own.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::{Rootfs, Stdio};
use ferry_shim::protocol::{ForeignRuntime, ShimError, ShimErrorKind};
use ferry_spec::runtime::{LinuxNamespace, LinuxNamespaceKind, Process, Root, Spec, User};
use ferry_sys::namespace::Namespaces;
use ferry_sys::spawn::{Spawn, spawn};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use serde::Deserialize;

use crate::container::{failure, internal, shim_error};
use crate::runtime::{Plan, Started, open_program};

/// What configurations call themselves: crun before 1.9 refuses every later version, and what later versions add is ignored by
/// runtimes that do not know it, whatever the number.
const OCI_VERSION: &str = "1.0.2";

const CONSOLE_SOCKET: &str = "console.sock";
const LOG: &str = "log.json";
const PID_FILE: &str = "pid";
const PROCESS_FILE: &str = "process.json";
/// Begins the names of mounts in the bundle.
const MOUNT_PREFIX: &str = "mount-";

/// A container that a foreign runtime keeps.
#[derive(Debug)]
pub(crate) struct Foreign {
    tool: Tool,
    pid: u32,
    pidfd: OwnedFd,
    cgroup: Cgroup,
}

/// The runtime's program and where it works.
#[derive(Debug)]
struct Tool {
    runtime: ForeignRuntime,
    id: String,
    run_dir: OwnedFd,
    /// `<run_dir>/foreign`.
    dir: OwnedFd,
    run_dir_path: PathBuf,
}

impl Foreign {
    /// `create`, then `start`; on failure nothing is left.
    pub(crate) fn run(runtime: ForeignRuntime, plan: Plan<'_>) -> Result<(Self, Option<OwnedFd>), ShimError> {
        let tool = Tool::prepare(runtime, &plan).map_err(|error| internal("prepare a bundle", &error))?;
        let created = tool.create(plan);
        if created.is_err() {
            tool.delete();
        }
        let (pid, pidfd, cgroup, console) = created?;
        Ok((Self { tool, pid, pidfd, cgroup }, console))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// `exec --detach`.
    pub(crate) fn exec(&self, process: &Process, stdio: Stdio) -> Result<Started, ShimError> {
        let mut process = process.clone();
        process.user = plain_user(&process.user)?;
        process.terminal = matches!(stdio, Stdio::Terminal);
        let json = serde_json::to_vec(&process).map_err(|error| internal("write process", &error.into()))?;
        write(&self.tool.dir, PROCESS_FILE, &json).map_err(|error| internal("write process", &error))?;
        let file = self.tool.path(PROCESS_FILE);
        let (pid, pidfd, console) = self.tool.start_process(&["exec", "--detach", "--process", &file], stdio)?;
        Ok(Started { pid, pidfd, console })
    }

    /// `delete --force`, and the folders.
    pub(crate) fn delete(&self) {
        self.tool.delete();
    }
}

impl Tool {
    fn prepare(runtime: ForeignRuntime, plan: &Plan<'_>) -> io::Result<Self> {
        for name in ["foreign", "bundle", "bundle/rootfs"] {
            match mkdirat(plan.run_dir, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let dir = openat(plan.run_dir, "foreign", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let (run_dir, run_dir_path) = (plan.run_dir.try_clone()?, plan.run_dir_path.to_owned());
        let mut runtime = runtime;
        if plan.scope.is_some() {
            runtime.args.push("--systemd-cgroup".to_owned());
        }
        Ok(Self { runtime, id: plan.id.to_owned(), run_dir, dir, run_dir_path })
    }

    fn create(&self, plan: Plan<'_>) -> Result<(u32, OwnedFd, Cgroup, Option<OwnedFd>), ShimError> {
        let mut spec = plan.spec.clone();
        spec.oci_version = OCI_VERSION.into();
        if let Some(process) = &mut spec.process {
            process.user = plain_user(&process.user)?;
            process.terminal = matches!(plan.stdio, Stdio::Terminal);
        }
        let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
        if !plan.mounts.is_empty() || matches!(plan.rootfs, Rootfs::Mount(_)) {
            leave_shared_mounts().map_err(|error| internal("make mounts of the runtime's own", &error))?;
        }
        let path = match &plan.rootfs {
            Rootfs::Mount(mount) => {
                self.place(mount, "bundle/rootfs").map_err(|error| internal("place the root file system", &error))?;
                "rootfs".into()
            }
            Rootfs::Path(path) => path.to_string_lossy().into_owned(),
        };
        for (index, tree) in &plan.mounts {
            let placed = self.place_mount(*index, tree).map_err(|error| internal("place a mount", &error))?;
            if let Some(mount) = spec.mounts.get_mut(*index) {
                mount.source = Some(placed);
            }
        }
        spec.root = Some(Root { path, readonly });
        if let Some(scope) = plan.scope {
            // The runtime has systemd make it, and names it in its own way.
            spec.linux.get_or_insert_default().cgroups_path = Some(scope.to_string());
        }
        if let Some(network) = &plan.network {
            join_network(&mut spec, network);
        }
        let bundle = openat(&self.run_dir, "bundle", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        bundle
            .map_err(io::Error::from)
            .and_then(|bundle| write(&bundle, "config.json", &serde_json::to_vec(&spec)?))
            .map_err(|error| internal("write config.json", &error))?;
        let bundle = self.run_dir_path.join("bundle").to_string_lossy().into_owned();
        let (pid, pidfd, console) = self.start_process(&["create", "--bundle", &bundle], plan.stdio)?;
        self.call(&["start", &self.id], None)?;
        let cgroup = Cgroup::open(plan.cgroup).map_err(|error| shim_error(&error))?;
        Ok((pid, pidfd, cgroup, console))
    }

    /// The runtime takes a path, so the mount gets one, in a namespace that only the shim and the runtime see.
    fn place(&self, mount: &OwnedFd, name: &str) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        // The folder was opened in the old namespace: its name leads to the same place in the new one.
        Ok(rustix::mount::move_mount(mount, "", rustix::fs::CWD, self.run_dir_path.join(name), flags)?)
    }

    /// Puts a detached tree on a folder or file of the bundle and tells its path.
    fn place_mount(&self, index: usize, tree: &OwnedFd) -> io::Result<String> {
        let name = format!("bundle/{MOUNT_PREFIX}{index}");
        let is_folder = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) == FileType::Directory;
        if is_folder {
            mkdirat(&self.run_dir, &name, Mode::RWXU)?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(&self.run_dir, &name, flags, Mode::RUSR)?;
        }
        self.place(tree, &name)?;
        Ok(self.run_dir_path.join(&name).to_string_lossy().into_owned())
    }

    /// Takes away what [`Tool::place_mount`] made.
    fn forget_mounts(&self) {
        let bundle = self.run_dir_path.join("bundle");
        for entry in std::fs::read_dir(&bundle).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(MOUNT_PREFIX) {
                continue;
            }
            // Not mounted, or not here: in both cases it can go, empty as it is.
            let _ = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH);
            let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir(entry.path()));
        }
    }

    /// A command that starts a process and ends before that does; tells the process by a pid file.
    fn start_process(&self, command: &[&str], stdio: Stdio) -> Result<(u32, OwnedFd, Option<OwnedFd>), ShimError> {
        let (pid_file, console_path) = (self.path(PID_FILE), self.path(CONSOLE_SOCKET));
        let mut arguments = command.to_vec();
        arguments.extend(["--pid-file", &pid_file]);
        let listener = match &stdio {
            Stdio::Terminal => {
                arguments.extend(["--console-socket", &console_path]);
                let listener = ferry_sys::socket::listen_at(self.dir.as_fd(), CONSOLE_SOCKET);
                Some(listener.map_err(|error| internal("listen for the terminal", &error))?)
            }
            Stdio::Fds { .. } => None,
        };
        arguments.push(&self.id);
        self.call(&arguments, Some(stdio))?;
        let started = || -> io::Result<_> {
            let mut text = String::new();
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            File::from(openat(&self.dir, PID_FILE, flags, Mode::empty())?).read_to_string(&mut text)?;
            let number: i32 = text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            let pid = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidData)?;
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            let console = listener.map(|listener| receive_console(&listener)).transpose()?;
            Ok((number.unsigned_abs(), pidfd, console))
        };
        started().map_err(|error| internal("take over the process", &error))
    }

    /// Runs a command of the runtime to its end.
    fn call(&self, command: &[&str], stdio: Option<Stdio>) -> Result<(), ShimError> {
        match self.run_command(command, stdio) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.last_error(command[0])),
            Err(error) => Err(internal(&format!("run {} {}", self.runtime.path.display(), command[0]), &error)),
        }
    }

    fn run_command(&self, command: &[&str], stdio: Option<Stdio>) -> io::Result<bool> {
        let program = open_program(&self.runtime.path)?;
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let streams = match stdio {
            Some(Stdio::Fds { stdin, stdout, stderr }) => [stdin, stdout, stderr],
            Some(Stdio::Terminal) | None => [null()?, null()?, null()?],
        };
        // A new log for each command holds the errors of that command.
        write(&self.dir, LOG, b"")?;
        let (root, log) = (self.path("state"), self.path(LOG));
        let mut arguments = vec![CString::new(self.runtime.path.as_os_str().as_bytes())?];
        let common = ["--root", &root, "--log", &log, "--log-format", "json"];
        let own = self.runtime.args.iter().map(String::as_str);
        for argument in own.chain(common).chain(command.iter().copied()) {
            arguments.push(CString::new(argument)?);
        }
        let fds = [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()];
        let pid = spawn(&Spawn { program: program.as_fd(), arguments: &arguments, fds: &fds })?;
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        let waited = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
        Ok(waited.is_some_and(|(_, status)| status.exit_status() == Some(0)))
    }

    fn last_error(&self, command: &str) -> ShimError {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            level: String,
            #[serde(default)]
            msg: String,
        }
        let mut text = String::new();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        // Without its log the runtime has failed for reasons it keeps to itself.
        let _ = openat(&self.dir, LOG, flags, Mode::empty()).map(|fd| File::from(fd).read_to_string(&mut text));
        let mut errors = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        match errors.rfind(|line| line.level == "error" || line.level == "fatal") {
            Some(Line { msg, .. }) => failure(kind_of(&msg), strip_stage(&msg)),
            None => failure(ShimErrorKind::Internal, format!("{} {command} failed", self.runtime.path.display())),
        }
    }

    fn delete(&self) {
        // What the runtime does not know any more is deleted; cgroups are removed once more by the caller.
        let _ = self.run_command(&["delete", "--force", &self.id], None);
        let mount = self.run_dir_path.join("bundle/rootfs");
        // Not mounted, or not here: in both cases the folder can go.
        let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
        self.forget_mounts();
        for name in [CONSOLE_SOCKET, LOG, PID_FILE, PROCESS_FILE] {
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
        let _ = unlinkat(&self.dir, "state", AtFlags::REMOVEDIR);
        let _ = unlinkat(&self.run_dir, "bundle/config.json", AtFlags::empty());
        for name in ["bundle/rootfs", "bundle", "foreign"] {
            let _ = unlinkat(&self.run_dir, name, AtFlags::REMOVEDIR);
        }
    }

    /// A name in the runtime's folder, short enough for a socket whatever the folder is called.
    fn path(&self, name: &str) -> String {
        format!("/proc/{}/fd/{}/{name}", std::process::id(), self.dir.as_raw_fd())
    }
}

/// A namespace of mounts that only the shim and the runtime see.
fn leave_shared_mounts() -> io::Result<()> {
    ferry_sys::namespace::unshare(Namespaces::MOUNT)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", slave)?)
}

fn receive_console(listener: &std::os::unix::net::UnixListener) -> io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    let (mut name, mut fds) = ([0; 4096], Vec::new());
    ferry_sys::socket::receive(&socket, &mut name, &mut fds)?;
    fds.pop().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn join_network(spec: &mut Spec, network: &OwnedFd) {
    let namespaces = &mut spec.linux.get_or_insert_default().namespaces;
    namespaces.retain(|namespace| namespace.kind != LinuxNamespaceKind::Network);
    let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    namespaces.push(LinuxNamespace { kind: LinuxNamespaceKind::Network, path: Some(path) });
}

/// The specification has numbers only; names are looked up by ferry's own runtime, inside.
fn plain_user(user: &User) -> Result<User, ShimError> {
    let mut plain = user.clone();
    let unsupported = |what: &str| {
        failure(ShimErrorKind::Unsupported, format!("a foreign runtime takes users by number; {what} is a name"))
    };
    if let Some(name) = plain.username.take().filter(|name| !name.is_empty()) {
        let (uid, gid) = name.split_once(':').unwrap_or((&name, "0"));
        let uid = if uid == "root" { "0" } else { uid };
        plain.uid = uid.parse().map_err(|_| unsupported(uid))?;
        plain.gid = gid.parse().map_err(|_| unsupported(gid))?;
    }
    for group in std::mem::take(&mut plain.additional_group_names) {
        plain.additional_gids.push(group.parse().map_err(|_| unsupported(&group))?);
    }
    Ok(plain)
}

/// As Docker sorts the words of runtimes.
fn kind_of(message: &str) -> ShimErrorKind {
    let has = |part: &str| message.contains(part);
    if has("executable file") && has("not found") || (has("exec") && has("no such file or directory")) {
        ShimErrorKind::CommandNotFound
    } else if has("exec") && (has("permission denied") || has("not a directory") || has("is a directory")) {
        ShimErrorKind::CommandNotExecutable
    } else {
        ShimErrorKind::Internal
    }
}

fn strip_stage(message: &str) -> &str {
    let message = message.strip_prefix("runc create failed: ").unwrap_or(message);
    message.strip_prefix("exec failed: ").unwrap_or(message)
}

fn write(dir: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    File::from(openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?).write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_runtimes_are_sorted_as_docker_does() {
        let cases = [
            (
                r#"runc create failed: unable to start container process: exec: "x": executable file not found in $PATH"#,
                ShimErrorKind::CommandNotFound,
            ),
            (r#"executable file `x` not found in $PATH: No such file or directory"#, ShimErrorKind::CommandNotFound),
            (
                r#"unable to start container process: exec: "/x": stat /x: no such file or directory"#,
                ShimErrorKind::CommandNotFound,
            ),
            (
                r#"unable to start container process: exec: "/etc": permission denied"#,
                ShimErrorKind::CommandNotExecutable,
            ),
            ("mount /proc: permission denied", ShimErrorKind::Internal),
        ];
        for (message, kind) in cases {
            assert_eq!(kind_of(message), kind, "{message}");
        }
    }

    #[test]
    fn names_of_users_are_not_silently_root() {
        let user = |name: &str| User { username: Some(name.into()), ..User::default() };
        assert_eq!(plain_user(&user("1000:50")).map(|user| (user.uid, user.gid)).ok(), Some((1000, 50)));
        assert_eq!(plain_user(&user("")).map(|user| user.uid).ok(), Some(0));
        assert_eq!(plain_user(&user("nobody")).expect_err("a name").kind, ShimErrorKind::Unsupported);
    }
}
