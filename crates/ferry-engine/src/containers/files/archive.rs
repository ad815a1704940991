//! `HEAD`, `GET` and `PUT /containers/{id}/archive`.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use ferry_api::container::PathStat;
use ferry_shim::files::{Action, Reply, Unpack};
use futures_util::Stream;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::process::{FilesError, FilesProcess};
use super::{Scope, written_places};
use crate::clock;
use crate::containers::{Container, Containers};
use crate::error::{Context, Error, Result};
use crate::images::Body;

/// Bytes handed on at once.
const PIECE: usize = 128 * 1024;
/// A request that fails is read on for so long, so that its sender hears the answer.
const READ_ON_BYTES: u64 = 64 << 20;

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// A folder replaces nothing else, and nothing else a folder.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user.
    pub copy_uid_gid: bool,
}

/// An archive on its way out of a container; dropping it ends the work.
pub struct ArchiveStream {
    process: FilesProcess,
    data: UnixStream,
    /// For the log, should it break off.
    container: String,
    removed: tokio::sync::watch::Receiver<crate::containers::Change>,
    /// Of one that no container's removal ends.
    _never: Option<tokio::sync::watch::Sender<crate::containers::Change>>,
}

impl ArchiveStream {
    /// That of a volume.
    pub(in crate::containers) fn of_volume(mut process: FilesProcess, name: &str) -> Result<Self> {
        let data = process.take_data()?;
        let (never, removed) = tokio::sync::watch::channel(crate::containers::Change::default());
        Ok(Self { process, data, container: format!("volume {name}"), removed, _never: Some(never) })
    }

    pub(super) fn new(mut process: FilesProcess, container: &Container) -> Result<Self> {
        let data = process.take_data()?;
        Ok(Self { process, data, container: container.name(), removed: container.watch(), _never: None })
    }

    /// Waits until the container is removed: whoever is slow to take a piece need not be waited for then.
    pub fn until_removed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut removed = self.removed.clone();
        async move {
            // A watch that has ended says as much.
            let _ = removed.wait_for(|change| change.removed).await;
        }
    }

    /// The next piece; `None` at the end. An archive that breaks off lacks its last blocks, by which readers of archives know.
    pub async fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE);
        let read = tokio::select! {
            read = self.data.read_buf(&mut piece) => read,
            // Its bytes are being removed.
            _ = self.removed.wait_for(|change| change.removed) => return None,
        };
        match read {
            Ok(1..) => Some(piece.into()),
            Ok(0) => {
                if let Err(error) = self.process.done().await {
                    tracing::warn!(container = %self.container, error = %error.message, "archive of a container broke off");
                }
                None
            }
            Err(error) => {
                tracing::warn!(container = %self.container, %error, "archive of a container broke off");
                None
            }
        }
    }
}

impl Containers {
    /// Says what a path in a container is.
    ///
    /// API: `HEAD /containers/{id}/archive`
    ///
    /// # Errors
    /// NotFound for the container or the path.
    pub async fn stat_path(&self, reference: &str, path: &str) -> Result<PathStat> {
        let container = self.find(reference)?;
        let action = Action::Stat { path: path.to_owned() };
        let mut process = self.work_in_files(&container, Scope::Everything, action).await?;
        stat_reply(&mut process).await.map_err(|error| error.about(path, reference))
    }

    /// Makes an archive of a path in a container.
    ///
    /// API: `GET /containers/{id}/archive`
    ///
    /// # Errors
    /// NotFound for the container or the path.
    pub async fn read_archive(&self, reference: &str, path: &str) -> Result<(PathStat, ArchiveStream)> {
        let container = self.find(reference)?;
        let action = Action::Read { path: path.to_owned() };
        let mut process = self.work_in_files(&container, Scope::Everything, action).await?;
        let stat = stat_reply(&mut process).await.map_err(|error| error.about(path, reference))?;
        self.publish(&container.snapshot(), "archive-path", &[]);
        Ok((stat, ArchiveStream::new(process, &container)?))
    }

    /// Unpacks an archive, compressed or not, into a folder of a container.
    ///
    /// API: `PUT /containers/{id}/archive`
    ///
    /// # Errors
    /// NotFound for the container or the path; InvalidArgument for what is no folder or must not be written; Internal for what cannot be unpacked.
    pub async fn write_archive(
        &self,
        reference: &str,
        path: &str,
        options: UnpackOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let body = Body::read(body);
        let prepared = async {
            let container = self.find(reference)?;
            let action = unpack(&container, path, options);
            let process = self.work_in_files(&container, Scope::Everything, action).await?;
            Ok((container, process))
        };
        let (container, mut process) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                pass_over(body).await;
                return Err(error);
            }
        };
        let data = process.take_data()?.into_std().context("cannot hand on the archive")?;
        data.set_nonblocking(false).context("cannot hand on the archive")?;
        let feeding = tokio::task::spawn_blocking(move || feed(body, data));
        let mut watch = container.watch();
        let outcome = tokio::select! {
            outcome = process.done() => outcome.map_err(|error| error.about(path, reference)),
            _ = watch.wait_for(|change| change.removed) => {
                Err(Error::not_found(format!("No such container: {reference}")))
            }
        };
        // What holds the other end of the archive goes first, or the feeding would wait for it.
        drop(process);
        let fed = feeding.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        match fed {
            // A process that has ended, by itself or not, has its own reason.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(Error::internal(error.to_string())),
            _ => outcome?,
        }
        self.publish(&container.snapshot(), "extract-to-dir", &[]);
        Ok(())
    }
}

/// Unpacks a body into the root of a process's view.
pub(in crate::containers) async fn fill(mut process: FilesProcess, body: Body) -> Result<()> {
    let data = process.take_data()?.into_std().context("cannot hand on the archive")?;
    data.set_nonblocking(false).context("cannot hand on the archive")?;
    let feeding = tokio::task::spawn_blocking(move || feed(body, data));
    let outcome = process.done().await.map_err(Error::from);
    drop(process);
    match feeding.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        // A process that has ended, by itself or not, has its own reason.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::internal(error.to_string())),
        // Without even the blocks that end an archive it is none.
        Ok(0) => outcome.and(Err(Error::invalid("the archive is empty"))),
        _ => outcome,
    }
}

fn unpack(container: &Arc<Container>, path: &str, options: UnpackOptions) -> Action {
    let record = container.snapshot();
    let user = Some(record.config.user.clone()).filter(|user| options.copy_uid_gid && !user.is_empty());
    Action::Write(Unpack {
        path: path.to_owned(),
        keep_kinds: options.no_overwrite_dir_non_dir,
        user,
        itself: false,
        volumes: written_places(&record),
        read_only_root: record.host_config.readonly_rootfs,
    })
}

/// Decompresses the body into the socket and returns its bytes. A process that has all it wants, or has failed, reads no further; the body is.
fn feed(mut body: Body, mut data: std::os::unix::net::UnixStream) -> io::Result<u64> {
    let carried = ferry_store::archive::decompress(&mut body).and_then(|mut archive| io::copy(&mut archive, &mut data));
    let flushed = carried.and_then(|bytes| data.flush().map(|()| bytes));
    drop(data);
    read_on(body);
    flushed
}

/// Reads what is left of a body: a client that is still sending would not hear the answer.
fn read_on(body: Body) {
    // An error here could only be told to a client that has gone.
    let _ = io::copy(&mut body.take(READ_ON_BYTES), &mut io::sink());
}

/// The same, of a body that nobody wants.
pub(in crate::containers) async fn pass_over(body: Body) {
    // A panic in there is no reason to tell another error than the one that there is.
    let _ = tokio::task::spawn_blocking(move || read_on(body)).await;
}

async fn stat_reply(process: &mut FilesProcess) -> Result<PathStat, FilesError> {
    match process.reply().await? {
        Reply::Stat(stat) => Ok(path_stat(&stat)),
        _ => Err(FilesError::internal("an answer that does not fit")),
    }
}

fn path_stat(stat: &ferry_shim::files::PathStat) -> PathStat {
    let (seconds, nanoseconds) = stat.mtime;
    PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: clock::rfc3339(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into())),
        link_target: stat.link_target.clone(),
    }
}

/// `st_mode` as Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    const KINDS: [(u32, u32); 6] = [
        (0o040_000, 1 << 31),           // folder
        (0o120_000, 1 << 27),           // symbolic link
        (0o060_000, 1 << 26),           // block device
        (0o020_000, 1 << 26 | 1 << 21), // character device
        (0o010_000, 1 << 25),           // named pipe
        (0o140_000, 1 << 24),           // socket
    ];
    const BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let kind = KINDS.iter().find(|(kind, _)| mode & 0o170_000 == *kind).map_or(0, |(_, bits)| *bits);
    let bits = BITS.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, bit)| bit).sum::<u32>();
    kind | bits | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        for (mode, expected) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o041_777, 0x8010_0000 | 0o777),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o020_666, 0x0420_0000 | 0o666),
            (0o060_660, 0x0400_0000 | 0o660),
            (0o010_600, 0x0200_0000 | 0o600),
            (0o140_600, 0x0100_0000 | 0o600),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
