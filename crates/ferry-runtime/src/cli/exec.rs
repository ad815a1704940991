//! `exec`: one more program in a container.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::{Error, ErrorKind, ExecOptions, ExecTarget, Stdio};
use ferry_spec::runtime::{Capabilities, Process};

use super::arguments::{Arguments, Option as Flag, Rest};
use super::create::{own_stdio, sockets_handed_over, write_pid_file};
use super::store::Store;
use super::{failed, invalid, sealed, terminal, unsupported};

const OPTIONS: &[Flag] = &[
    Flag::value("console-socket"),
    Flag::value("pidfd-socket"),
    Flag::value("cwd"),
    Flag::value("env").short('e'),
    Flag::switch("tty").short('t'),
    Flag::value("user").short('u'),
    Flag::value("additional-gids").short('g'),
    Flag::value("process").short('p'),
    Flag::switch("detach").short('d'),
    Flag::value("pid-file"),
    Flag::value("process-label"),
    Flag::value("apparmor"),
    Flag::switch("no-new-privs"),
    Flag::value("cap").short('c'),
    Flag::value("preserve-fds"),
    Flag::value("cgroup"),
    Flag::switch("ignore-paused"),
];

pub(crate) fn exec(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (arguments, words) = Arguments::parse(OPTIONS, line, Rest::StopsAtWord)?;
    let (id, program) = words.split_first().ok_or_else(|| invalid("a container id is needed"))?;
    sealed::ensure()?;
    let record = store.load(id)?;
    if store.status(&record)? == "stopped" {
        return Err(Error::new(ErrorKind::NotRunning, "cannot exec in a stopped container"));
    }
    let process = match arguments.get("process") {
        Some(path) if program.is_empty() => {
            let text = std::fs::read(path).map_err(|error| failed(&format!("read {path}"), &error))?;
            serde_json::from_slice(&text).map_err(|error| invalid(format!("{path}: {error}")))?
        }
        Some(_) => return Err(invalid("a program and --process exclude each other")),
        None => process(&arguments, record.spec.process.clone().unwrap_or_default(), program)?,
    };
    let console_socket = arguments.get("console-socket").filter(|path| !path.is_empty()).map(PathBuf::from);
    let detach = arguments.has("detach");
    if process.terminal && detach && console_socket.is_none() {
        return Err(invalid("cannot allocate tty if the runtime will detach without setting console socket"));
    }
    let cgroup = sub_cgroup(&record.cgroup, arguments.get("cgroup"))?;
    let target = ExecTarget::open(record.pid, &record.spec, &cgroup)?;
    let stdio = if process.terminal { Stdio::Terminal } else { own_stdio()? };
    let options = ExecOptions {
        preserved_fds: arguments.number("preserve-fds")? + sockets_handed_over(),
        ignore_paused: arguments.has("ignore-paused"),
    };
    let mut started = ferry_runtime::exec_with(&target, &process, stdio, options)?;
    if let Some(path) = arguments.get("pidfd-socket").filter(|path| !path.is_empty()) {
        terminal::send(path.as_ref(), b"pidfd", started.pidfd.as_fd())?;
    }
    if let Some(path) = arguments.get("pid-file").filter(|path| !path.is_empty()) {
        write_pid_file(path.as_ref(), started.pid)?;
    }
    let mut console = started.console.take();
    if let (Some(path), Some(master)) = (&console_socket, &console) {
        terminal::send(path, b"/dev/ptmx", master.as_fd())?;
        console = None;
    }
    if detach { Ok(ExitCode::SUCCESS) } else { terminal::attend(started.pid, console) }
}

/// The cgroup below the container's that `--cgroup` names.
fn sub_cgroup(own: &str, wanted: Option<&str>) -> Result<String, Error> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(own.into()) };
    if wanted.contains(':') {
        return Err(unsupported(format!("--cgroup {wanted}: a cgroup for some controllers only is not supported")));
    }
    let path = format!("{own}/{}", wanted.trim_start_matches('/'));
    if Cgroup::open(&path)?.exists() {
        return Ok(path);
    }
    Err(invalid(format!("bad sub cgroup path: {wanted}: no such cgroup in the container")))
}

/// The container's own process with what the options change.
fn process(arguments: &Arguments, base: Process, program: &[String]) -> Result<Process, Error> {
    if program.is_empty() {
        return Err(invalid("a program is needed"));
    }
    let mut process = Process { args: program.to_vec(), terminal: arguments.has("tty"), console_size: None, ..base };
    if let Some(cwd) = arguments.get("cwd") {
        process.cwd = cwd.into();
    }
    process.env.extend(arguments.all("env").map(String::from));
    if let Some(user) = arguments.get("user") {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |text: &str| text.parse().map_err(|_| invalid(format!("--user needs numbers, not {user:?}")));
        process.user.username = None;
        (process.user.uid, process.user.gid) = (number(uid)?, number(gid)?);
    }
    for gid in arguments.all("additional-gids") {
        let gid = gid.parse().map_err(|_| invalid(format!("--additional-gids needs a number, not {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    if let Some(label) = arguments.get("process-label") {
        process.selinux_label = Some(label.into());
    }
    if let Some(profile) = arguments.get("apparmor") {
        process.apparmor_profile = Some(profile.into());
    }
    process.no_new_privileges |= arguments.has("no-new-privs");
    for name in arguments.all("cap") {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.iter().any(|known| known == name) {
                set.push(name.into());
            }
        }
    }
    Ok(process)
}
