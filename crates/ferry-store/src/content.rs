//! Content by digest: bytes go in through a [`BlobWriter`] and are visible only when they have proved to be what was asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_spec::digest::{Algorithm, Digest, Hasher};

use crate::error::{Error, Result};
use crate::paths::{Paths, random_name};
use crate::{Inner, Store};

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

impl Store {
    /// Tells whether the content is here.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.stores_blob(digest) || self.made_of(digest).is_some()
    }

    /// Tells whether the content lies here as it is, and need not be made.
    #[must_use]
    pub fn stores_blob(&self, digest: &Digest) -> bool {
        self.inner.ledger.note_blob(digest);
        fs::symlink_metadata(self.inner.paths.blob(digest)).is_ok_and(|m| m.is_file())
    }

    /// Returns the content's length in bytes.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64> {
        match self.stat_blob(digest) {
            Err(error @ Error::BlobNotFound(_)) => self.made_of(digest).map(|(_, bytes)| bytes).ok_or(error),
            stat => Ok(stat?.len()),
        }
    }

    /// Returns content of at most `max` bytes. Its digest is checked again, so what it says can be relied upon.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`], [`Error::BlobTooLong`]; [`Error::WrongDigest`] when the disk has changed it.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let mut file = self.open_blob(digest)?;
        let path = self.inner.paths.blob(digest);
        let size = file.metadata().map_err(Error::io("stat", &path))?.len();
        if size > max {
            return Err(Error::BlobTooLong { digest: digest.clone(), size, max });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if !digest.verifies(&bytes) {
            let actual = digest_of(digest.algorithm(), &bytes);
            return Err(Error::WrongDigest { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Opens content for reading; its digest is not checked again. The tar of a layer that was built here is made for that.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`]; [`Error::WrongDigest`] when it cannot be made as it was.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        self.inner.ledger.note_blob(digest);
        let path = self.inner.paths.blob(digest);
        match File::open(&path).map_err(|source| not_found_or(digest, "open", &path, source)) {
            Err(error @ Error::BlobNotFound(_)) => match self.made_of(digest) {
                Some((chain, _)) => self.make_blob(digest, &chain),
                None => Err(error),
            },
            opened => opened,
        }
    }

    /// Stores bytes under their own SHA-256 digest.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        if !self.has_blob(&digest) {
            let mut writer = self.writer(&digest, Some(bytes.len() as u64))?;
            writer.restart()?;
            writer.write(bytes)?;
            writer.commit()?;
        }
        Ok(digest)
    }

    /// Brings closed content to the disk at once, and makes it visible.
    ///
    /// # Errors
    /// When it cannot be synced or renamed; what is not visible then is removed.
    pub(crate) fn publish_blobs(&self, sealed: Vec<Sealed>) -> Result<()> {
        if sealed.is_empty() {
            return Ok(());
        }
        let ingest = self.inner.paths.ingest();
        // One for all: each of its own makes the disk write its journal.
        let folder = File::open(&ingest).map_err(Error::io("open", &ingest))?;
        rustix::fs::syncfs(&folder).map_err(Error::errno("sync", &ingest))?;
        for mut one in sealed {
            let target = self.inner.paths.blob(&one.digest);
            fs::rename(&one.path, &target).map_err(Error::io("publish", &target))?;
            one.done = true;
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            sync_dir(&self.inner.paths.blobs(algorithm))?;
        }
        Ok(())
    }

    /// Begins to write content that must turn out to have this digest and, when given, this size. What a broken transfer left behind is
    /// continued: [`BlobWriter::offset`] tells where.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn writer(&self, expected: &Digest, size: Option<u64>) -> Result<BlobWriter> {
        self.inner.ledger.note_blob(expected);
        let path = self.inner.paths.ingest_of(expected);
        let partial = self.inner.paths.partial(expected);
        // The rename claims the partial for this writer alone.
        let resumed = fs::rename(&partial, &path).is_ok();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let mut writer = BlobWriter {
            inner: Arc::clone(&self.inner),
            file,
            path,
            expected: expected.clone(),
            size,
            hasher: Hasher::new(expected.algorithm()),
            offset: 0,
            done: false,
        };
        if resumed {
            writer.take_up()?;
        }
        Ok(writer)
    }

    /// Removes content at once, whoever may need it: for content that proved unusable.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn discard_blob(&self, digest: &Digest) -> Result<()> {
        let path = self.inner.paths.blob(digest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(source)),
            _ => Ok(()),
        }
    }

    /// Removes content unless a lease holds it; tells whether it went.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn drop_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.inner.paths.blob(digest);
        // Held across look and removal, so that nobody can find it in between and rely on it.
        let notes = self.inner.ledger.lock();
        if notes.holds_blob(digest) {
            return Ok(false);
        }
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", &path)(error)),
        }
    }

    /// Bytes of content, without holding it for a lease; none when it is not here.
    pub(crate) fn blob_bytes(&self, digest: &Digest) -> u64 {
        fs::symlink_metadata(self.inner.paths.blob(digest)).map_or(0, |metadata| metadata.len())
    }

    fn stat_blob(&self, digest: &Digest) -> Result<fs::Metadata> {
        self.inner.ledger.note_blob(digest);
        let path = self.inner.paths.blob(digest);
        fs::symlink_metadata(&path).map_err(|source| not_found_or(digest, "stat", &path, source))
    }
}

fn not_found_or(digest: &Digest, action: &'static str, path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        return Error::BlobNotFound(digest.clone());
    }
    Error::io(action, path)(source)
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// Content on its way in. Dropped without [`BlobWriter::commit`] it leaves nothing, unless [`BlobWriter::keep_partial`].
#[derive(Debug)]
pub struct BlobWriter {
    inner: Arc<Inner>,
    file: File,
    path: PathBuf,
    expected: Digest,
    size: Option<u64>,
    hasher: Hasher,
    offset: u64,
    done: bool,
}

impl BlobWriter {
    /// Returns how many bytes are there; the next ones belong behind them.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::WrongSize`] at the first byte past the announced size, before any of `bytes` is written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.offset + bytes.len() as u64;
        if let Some(expected) = self.size
            && end > expected
        {
            return Err(Error::WrongSize { digest: self.expected.clone(), expected, actual: None });
        }
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.offset = end;
        Ok(())
    }

    /// Opens what was written so far for reading; no more than [`BlobWriter::offset`] bytes of it count.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn written(&self) -> Result<io::Take<File>> {
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        Ok(file.take(self.offset))
    }

    /// Throws away what was written so far, when the other side cannot continue.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("truncate", &self.path))?;
        io::Seek::rewind(&mut self.file).map_err(Error::io("rewind", &self.path))?;
        self.hasher = Hasher::new(self.expected.algorithm());
        self.offset = 0;
        Ok(())
    }

    /// Checks size and digest, brings the bytes to the disk and makes them visible.
    ///
    /// # Errors
    /// [`Error::WrongSize`], [`Error::WrongDigest`]; nothing is left then.
    pub fn commit(mut self) -> Result<()> {
        self.check()?;
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        let target = self.inner.paths.blob(&self.expected);
        fs::rename(&self.path, &target).map_err(Error::io("publish", &target))?;
        self.done = true;
        sync_dir(&self.inner.paths.blobs(self.expected.algorithm()))
    }

    /// Checks size and digest and closes the content, which [`Store::publish_blobs`] makes visible together with more.
    ///
    /// # Errors
    /// As [`BlobWriter::commit`].
    pub(crate) fn seal(mut self) -> Result<Sealed> {
        self.check()?;
        self.done = true;
        Ok(Sealed { path: self.path.clone(), digest: self.expected.clone(), size: self.offset, done: false })
    }

    fn check(&self) -> Result<()> {
        if let Some(expected) = self.size
            && self.offset != expected
        {
            return Err(Error::WrongSize { digest: self.expected.clone(), expected, actual: Some(self.offset) });
        }
        let actual = self.hasher.clone().finish();
        if actual != self.expected {
            return Err(Error::WrongDigest { expected: self.expected.clone(), actual });
        }
        Ok(())
    }

    /// Gives up for now but keeps what came, for a later [`Store::writer`] of the same digest.
    ///
    /// # Errors
    /// When it cannot be put aside; nothing is left then.
    pub fn keep_partial(mut self) -> Result<()> {
        if self.offset == 0 {
            return Ok(());
        }
        let partial = self.inner.paths.partial(&self.expected);
        fs::rename(&self.path, &partial).map_err(Error::io("keep", &partial))?;
        self.done = true;
        Ok(())
    }

    /// Reads what an earlier writer left to rebuild the digest's state.
    fn take_up(&mut self) -> Result<()> {
        let length = self.file.metadata().map_err(Error::io("stat", &self.path))?.len();
        if self.size.is_some_and(|size| length > size) {
            return self.restart();
        }
        let mut buffer = vec![0; CHUNK];
        while self.offset < length {
            let read = self.file.read(&mut buffer).map_err(Error::io("read", &self.path))?;
            if read == 0 {
                break;
            }
            self.hasher.update(&buffer[..read]);
            self.offset += read as u64;
        }
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about a failure here; the next start sweeps the folder.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Content that is checked and waits to be brought to the disk with more; removed unless it was published.
#[derive(Debug)]
pub(crate) struct Sealed {
    path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    done: bool,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if !self.done {
            // The next start sweeps what cannot be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Content whose digest is known only when all of it has come; SHA-256.
#[derive(Debug)]
pub(crate) struct Spool {
    inner: Arc<Inner>,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    done: bool,
}

impl Spool {
    pub(crate) fn create(store: &Store) -> Result<Self> {
        let path = store.inner.paths.ingest().join(random_name());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let hasher = Hasher::new(Algorithm::Sha256);
        Ok(Self { inner: Arc::clone(&store.inner), file, path, hasher, size: 0, done: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Closes the content, which [`Store::publish_blobs`] makes visible together with more.
    pub(crate) fn seal(mut self) -> Sealed {
        let digest = self.hasher.clone().finish();
        self.inner.ledger.note_blob(&digest);
        self.done = true;
        Sealed { path: self.path.clone(), digest, size: self.size, done: false }
    }

    /// Syncs and publishes; returns digest and size.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64)> {
        let digest = self.hasher.clone().finish();
        self.inner.ledger.note_blob(&digest);
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        let target = self.inner.paths.blob(&digest);
        fs::rename(&self.path, &target).map_err(Error::io("publish", &target))?;
        self.done = true;
        sync_dir(&self.inner.paths.blobs(Algorithm::Sha256))?;
        Ok((digest, self.size))
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.done {
            // As with a writer: the next start sweeps what cannot be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes renames and removals in a folder last.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

/// Returns the bytes of what is on its way in, or was left of that.
pub(crate) fn ingest_bytes(ingest: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(ingest).map_err(Error::io("list", ingest))? {
        let entry = entry.map_err(Error::io("list", ingest))?;
        // One that was published meanwhile is counted there.
        total += entry.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(total)
}

/// Removes what a killed process left half-written; partials of the last week stay, and what says whose beginning it is becomes one.
pub(crate) fn sweep_ingest(ingest: &Path) -> Result<()> {
    const KEEP: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);
    for entry in fs::read_dir(ingest).map_err(Error::io("list", ingest))? {
        let entry = entry.map_err(Error::io("list", ingest))?;
        let path = entry.path();
        if let Some(partial) = Paths::partial_of_ingest(&path)
            && !partial.exists()
            && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        {
            fs::rename(&path, &partial).map_err(Error::io("keep", &partial))?;
            continue;
        }
        let is_partial = path.extension().is_some_and(|extension| extension == "part");
        let is_fresh =
            || entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|age| age < KEEP));
        if !(is_partial && is_fresh()) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
