//! The pid file. A lock on it tells whether its daemon lives; the number in it is for people and scripts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A pid file that is ours; removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    _locked: File,
}

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidFileError {
    #[error("ensure ferryd is not running or delete {path}: process with PID {pid} is still running")]
    Held { path: PathBuf, pid: String },
    #[error("cannot write the pid file {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PidFile {
    /// Takes the file for this process.
    pub(super) fn take(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source: io::Error| PidFileError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(error.into()));
            }
            let pid = std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            return Err(PidFileError::Held { path: path.to_owned(), pid });
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _locked: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the pid file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_holds_it_and_a_stale_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/x.pid");
        let held = PidFile::take(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        let error = PidFile::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process with PID {} is still running", std::process::id())), "{error}");
        drop(held);
        assert!(!path.exists());
        // The pid of a process that lives, but not as ferryd.
        std::fs::write(&path, "1").unwrap();
        drop(PidFile::take(&path).unwrap());
    }
}
