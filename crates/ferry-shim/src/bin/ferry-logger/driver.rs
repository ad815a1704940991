//! What every kind of server has in common, and the loop that delivers.

use std::time::{Duration, Instant};

use ferry_shim::forward::{Forward, Report, Server, decode_line};
use ferry_shim::log::Line;

use crate::inbox::Inbox;
use crate::{fluentd, gelf, journald, plugin, syslog};

/// How often trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A way to a server. The contract: `send` tries as hard as Docker's driver of that name does and then gives the line up; it may take
/// as long as the server does; after an error the next call begins anew.
pub(crate) trait Driver: Send {
    /// Sends a line, or one part of it.
    fn send(&mut self, line: &Line<'_>) -> Result<(), String>;
}

/// Reaches the server. With `resumed` a server that is not there is met again at the first line.
pub(crate) fn open(forward: Forward, resumed: bool) -> Result<Box<dyn Driver>, String> {
    Ok(match forward.server.clone() {
        Server::Syslog(options) => Box::new(syslog::Syslog::open(&forward, options, resumed)?),
        Server::Fluentd(options) => Box::new(fluentd::Fluentd::open(&forward, options, resumed)?),
        Server::Gelf(options) => Box::new(gelf::Gelf::open(&forward, options, resumed)?),
        Server::Journald => Box::new(journald::Journald::open(&forward, resumed)?),
        Server::Plugin(fifo) => Box::new(plugin::Plugin::open(&fifo)?),
    })
}

/// Delivers to the end of the inbox.
pub(crate) fn deliver(mut driver: Box<dyn Driver>, inbox: &Inbox, tell: impl Fn(Report)) {
    let mut trouble = Trouble::default();
    while let Some((frame, dropped)) = inbox.next() {
        if dropped > 0 {
            trouble.note(dropped, "the buffer is full");
        }
        let Some(line) = decode_line(&frame) else { continue };
        if let Err(why) = driver.send(&line) {
            trouble.note(1, &why);
        }
        if let Some(report) = trouble.due(Instant::now()) {
            tell(report);
        }
    }
    tell_rest(&mut trouble, tell);
}

fn tell_rest(trouble: &mut Trouble, tell: impl Fn(Report)) {
    trouble.told = None;
    if let Some(report) = trouble.due(Instant::now()) {
        tell(report);
    }
}

/// Lines that were not delivered and are not yet told of.
#[derive(Debug, Default)]
struct Trouble {
    lines: u64,
    why: String,
    told: Option<Instant>,
}

impl Trouble {
    fn note(&mut self, lines: u64, why: &str) {
        self.lines += lines;
        why.clone_into(&mut self.why);
    }

    fn due(&mut self, now: Instant) -> Option<Report> {
        if self.lines == 0 || self.told.is_some_and(|told| now - told < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        let lines = std::mem::take(&mut self.lines);
        Some(Report::Trouble(format!("{lines} log lines were not delivered: {}", self.why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_now_and_then() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        assert_eq!(trouble.due(start), None);
        trouble.note(1, "gone");
        let text = |lines| Some(Report::Trouble(format!("{lines} log lines were not delivered: gone")));
        assert_eq!(trouble.due(start), text(1));
        trouble.note(1, "gone");
        trouble.note(2, "gone");
        assert_eq!(trouble.due(start), None);
        assert_eq!(trouble.due(start + TELL_EVERY), text(3));
    }
}
