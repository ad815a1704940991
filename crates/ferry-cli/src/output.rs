//! Where text goes: data to standard output, everything else to standard error.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use rustix::termios::{Winsize, tcgetwinsize};

/// Writes for a user.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    /// Nothing more is written to standard error, since nobody reads it.
    stderr_closed: Cell<bool>,
}

impl Printer {
    /// Writes data.
    pub(crate) fn data(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes.as_ref())?;
        out.flush()
    }

    /// Writes a line of data.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.data(format!("{text}\n"))
    }

    /// Writes bytes to standard error; a reader that went away is no reason to stop.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        if !self.stderr_closed.get() && io::stderr().lock().write_all(bytes).is_err() {
            self.stderr_closed.set(true);
        }
    }

    /// Writes a line to standard error.
    pub(crate) fn note(&self, text: &str) {
        self.error_bytes(format!("{text}\n").as_bytes());
    }

    /// Writes a log line in the form of Docker's client.
    pub(crate) fn log(&self, level: &str, text: &str) {
        if io::stderr().is_terminal() {
            let short: String = level.to_uppercase().chars().take(4).collect();
            return self.note(&format!("{short}[0000] {text}"));
        }
        let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
        self.note(&format!("time=\"{now}\" level={level} msg={}", crate::flags::go_quote(text)));
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Height and width of the terminal on standard output.
pub(crate) fn stdout_size() -> Option<(u16, u16)> {
    size(tcgetwinsize(rustix::stdio::stdout()).ok()?)
}

/// Height and width of the terminal on standard input.
pub(crate) fn stdin_size() -> Option<(u16, u16)> {
    size(tcgetwinsize(rustix::stdio::stdin()).ok()?)
}

/// Height and width of the terminal on standard error.
pub(crate) fn stderr_size() -> Option<(u16, u16)> {
    size(tcgetwinsize(rustix::stdio::stderr()).ok()?)
}

fn size(window: Winsize) -> Option<(u16, u16)> {
    (window.ws_row > 0 || window.ws_col > 0).then_some((window.ws_row, window.ws_col))
}
