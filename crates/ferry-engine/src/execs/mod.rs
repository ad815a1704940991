//! Further processes in running containers.
//!
//! Owns the table of execs, in memory: it goes with the daemon, but for those that a shim still runs, which are found again by their ids.
//! Leaves out the containers themselves.

mod check;
mod table;
pub(crate) mod user;

use std::sync::Arc;

use ferry_api::exec::{CreateRequest, CreateResponse, Inspect, ProcessConfig};
use ferry_shim::protocol::{Exec, Reply, Request, ShimError, ShimErrorKind, Streams, Target};
use ferry_spec::runtime::{ConsoleSize, Process};
use tokio::sync::watch;

pub(crate) use self::check::CheckEnd;
pub(crate) use self::table::ExecTable;
use self::table::{ExecEntry, ExecState};
use crate::containers::{AttachSession, Container, Containers, Live, start_exit_code, stream_pair};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ids;
use crate::shims::ShimCallError;

/// How long the end of an exec may take from the shim's knowing it to ours.
const END_TOLD: std::time::Duration = std::time::Duration::from_secs(5);

/// The execs of one engine.
#[derive(Clone)]
pub struct Execs {
    containers: Containers,
}

/// How to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartOptions {
    /// Do not attach.
    pub detach: bool,
    /// The client believes in a terminal; must agree with the creation.
    pub tty: bool,
    /// Rows and columns of the terminal from the beginning.
    pub console_size: Option<(u16, u16)>,
}

impl Execs {
    pub(crate) fn new(containers: Containers) -> Self {
        Self { containers }
    }

    fn table(&self) -> &ExecTable {
        &self.containers.inner.execs
    }

    /// Prepares an exec.
    ///
    /// API: `POST /containers/{id}/exec`
    ///
    /// # Errors
    /// NotFound; Conflict unless the container runs; InvalidArgument without a command.
    pub async fn create(&self, container: &str, mut request: CreateRequest) -> Result<CreateResponse> {
        let (reference, container) = (container, self.containers.find(container)?);
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified".to_owned()));
        }
        self.may_exec(&container, reference)?;
        for variable in request.env.iter().flatten() {
            if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
                return Err(Error::invalid(format!("invalid environment variable: {variable}")));
            }
        }
        let (pid, user) = (container.with_record(|record| record.pid), request.user.clone());
        crate::blocking(move || user::check(pid, &user).map_err(Error::invalid)).await?;
        if request.user.is_empty() {
            request.user = container.with_record(|record| record.config.user.clone());
        }
        let id = ids::random_id();
        self.publish(&container, "exec_create", &id, &request, &[]);
        self.table().insert(ExecEntry::new(&id, &container.id, request));
        Ok(CreateResponse { id })
    }

    /// The connection to a container that takes execs; `reference` is what it is called in the refusal.
    fn may_exec(&self, container: &Container, reference: &str) -> Result<Arc<Live>> {
        let record = container.snapshot();
        if record.status == crate::containers::state::Status::Paused {
            return Err(Error::conflict(format!("Container {reference} is paused, unpause the container before exec")));
        }
        if record.status == crate::containers::state::Status::Restarting {
            return Err(crate::containers::is_restarting(&record.id));
        }
        container.live().ok_or_else(|| Error::conflict(format!("container {} is not running", record.id)))
    }

    /// Starts a prepared exec; without `detach` the session is the client's.
    ///
    /// API: `POST /exec/{id}/start`
    ///
    /// # Errors
    /// NotFound; Conflict when it ran already or the container does not run; what the runtime failed with.
    pub async fn start(&self, id: &str, options: StartOptions) -> Result<Option<AttachSession>> {
        let entry = self.table().get(id)?;
        let container = self.containers.find(&entry.container_id)?;
        let live = self.may_exec(&container, &container.id)?;
        if options.tty != entry.request.tty && !options.detach {
            tracing::debug!(%id, "the client's idea of a terminal differs; the creation counts");
        }
        self.table().begin(id)?;
        self.start_begun(&entry, &container, &live, options).await
    }

    /// Starts what the table has as begun, and notes the failure there.
    async fn start_begun(
        &self,
        entry: &ExecEntry,
        container: &Arc<Container>,
        live: &Arc<Live>,
        options: StartOptions,
    ) -> Result<Option<AttachSession>> {
        // Docker tells of the start before there is one.
        self.publish(container, "exec_start", &entry.id, &entry.request, &[]);
        let result = self.try_start(entry, container, live, options).await;
        if let Err(error) = &result {
            self.table().end(&entry.id, start_exit_code(&error.text()));
        }
        result
    }

    async fn try_start(
        &self,
        entry: &ExecEntry,
        container: &Arc<Container>,
        live: &Arc<Live>,
        options: StartOptions,
    ) -> Result<Option<AttachSession>> {
        let request = &entry.request;
        if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
            return Err(Error::invalid(
                "OCI runtime exec failed: exec failed: Cwd must be an absolute path".to_owned(),
            ));
        }
        let streams =
            Streams { stdin: request.attach_stdin, stdout: request.attach_stdout, stderr: request.attach_stderr };
        let (session, fds) = if options.detach {
            (None, Vec::new())
        } else {
            let (ours, theirs) = stream_pair()?;
            (Some(AttachSession { tty: request.tty, stream: Some(ours), replay: None }), vec![theirs])
        };
        let exec = Exec {
            exec_id: entry.id.clone(),
            process: self.process(entry, container, options)?,
            open_stdin: request.attach_stdin && !options.detach,
            attached: if options.detach { Vec::new() } else { vec![streams] },
        };
        live.execs.lock().expect("no panic while held").insert(entry.id.clone(), watch::channel(None).0);
        let answer = live.shim.call(Request::Exec(Box::new(exec)), &fds).await;
        drop(fds);
        match answer {
            Ok(Reply::Started { pid }) => {
                self.table().running(&entry.id, pid);
                Ok(session)
            }
            Ok(_) => Err(Error::internal("the shim gave an answer that does not fit")),
            Err(error) => {
                live.execs.lock().expect("no panic while held").remove(&entry.id);
                Err(exec_error(error))
            }
        }
    }

    /// The container's own process with another command, user, environment and folder.
    fn process(&self, entry: &ExecEntry, container: &Container, options: StartOptions) -> Result<Process> {
        let request = &entry.request;
        let own = self.containers.process_of(container)?;
        let argv = request.cmd.clone().unwrap_or_default();
        let mut process = Process { args: argv, ..own };
        process.terminal = request.tty;
        let at_create = request
            .console_size
            .and_then(|[height, width]| Some((u16::try_from(height).ok()?, u16::try_from(width).ok()?)));
        let console_size = options.console_size.or(at_create).filter(|_| request.tty);
        process.console_size = console_size.map(|(height, width)| ConsoleSize { height, width });
        for variable in request.env.iter().flatten() {
            let key = variable.split('=').next().unwrap_or_default().to_owned();
            process.env.retain(|other| other.split('=').next() != Some(&key));
            if variable.contains('=') {
                process.env.push(variable.clone());
            }
        }
        if request.tty && !process.env.iter().any(|variable| variable.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        if !request.user.is_empty() {
            process.user.username = Some(request.user.clone());
        }
        if !request.working_dir.is_empty() {
            process.cwd.clone_from(&request.working_dir);
        }
        if request.privileged {
            process.capabilities = Some(self.containers.every_capability());
        }
        Ok(process)
    }

    /// Tells about an exec.
    ///
    /// API: `GET /exec/{id}/json`
    ///
    /// # Errors
    /// NotFound.
    pub async fn inspect(&self, id: &str) -> Result<Inspect> {
        let entry = self.settled(id).await?;
        let argv = entry.request.cmd.clone().unwrap_or_default();
        let (running, exit_code, pid) = match entry.state {
            ExecState::Created => (false, None, 0),
            ExecState::Starting => (true, None, 0),
            ExecState::Running { pid } => (true, None, pid),
            ExecState::Ended { code, pid } => (false, Some(i64::from(code)), pid),
        };
        Ok(Inspect {
            id: entry.id.clone(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: entry.request.tty,
                entrypoint: argv.first().cloned().unwrap_or_default(),
                arguments: argv.into_iter().skip(1).collect(),
                privileged: Some(entry.request.privileged),
                user: entry.request.user.clone(),
            },
            open_stdin: entry.request.attach_stdin,
            open_stderr: entry.request.attach_stderr,
            open_stdout: entry.request.attach_stdout,
            can_remove: false,
            container_id: entry.container_id.clone(),
            detach_keys: entry.request.detach_keys.clone(),
            pid: i64::from(pid),
        })
    }

    /// The end of an exec travels beside its stream: a client that saw the stream end may ask before the end was heard here. The shim
    /// knows which still run.
    async fn settled(&self, id: &str) -> Result<ExecEntry> {
        let entry = self.table().get(id)?;
        if !matches!(entry.state, ExecState::Running { .. }) {
            return Ok(entry);
        }
        let live = self.containers.find(&entry.container_id).ok().and_then(|container| container.live());
        let Some(live) = live else { return self.table().get(id) };
        let ended = live.execs.lock().expect("no panic while held").get(&entry.id).map(watch::Sender::subscribe);
        if let Some(mut ended) = ended
            && let Ok(Reply::State(state)) = live.shim.call(Request::State, &[]).await
            && state.execs.iter().all(|(running, _)| *running != entry.id)
        {
            // The shim tells at the latest two seconds after the end; should it be gone, what is known must do.
            let _ = tokio::time::timeout(END_TOLD, ended.wait_for(Option::is_some)).await;
        }
        self.table().get(id)
    }

    /// Sets the size of an exec's terminal.
    ///
    /// API: `POST /exec/{id}/resize`
    ///
    /// # Errors
    /// NotFound; Conflict when it does not run.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let entry = self.table().get(id)?;
        let container = self.containers.find(&entry.container_id)?;
        let live = self.may_exec(&container, &container.id)?;
        if !matches!(entry.state, ExecState::Running { .. }) {
            return Err(Error::conflict(format!("exec {id} is not running")));
        }
        let request = Request::Resize { target: Target::Exec(entry.id), height, width };
        live.shim.command(request, &[]).await.context(format!("cannot resize exec {id}"))
    }

    /// Tells that a client left by the detach keys.
    pub fn detached(&self, id: &str) {
        if let Ok(entry) = self.table().get(id)
            && let Ok(container) = self.containers.find(&entry.container_id)
        {
            self.containers.publish(&container.snapshot(), "exec_detach", &[("execID", entry.id)]);
        }
    }

    fn publish(&self, container: &Container, action: &str, id: &str, request: &CreateRequest, more: &[(&str, String)]) {
        // As in Docker, a blank follows the program even if no argument does.
        let command = match request.cmd.as_deref().unwrap_or_default() {
            [] => String::new(),
            [program, arguments @ ..] => format!("{program} {}", arguments.join(" ")),
        };
        let mut attributes = vec![("execID", id.to_owned())];
        attributes.extend_from_slice(more);
        self.containers.publish(&container.snapshot(), &format!("{action}: {command}"), &attributes);
    }
}

impl Containers {
    /// The shim told that an exec ended.
    pub(crate) fn exec_ended(&self, container: &Container, live: &Live, exec_id: &str, code: i32) {
        // Told before anybody who asks for the end goes on.
        let attributes = [("execID", exec_id.to_owned()), ("exitCode", code.to_string())];
        self.publish(&container.snapshot(), "exec_die", &attributes);
        self.inner.execs.end(exec_id, code);
        if let Some(sender) = live.execs.lock().expect("no panic while held").remove(exec_id) {
            sender.send_replace(Some(code));
        }
    }
}

/// Docker's words around the runtime's.
fn exec_error(error: ShimCallError) -> Error {
    let ShimCallError::Refused(ShimError { kind, message }) = error else {
        return Error::internal("cannot exec in the container").with_source(error);
    };
    let status = match kind {
        ShimErrorKind::CommandNotFound | ShimErrorKind::CommandNotExecutable | ShimErrorKind::Invalid => {
            ErrorKind::InvalidArgument
        }
        ShimErrorKind::NotRunning => ErrorKind::Conflict,
        ShimErrorKind::Unsupported => ErrorKind::NotImplemented,
        ShimErrorKind::Internal => ErrorKind::Internal,
    };
    // Docker resolves users itself, before there is a runtime.
    if message.starts_with("unable to find ") || message.starts_with("uids and gids") {
        return Error::new(status, message);
    }
    Error::new(status, format!("OCI runtime exec failed: exec failed: {message}"))
}
