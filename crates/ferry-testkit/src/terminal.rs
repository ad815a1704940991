//! A command on a pseudo terminal, as a person at a keyboard sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{command, wait};

/// How long an expected text may take.
const LIMIT: Duration = command::LIMIT;

/// See the module.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Starts `command` with a terminal of 24 by 80 as its controlling terminal.
    ///
    /// # Errors
    /// When there is no terminal or program.
    pub fn start(command: &Command) -> Result<Self> {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("open a terminal")?;
        grantpt(&master).context("grantpt")?;
        unlockpt(&master).context("unlockpt")?;
        let name = ptsname(&master, Vec::new()).context("ptsname")?;
        tcsetwinsize(&master, size(24, 80)).context("set the window size")?;
        let slave =
            File::options().read(true).write(true).open(name.to_str()?).context("open the terminal's far end")?;
        // `setsid --ctty` makes standard input the controlling terminal: Command cannot, safely.
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args()).env_clear();
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                leader.env(key, value);
            }
        }
        leader.env("TERM", "xterm");
        leader.stdin(Stdio::from(OwnedFd::from(slave.try_clone()?)));
        leader.stdout(Stdio::from(OwnedFd::from(slave.try_clone()?)));
        leader.stderr(Stdio::from(OwnedFd::from(slave)));
        let child = leader.spawn().context("start the command")?;
        drop(leader);
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let reader = Some(read(keyboard.try_clone()?, Arc::clone(&screen)));
        Ok(Self { child, keyboard, screen, reader })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn keys(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("type")
    }

    /// Changes the window's size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        tcsetwinsize(&self.keyboard, size(rows, columns)).context("resize")
    }

    /// Returns everything shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        let bytes = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `text` has been shown.
    ///
    /// # Errors
    /// When it is not in time; with what was shown instead.
    pub fn expect(&self, text: &str) -> Result<()> {
        wait::until(&format!("{text:?} on the terminal"), LIMIT, || self.shown().contains(text).then_some(()))
            .with_context(|| format!("shown so far: {:?}", self.shown()))
    }

    /// Waits for the end and returns the exit code with everything that was shown.
    ///
    /// # Errors
    /// When it does not come in time; with what was shown.
    pub fn finish_showing(mut self) -> Result<(i32, String)> {
        let status = wait::until("the command on the terminal to end", LIMIT, || self.child.try_wait().ok().flatten())
            .with_context(|| format!("shown so far: {:?}", self.shown()))?;
        // The reader ends with the last program on the terminal, when it has read everything.
        drop(self.reader.take().map(JoinHandle::join));
        Ok((status.code().unwrap_or(-1), self.shown()))
    }

    /// Waits for the end and returns the exit code.
    ///
    /// # Errors
    /// When it does not come in time; with what was shown.
    pub fn finish(mut self) -> Result<i32> {
        let status = wait::until("the command on the terminal to end", LIMIT, || self.child.try_wait().ok().flatten())
            .with_context(|| format!("shown so far: {:?}", self.shown()))?;
        Ok(status.code().unwrap_or(-1))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            command::kill_tree(self.child.id());
            drop(self.child.wait());
        }
    }
}

fn read(mut master: File, screen: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The read fails with EIO when the last program on the terminal has gone.
        while let Ok(count) = master.read(&mut buffer) {
            if count == 0 {
                break;
            }
            screen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
        }
    })
}
