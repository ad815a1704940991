//! Raw mode of the client's terminal.

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::failure::{Failure, Result};

/// A terminal in raw mode; dropping it brings the old mode back.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Makes standard input raw; `None` when it is no terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) || std::env::var_os("NORAW").is_some() {
            return Ok(None);
        }
        let failed = |error| Failure::new(format!("unable to set up input stream: {error}"));
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that went away has no mode to restore.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Refuses a terminal for the container where the client's input is none.
pub(crate) fn check_tty(attach_stdin: bool, tty: bool) -> Result<()> {
    if attach_stdin && tty && !crate::output::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}
