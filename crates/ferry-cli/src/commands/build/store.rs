//! Directories in the form of OCI layouts as stores of blobs, which the daemon reads and writes over a session.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Call, Code, Service, Status};
use ferry_buildkit_proto::messages::content::{
    INFO, Info, InfoRequest, InfoResponse, READ, ReadContentRequest, ReadContentResponse, STORE, WRITE, WriteAction,
    WriteContentRequest, WriteContentResponse,
};
use ferry_spec::digest::{Digest, Hasher};
use futures_util::future::BoxFuture;

/// What is offered.
pub(super) const METHODS: [&str; 3] = [INFO, READ, WRITE];

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;

/// The directories, by the names that the daemon knows them by.
pub(super) struct Stores(pub(super) BTreeMap<String, PathBuf>);

/// Where a blob lies; `None` for what is no digest.
pub(super) fn blob_path(folder: &Path, digest: &str) -> Option<PathBuf> {
    let digest = Digest::parse(digest).ok()?;
    Some(folder.join("blobs").join(digest.algorithm().as_str()).join(digest.hex()))
}

impl Service for Stores {
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            let id = call.text(STORE).to_owned();
            let folder = self.0.get(&id).cloned();
            let folder = folder.ok_or_else(|| Status::new(Code::NotFound, format!("unknown store {id}")))?;
            match call.path.clone().as_str() {
                INFO => call.unary(|request: InfoRequest| async move { info(&folder, &request.digest) }).await,
                READ => read(&folder, call).await,
                WRITE => write(&folder, call).await,
                other => Err(Status::unimplemented(other)),
            }
        })
    }
}

fn broken(error: impl std::fmt::Display) -> Status {
    Status::failed(error.to_string())
}

fn opened(folder: &Path, digest: &str) -> Result<File, Status> {
    let invalid = || Status::new(Code::InvalidArgument, format!("{digest}: invalid checksum digest format"));
    let path = blob_path(folder, digest).ok_or_else(invalid)?;
    File::open(path).map_err(|_| Status::new(Code::NotFound, format!("content {digest}: not found")))
}

fn info(folder: &Path, digest: &str) -> Result<InfoResponse, Status> {
    let metadata = opened(folder, digest)?.metadata().map_err(broken)?;
    let size = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
    Ok(InfoResponse { info: Some(Info { digest: digest.to_owned(), size, ..Info::default() }) })
}

async fn read(folder: &Path, mut call: Call) -> Result<(), Status> {
    let request: ReadContentRequest = call.requests.only().await?;
    let mut file = opened(folder, &request.digest)?;
    let mut offset = request.offset.max(0);
    file.seek(SeekFrom::Start(offset.unsigned_abs())).map_err(broken)?;
    let mut left = if request.size > 0 { request.size.unsigned_abs() } else { u64::MAX };
    while left > 0 {
        let mut data = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let count = file.read(&mut data).map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
        data.truncate(count);
        call.replies.send(&ReadContentResponse { offset, data: data.into() }).await?;
        offset += i64::try_from(count).unwrap_or_default();
        left -= count as u64;
    }
    Ok(())
}

async fn write(folder: &Path, mut call: Call) -> Result<(), Status> {
    let begin: WriteContentRequest = call.requests.only().await?;
    let digest =
        Digest::parse(&begin.expected).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let mut writing = Writing::begin(folder, digest)?;
    let mut next = Some(begin);
    while let Some(request) = next {
        let answer = writing.take(&request)?;
        call.replies.send(&answer).await?;
        next = call.requests.next().await?;
    }
    Ok(())
}

/// A blob on its way here; what is not committed goes with this.
struct Writing {
    file: Option<temporary::Temporary>,
    target: PathBuf,
    expected: Digest,
    hasher: Hasher,
    offset: i64,
}

impl Writing {
    fn begin(folder: &Path, expected: Digest) -> Result<Self, Status> {
        let invalid = || Status::new(Code::InvalidArgument, "invalid checksum digest format");
        let target = blob_path(folder, expected.as_str()).ok_or_else(invalid)?;
        if target.exists() {
            return Err(Status::new(Code::AlreadyExists, format!("content {expected}: already exists")));
        }
        let above = target.parent().ok_or_else(invalid)?;
        std::fs::create_dir_all(above).map_err(broken)?;
        let file = temporary::Temporary::create(&folder.join("ingest")).map_err(broken)?;
        let hasher = Hasher::new(expected.algorithm());
        Ok(Self { file: Some(file), target, expected, hasher, offset: 0 })
    }

    fn take(&mut self, request: &WriteContentRequest) -> Result<WriteContentResponse, Status> {
        let action = WriteAction::try_from(request.action).map_err(broken)?;
        if action != WriteAction::Stat && request.offset != self.offset {
            let text = format!("write @{} must occur at current offset {}", request.offset, self.offset);
            return Err(Status::new(Code::InvalidArgument, text));
        }
        if !request.data.is_empty() {
            let file = self.file.as_mut().ok_or_else(|| Status::failed("the blob was committed"))?;
            file.write_all(&request.data).map_err(broken)?;
            self.hasher.update(&request.data);
            self.offset += i64::try_from(request.data.len()).unwrap_or_default();
        }
        if action == WriteAction::Commit {
            self.commit()?;
        }
        Ok(WriteContentResponse {
            action: request.action,
            offset: self.offset,
            total: request.total,
            digest: self.hasher.clone().finish().to_string(),
            ..WriteContentResponse::default()
        })
    }

    fn commit(&mut self) -> Result<(), Status> {
        let actual = self.hasher.clone().finish();
        if actual != self.expected {
            return Err(Status::failed(format!("unexpected commit digest {actual}, expected {}", self.expected)));
        }
        match self.file.take() {
            Some(file) => file.publish(&self.target).map_err(broken),
            None => Ok(()),
        }
    }
}

/// A file that goes unless it is published.
mod temporary {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);

    pub(super) struct Temporary {
        path: PathBuf,
        file: File,
        is_published: bool,
    }

    impl Temporary {
        pub(super) fn create(folder: &Path) -> io::Result<Self> {
            std::fs::create_dir_all(folder)?;
            let name = format!("ferry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = folder.join(name);
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            Ok(Self { path, file, is_published: false })
        }

        pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.file.write_all(bytes)
        }

        pub(super) fn publish(mut self, target: &Path) -> io::Result<()> {
            self.file.sync_all()?;
            std::fs::rename(&self.path, target)?;
            self.is_published = true;
            Ok(())
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            if !self.is_published {
                // What stays in the folder for half-written blobs is in nobody's way.
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(action: WriteAction, offset: i64, data: &'static [u8]) -> WriteContentRequest {
        WriteContentRequest { action: action.into(), offset, data: data.into(), ..WriteContentRequest::default() }
    }

    #[test]
    fn blobs_are_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::sha256(b"hello");
        let begin = || Writing::begin(dir.path(), digest.clone());
        let mut broken_off = begin().unwrap();
        broken_off.take(&piece(WriteAction::Write, 0, b"hel")).unwrap();
        assert!(broken_off.take(&piece(WriteAction::Write, 9, b"lo")).is_err());
        assert!(broken_off.take(&piece(WriteAction::Commit, 3, b"")).unwrap_err().message.contains("unexpected"));
        drop(broken_off);
        assert_eq!(std::fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
        let mut whole = begin().unwrap();
        whole.take(&piece(WriteAction::Write, 0, b"hel")).unwrap();
        let answer = whole.take(&piece(WriteAction::Commit, 3, b"lo")).unwrap();
        assert_eq!((answer.offset, answer.digest.as_str()), (5, digest.as_str()));
        assert_eq!(info(dir.path(), digest.as_str()).unwrap().info.unwrap().size, 5);
        assert_eq!(begin().err().unwrap().code, Code::AlreadyExists);
        assert_eq!(info(dir.path(), "../../etc/passwd").unwrap_err().code, Code::InvalidArgument);
    }
}
