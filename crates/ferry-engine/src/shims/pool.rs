//! Shims spawned ahead of need, so that the spawn is not on the way of a start.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_shim::client::{ShimChild, ShimProgram, SpawnedShim};

use crate::error::{Context, Result};

/// How many idle shims wait.
const SPARES: usize = 2;

/// A shim without a container; it ends when its socket closes.
pub(crate) struct SpareShim {
    /// The control socket.
    pub(crate) socket: UnixStream,
    process: ShimProcess,
}

/// The process of a shim that this daemon spawned. Dropping it reaps the process as soon as that has ended, so that no zombie stays
/// whichever way its owner goes.
pub(crate) struct ShimProcess(Option<ShimChild>);

impl Drop for ShimProcess {
    fn drop(&mut self) {
        let (Some(child), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn_blocking(move || {
            if let Err(error) = child.wait() {
                tracing::debug!(%error, "a shim was reaped by someone else");
            }
        });
    }
}

impl SpareShim {
    /// Splits off the process, which is reaped when dropped.
    pub(crate) fn into_parts(self) -> (UnixStream, ShimProcess) {
        (self.socket, self.process)
    }
}

/// The pool.
#[derive(Clone)]
pub(crate) struct ShimPool {
    inner: Arc<PoolInner>,
}

struct PoolInner {
    program: ShimProgram,
    spares: Mutex<Vec<SpareShim>>,
}

impl ShimPool {
    /// Loads the program into a sealed memory file.
    pub(crate) fn open(program: &Path) -> Result<Self> {
        let program =
            ShimProgram::load(program).context(format!("cannot load the shim program {}", program.display()))?;
        Ok(Self { inner: Arc::new(PoolInner { program, spares: Mutex::new(Vec::new()) }) })
    }

    /// Takes a waiting shim or spawns one. Blocks for some ten microseconds at most.
    pub(crate) fn take(&self) -> Result<SpareShim> {
        let spare = self.inner.spares.lock().expect("no panic while held").pop();
        match spare {
            Some(spare) => Ok(spare),
            None => self.inner.spawn(),
        }
    }

    /// Takes back a shim that was not spoken to, or lets it go where enough wait.
    pub(crate) fn give_back(&self, spare: SpareShim) {
        let mut spares = self.inner.spares.lock().expect("no panic while held");
        if spares.len() < SPARES {
            spares.push(spare);
        }
    }

    /// Starts the process for one piece of work in a container's files.
    pub(crate) fn spawn_for_files(&self) -> Result<SpawnedShim> {
        self.inner.program.spawn_for_files().context("cannot start a process for work in files")
    }

    /// Fills up in the background.
    pub(crate) fn refill(&self) {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            // Held over the spawns, which take microseconds: two fillers would otherwise add one too many.
            let mut spares = inner.spares.lock().expect("no panic while held");
            while spares.len() < SPARES {
                match inner.spawn() {
                    Ok(spare) => spares.push(spare),
                    Err(error) => {
                        tracing::warn!(error = %error.text(), "cannot spawn a shim ahead of need");
                        return;
                    }
                }
            }
        });
    }

    /// Lets the waiting ones go.
    pub(crate) fn close(&self) {
        self.inner.spares.lock().expect("no panic while held").clear();
    }
}

impl PoolInner {
    fn spawn(&self) -> Result<SpareShim> {
        let spawned = self.program.spawn().context("cannot spawn a shim")?;
        Ok(SpareShim { socket: spawned.socket, process: ShimProcess(Some(spawned.child)) })
    }
}
