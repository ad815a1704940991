//! `create` and `run`: a container from a bundle.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ferry_runtime::systemd::Scope;
use ferry_runtime::{Container, CreateOptions, Error, Rootfs, Stdio};
use ferry_spec::runtime::{ScopeName, Spec};

use super::arguments::{Arguments, Option as Flag, Rest, only};
use super::store::{Record, START_SOCKET, Store, start_time};
use super::{failed, invalid, lifecycle, sealed, terminal};

const CREATE: &[Flag] = &[
    Flag::value("bundle").short('b'),
    Flag::value("console-socket"),
    Flag::value("pidfd-socket"),
    Flag::value("pid-file"),
    Flag::value("preserve-fds"),
    Flag::switch("no-pivot"),
    Flag::switch("no-new-keyring"),
];

const RUN: &[Flag] = &[
    Flag::value("bundle").short('b'),
    Flag::value("console-socket"),
    Flag::value("pidfd-socket"),
    Flag::value("pid-file"),
    Flag::value("preserve-fds"),
    Flag::switch("no-pivot"),
    Flag::switch("no-new-keyring"),
    Flag::switch("detach").short('d'),
    Flag::switch("keep"),
    Flag::switch("no-subreaper"),
];

pub(crate) fn create(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (arguments, words) = Arguments::parse(CREATE, line, Rest::Mixed)?;
    let request = Request::new(&arguments, only(&words)?)?;
    sealed::ensure()?;
    if request.is_terminal() && request.console_socket.is_none() {
        return Err(invalid("cannot allocate tty if the runtime will detach without setting console socket"));
    }
    let (mut made, _) = make(store, &request, ferry_runtime::create)?;
    finish(&request, &mut made)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run(store: &Store, line: &[String]) -> Result<ExitCode, Error> {
    let (arguments, words) = Arguments::parse(RUN, line, Rest::Mixed)?;
    let request = Request::new(&arguments, only(&words)?)?;
    sealed::ensure()?;
    let detach = arguments.has("detach");
    if detach && request.is_terminal() && request.console_socket.is_none() {
        return Err(invalid("cannot allocate tty if the runtime will detach without setting console socket"));
    }
    let (mut made, record) = make(store, &request, ferry_runtime::run)?;
    store.mark_started(&request.id)?;
    if let Err(error) = lifecycle::poststart(store, &record) {
        // Killed already; nobody else would wait for it.
        let _ = ferry_sys::process::wait(made.pid());
        let _ = lifecycle::remove(store, &record);
        return Err(error);
    }
    let console = finish(&request, &mut made)?;
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let code = terminal::attend(made.pid(), console)?;
    if !arguments.has("keep") {
        // What is left in the container ends with its first process where it has a pid namespace; elsewhere by this.
        lifecycle::remove(store, &record)?;
    }
    Ok(code)
}

/// What `create` and `run` were asked for.
struct Request {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    preserved_fds: u32,
    no_pivot: bool,
    no_new_keyring: bool,
}

impl Request {
    fn new(arguments: &Arguments, id: &str) -> Result<Request, Error> {
        let bundle = std::path::absolute(arguments.get("bundle").unwrap_or("."))
            .map_err(|error| failed("find the bundle", &error))?;
        let path = bundle.join("config.json");
        let text = std::fs::read(&path).map_err(|error| failed(&format!("read {}", path.display()), &error))?;
        let spec = serde_json::from_slice(&text).map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        let path_of = |name: &str| arguments.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Request {
            id: id.into(),
            bundle,
            spec,
            console_socket: path_of("console-socket"),
            pidfd_socket: path_of("pidfd-socket"),
            pid_file: path_of("pid-file"),
            preserved_fds: arguments.number("preserve-fds")? + sockets_handed_over(),
            no_pivot: arguments.has("no-pivot"),
            no_new_keyring: arguments.has("no-new-keyring"),
        })
    }

    fn is_terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|process| process.terminal)
    }

    fn rootfs(&self) -> Result<Rootfs, Error> {
        let root = self.spec.root.as_ref().filter(|root| !root.path.is_empty());
        let root = root.ok_or_else(|| invalid("config has no root.path"))?;
        Ok(Rootfs::Path(self.bundle.join(&root.path)))
    }
}

/// Sockets that a service manager handed to whoever called us are for the container, as with runc.
pub(crate) fn sockets_handed_over() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).filter(|count| *count < 1024).unwrap_or(0)
}

fn make(
    store: &Store,
    request: &Request,
    how: impl FnOnce(CreateOptions) -> Result<Container, Error>,
) -> Result<(Container, Record), Error> {
    let folder = store.reserve(&request.id)?;
    let made = make_in(store, request, folder, how);
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = store.remove(&request.id);
    }
    made
}

fn make_in(
    store: &Store,
    request: &Request,
    folder: OwnedFd,
    how: impl FnOnce(CreateOptions) -> Result<Container, Error>,
) -> Result<(Container, Record), Error> {
    let listener = ferry_sys::socket::listen_at(folder.as_fd(), START_SOCKET)
        .map_err(|error| failed("make the socket of the start", &error))?;
    drop(folder);
    let stdio = if request.is_terminal() { Stdio::Terminal } else { own_stdio()? };
    let mut spec = request.spec.clone();
    let scope = if store.systemd {
        let linux = spec.linux.get_or_insert_default();
        let named = ScopeName::parse(linux.cgroups_path.as_deref().unwrap_or_default())
            .map_err(|error| invalid(error.to_string()))?;
        let scope = Scope::start(&named.unwrap_or_else(|| ScopeName::new("", "ferry", &request.id)))?;
        linux.cgroups_path = Some(scope.cgroup().to_owned());
        Some(scope)
    } else {
        None
    };
    let systemd_unit = scope.as_ref().map(|scope| scope.unit().to_owned());
    let mut options = CreateOptions::new(&request.id, spec, request.rootfs()?, stdio);
    options.bundle = Some(request.bundle.clone());
    options.preserved_fds = request.preserved_fds;
    options.no_pivot = request.no_pivot;
    options.no_new_keyring = request.no_new_keyring;
    options.cgroup_is_inhabited = scope.is_some();
    options.start_socket = Some(listener.into());
    let container = how(options)?;
    for warning in container.warnings() {
        super::warn(warning);
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let record = Record {
        id: request.id.clone(),
        pid: container.pid(),
        start_time: start_time(container.pid()).unwrap_or(0),
        bundle: request.bundle.clone(),
        created,
        cgroup: container.cgroup().path(),
        systemd_unit,
        spec: request.spec.clone(),
    };
    match store.save(&record).and_then(|()| scope.map_or(Ok(()), Scope::keep)) {
        Ok(()) => Ok((container, record)),
        Err(error) => {
            // A container without a record could never be removed.
            let _ = container.cgroup().signal_all(libc::SIGKILL);
            let _ = ferry_sys::process::wait(container.pid());
            let _ = container.cgroup().remove();
            Err(error)
        }
    }
}

/// Hands out what the engine asked for: pid file, terminal. Returns the terminal when nobody else takes it.
fn finish(request: &Request, container: &mut Container) -> Result<Option<OwnedFd>, Error> {
    if let Some(path) = &request.pid_file {
        write_pid_file(path, container.pid())?;
    }
    if let Some(path) = &request.pidfd_socket {
        terminal::send(path, b"pidfd", container.pidfd())?;
    }
    let console = container.take_console();
    match (&request.console_socket, console) {
        (Some(path), Some(console)) => terminal::send(path, b"/dev/ptmx", console.as_fd()).map(|()| None),
        (_, console) => Ok(console),
    }
}

/// Written under another name first: engines read it as soon as it is there.
pub(crate) fn write_pid_file(path: &Path, pid: u32) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| failed(&format!("write {}", path.display()), &error))
}

/// The streams of this program, for the container.
pub(crate) fn own_stdio() -> Result<Stdio, Error> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|error| failed("copy the standard streams", &error))
    };
    Ok(Stdio::Fds {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}
