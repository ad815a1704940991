//! A log plugin of the engine: protobuf messages, each behind its length, into a FIFO that the plugin reads.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;

use ferry_shim::forward::PluginFifo;
use ferry_shim::log::{Line, push_for_plugin};
use rustix::fs::FlockOperation;

use crate::dial::go_text;
use crate::driver::Driver;

/// See the module.
pub(crate) struct Plugin {
    fifo: File,
    message: Vec<u8>,
}

impl Plugin {
    /// The lock tells the engine that lines may still come.
    pub(crate) fn open(fifo: &PluginFifo) -> Result<Self, String> {
        let failed = |error: &std::io::Error| {
            format!("error opening the pipe of the log plugin {}: {}", fifo.path.display(), go_text(error))
        };
        // For reading too: a plugin that dies must not end us, and one that is not there yet not hold us up.
        let file = File::options().read(true).write(true).open(&fifo.path).map_err(|error| failed(&error))?;
        if !file.metadata().map_err(|error| failed(&error))?.file_type().is_fifo() {
            return Err(format!("{} is no pipe", fifo.path.display()));
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).map_err(|error| failed(&error.into()))?;
        Ok(Self { fifo: file, message: Vec::new() })
    }
}

impl Driver for Plugin {
    fn send(&mut self, line: &Line<'_>) -> Result<(), String> {
        self.message.clear();
        push_for_plugin(&mut self.message, line);
        self.fifo.write_all(&self.message).map_err(|error| go_text(&error))
    }
}
