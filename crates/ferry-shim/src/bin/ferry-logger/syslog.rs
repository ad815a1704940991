//! syslog: one message a line, by UDP, TCP, TLS or a socket of this host.
//!
//! Spec: RFC 3164, RFC 5424, and RFC 5425 for the framing over TLS. Wording as in Docker's driver, which puts the tag where RFC 5424 has the
//! name of the application.

use ferry_shim::forward::{Address, Forward, Syslog as Options, SyslogFormat};
use ferry_shim::log::{Line, Stream};

use crate::dial::{Connection, dial, go_text};
use crate::driver::Driver;
use crate::moment::Clock;

const SEVERITY_ERROR: u8 = 3;
const SEVERITY_INFO: u8 = 6;

/// See the module.
pub(crate) struct Syslog {
    options: Options,
    wording: Wording,
    connection: Option<Connection>,
}

struct Wording {
    format: SyslogFormat,
    facility: u8,
    hostname: String,
    tag: String,
    pid: u32,
    clock: Clock,
}

impl Syslog {
    pub(crate) fn open(forward: &Forward, options: Options, resumed: bool) -> Result<Self, String> {
        let wording = Wording {
            format: options.format,
            facility: options.facility,
            hostname: forward.container.hostname.clone(),
            tag: forward.tag.clone(),
            pid: std::process::id(),
            clock: Clock::system(),
        };
        let mut driver = Self { options, wording, connection: None };
        if !resumed {
            driver.connection = Some(dial(&driver.options.address)?);
        }
        Ok(driver)
    }

    /// Over TLS a message begins with its length, if its format is one of RFC 5424.
    fn framed(&self, message: String) -> String {
        let by_length = matches!(self.options.address, Address::Tls(..))
            && matches!(self.options.format, SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro);
        if by_length { format!("{} {message}", message.len()) } else { message }
    }
}

impl Driver for Syslog {
    fn send(&mut self, line: &Line<'_>) -> Result<(), String> {
        if line.text.is_empty() {
            return Ok(());
        }
        let message = self.framed(self.wording.word(line));
        if let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_closed())
            && connection.send(message.as_bytes()).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let connection = self.connection.insert(dial(&self.options.address)?);
        connection.send(message.as_bytes()).map_err(|error| go_text(&error))
    }
}

impl Wording {
    fn word(&self, line: &Line<'_>) -> String {
        let severity = if line.stream == Stream::Stderr { SEVERITY_ERROR } else { SEVERITY_INFO };
        let priority = u16::from(self.facility) * 8 + u16::from(severity);
        let Self { hostname, tag, pid, clock, .. } = self;
        let text = String::from_utf8_lossy(line.text);
        let time = line.time_ns;
        match self.format {
            SyslogFormat::Unix => format!("<{priority}>{} {tag}[{pid}]: {text}\n", clock.stamp(time)),
            SyslogFormat::Rfc3164 => format!("<{priority}>{} {hostname} {tag}[{pid}]: {text}\n", clock.stamp(time)),
            SyslogFormat::Rfc5424 => {
                format!("<{priority}>1 {} {hostname} {tag} {pid} {tag} - {text}\n", clock.rfc3339(time))
            }
            SyslogFormat::Rfc5424Micro => {
                format!("<{priority}>1 {} {hostname} {tag} {pid} {tag} - {text}\n", clock.rfc3339_micro(time))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worded(format: SyslogFormat) -> String {
        let wording =
            Wording { format, facility: 3, hostname: "host".into(), tag: "tag".into(), pid: 7, clock: Clock::system() };
        let line = Line { stream: Stream::Stderr, text: b"text", whole: true, time_ns: 0, part: None };
        wording.word(&line)
    }

    #[test]
    fn messages_are_worded_as_docker_does() {
        let text = worded(SyslogFormat::Unix);
        assert!(text.starts_with("<27>") && text.ends_with(" tag[7]: text\n"), "{text}");
        let text = worded(SyslogFormat::Rfc3164);
        assert!(text.starts_with("<27>") && text.ends_with(" host tag[7]: text\n"), "{text}");
        let text = worded(SyslogFormat::Rfc5424Micro);
        assert!(text.starts_with("<27>1 19") && text.ends_with(" host tag 7 tag - text\n"), "{text}");
        assert!(text.contains(".000000"), "{text}");
    }
}
