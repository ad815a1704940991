//! `ferry-shim files`: one piece of work in a container's files, by a process that sees nothing else.
//!
//! One thread, from top to bottom: read the order, go in, give up all other rights, do it, say how it went. Nothing here opens a path before
//! the view is entered.

mod answer;
mod changes;
mod paths;
mod read;
mod tar;
mod write;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use ferry_runtime::view::{self, Shown};
use ferry_shim::files::{Action, Reply, View, Work};
use ferry_shim::framing::{HEADER_BYTES, decode_header, encode};
use ferry_shim::layer::Layers;

use answer::{Answer, Failure};

/// Descriptors that a walk may need: one for each folder above a file.
const MANY: u64 = 65_536;

/// The order's end, the data's end.
pub(crate) struct Sockets {
    control: OwnedFd,
    pub(crate) data: OwnedFd,
}

impl Sockets {
    /// Tells the engine. One that is gone needs no answer.
    pub(crate) fn tell(&self, reply: &Reply) {
        let frame = encode(reply);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match ferry_sys::socket::send(&self.control, rest, &[]) {
                Ok(sent) => rest = &rest[sent..],
                Err(_) => return,
            }
        }
    }
}

/// Does the work that comes on descriptor 0.
pub(crate) fn main() -> ExitCode {
    let Ok((work, sockets, fds)) = receive() else { return ExitCode::FAILURE };
    let outcome = do_work(work, &sockets, fds);
    match outcome {
        Ok(()) => sockets.tell(&Reply::Done),
        Err(Failure { kind, message }) => sockets.tell(&Reply::Failed { kind, message }),
    }
    ExitCode::SUCCESS
}

fn receive() -> io::Result<(Work, Sockets, Vec<OwnedFd>)> {
    // The program itself was left open by who spawned us; nothing of ours is open yet.
    ferry_sys::process::close_from(3, &[])?;
    rustix::thread::set_name(c"ferry-files")?;
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    ferry_sys::process::place_fd(io::stdout().as_fd(), 0)?;
    let mut fds = Vec::new();
    let mut header = [0; HEADER_BYTES];
    receive_whole(&control, &mut header, &mut fds)?;
    let length = decode_header(header).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    receive_whole(&control, &mut payload, &mut fds)?;
    let work = serde_json::from_slice(&payload)?;
    if fds.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let data = fds.remove(0);
    Ok((work, Sockets { control, data }, fds))
}

fn receive_whole(socket: &OwnedFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match ferry_sys::socket::receive(socket, &mut bytes[filled..], fds)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

fn do_work(work: Work, sockets: &Sockets, fds: Vec<OwnedFd>) -> Answer {
    allow_many_descriptors();
    let fds = enter(work.view, fds, sockets)?;
    match work.action {
        Action::Stat { path } => read::stat(&path, sockets),
        Action::Read { path } => read::archive(&path, sockets),
        Action::Write(unpack) => write::unpack(&unpack, sockets),
        Action::Export { itself } => read::export(itself, sockets),
        Action::Changes => changes::list(&fds.layers()?, sockets),
        Action::Layer { exact } => changes::layer(&fds.layers()?, exact, sockets),
    }
}

/// Deep trees need many; what is not allowed shows where it is missed.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MANY, |most| most.min(MANY));
    // Not lowered where it is higher.
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// What is left of the descriptors once the view is entered.
struct Left {
    layers: Option<Layers>,
}

impl Left {
    fn layers(self) -> Result<Layers, Failure> {
        self.layers.ok_or_else(|| Failure::internal("changes are those of layers"))
    }
}

/// Goes into the view. From here on the host is out of reach.
fn enter(view: View, mut fds: Vec<OwnedFd>, sockets: &Sockets) -> Result<Left, Failure> {
    let mut next =
        || if fds.is_empty() { Err(Failure::internal("a descriptor is missing")) } else { Ok(fds.remove(0)) };
    let mut left = Left { layers: None };
    match view {
        View::Running { hidden } => view::join(next()?.as_fd(), Shown::Without(&hidden))?,
        View::RunningRoot => view::join(next()?.as_fd(), Shown::RootAlone)?,
        View::Stopped { mounts, given } => {
            let rootfs = next()?;
            let trees = given.into_iter().map(|index| Ok((index, next()?))).collect::<Result<_, Failure>>()?;
            view::build(rootfs, &mounts, trees)?;
        }
        View::Folder => view::stand_in(&next()?)?,
        View::Layers { whole } => {
            // While its mounts are in sight.
            let upper = view::copy_to_look_at(next()?.as_fd())?;
            view::nowhere()?;
            left.layers = Some(Layers { upper, lower: next().ok(), whole });
        }
    }
    drop(fds);
    let mut kept = vec![sockets.control.as_fd(), sockets.data.as_fd()];
    if let Some(layers) = &left.layers {
        kept.push(layers.upper.as_fd());
        kept.extend(layers.lower.as_ref().map(AsFd::as_fd));
    }
    view::close_all_but(&kept)?;
    view::keep_file_rights(left.layers.is_some())?;
    Ok(left)
}
