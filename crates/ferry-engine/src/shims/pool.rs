//! Shims spawned ahead of need, so that the spawn is not on the way of a start.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_shim::client::{ShimChild, ShimProgram};

use crate::error::{Context, Result};

/// How many idle shims wait.
const SPARES: usize = 2;

/// A shim without a container; it ends when its socket closes.
pub(crate) struct SpareShim {
    /// The control socket.
    pub(crate) socket: UnixStream,
    process: ShimChild,
}

impl SpareShim {
    /// Splits off the part that reaps the process once it has ended.
    pub(crate) fn into_parts(self) -> (UnixStream, ShimChild) {
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
            return;
        }
        drop(spares);
        let (socket, process) = spare.into_parts();
        drop(socket);
        reap(process);
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
        for spare in self.inner.spares.lock().expect("no panic while held").drain(..) {
            let (socket, process) = spare.into_parts();
            drop(socket);
            reap(process);
        }
    }
}

impl PoolInner {
    fn spawn(&self) -> Result<SpareShim> {
        let spawned = self.program.spawn().context("cannot spawn a shim")?;
        Ok(SpareShim { socket: spawned.socket, process: spawned.child })
    }
}

/// Waits for an ended shim, so that no zombie stays.
pub(crate) fn reap(process: ShimChild) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = process.wait() {
            tracing::debug!(%error, "a shim was reaped by someone else");
        }
    });
}
