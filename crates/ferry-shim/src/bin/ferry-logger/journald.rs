//! The host's journal, by its datagram protocol.
//!
//! Spec: systemd, Native Journal Protocol. Each field is `NAME=value` and a newline, or, when the value holds a newline, the name, a
//! newline, the length as `u64` little-endian, the value and a newline. What is too large for a datagram goes as a sealed memory file.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use ferry_shim::forward::Forward;
use ferry_shim::log::{Line, Stream, format_time};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::dial::go_text;
use crate::driver::Driver;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

const PRIORITY_ERROR: &str = "3";
const PRIORITY_INFO: &str = "6";

/// See the module.
pub(crate) struct Journald {
    /// The fields of every message, encoded.
    fixed: Vec<u8>,
    socket: Option<UnixDatagram>,
    messages: u64,
}

impl Journald {
    pub(crate) fn open(forward: &Forward, resumed: bool) -> Result<Self, String> {
        let mut driver = Self { fixed: fixed(forward), socket: None, messages: 0 };
        if !resumed {
            driver.socket = Some(connect().map_err(|_| "journald is not enabled on this host".to_owned())?);
        }
        Ok(driver)
    }

    fn message(&mut self, line: &Line<'_>) -> Vec<u8> {
        self.messages += 1;
        let mut out = Vec::with_capacity(self.fixed.len() + line.text.len() + 256);
        let priority = if line.stream == Stream::Stderr { PRIORITY_ERROR } else { PRIORITY_INFO };
        push_field(&mut out, "PRIORITY", priority.as_bytes());
        push_field(&mut out, "MESSAGE", line.text);
        out.extend_from_slice(&self.fixed);
        push_field(&mut out, "SYSLOG_TIMESTAMP", format_time(line.time_ns).as_bytes());
        if let Some(part) = &line.part {
            push_field(&mut out, "CONTAINER_PARTIAL_ID", part.id.as_bytes());
            push_field(&mut out, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
            push_field(&mut out, "CONTAINER_PARTIAL_LAST", if line.whole { b"true" } else { b"false" });
            if !line.whole {
                push_field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        push_field(&mut out, "CONTAINER_LOG_ORDINAL", self.messages.to_string().as_bytes());
        out
    }
}

impl Driver for Journald {
    fn send(&mut self, line: &Line<'_>) -> Result<(), String> {
        let message = self.message(line);
        if let Some(socket) = &self.socket
            && send(socket, &message).is_ok()
        {
            return Ok(());
        }
        // The journal may have been started anew, and its socket with it.
        self.socket = None;
        let socket = self.socket.insert(connect().map_err(|error| go_text(&error))?);
        send(socket, &message).map_err(|error| go_text(&error))
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

fn send(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    match socket.send(message) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
            send_file(socket, message)
        }
        Err(error) => Err(error),
    }
}

fn send_file(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    let file = rustix::fs::memfd_create("journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(message)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    ferry_sys::socket::send(socket, &[], &[file.as_fd()]).map(drop)
}

fn fixed(forward: &Forward) -> Vec<u8> {
    let about = &forward.container;
    let epoch = random_id();
    let own = [
        ("CONTAINER_ID", about.id.get(..12).unwrap_or(&about.id)),
        ("CONTAINER_ID_FULL", about.id.as_str()),
        ("CONTAINER_NAME", about.name.as_str()),
        ("CONTAINER_TAG", forward.tag.as_str()),
        ("IMAGE_NAME", about.image_name.as_str()),
        ("SYSLOG_IDENTIFIER", forward.tag.as_str()),
        ("CONTAINER_LOG_EPOCH", epoch.as_str()),
    ];
    let mut out = Vec::new();
    for (name, value) in own {
        // As in a Go map, attributes of these names take their place.
        if forward.attrs.iter().all(|(key, _)| key != name) {
            push_field(&mut out, name, value.as_bytes());
        }
    }
    for (name, value) in &forward.attrs {
        // A name without a letter that the journal takes is none.
        if !name.is_empty() {
            push_field(&mut out, name, value.as_bytes());
        }
    }
    out
}

fn random_id() -> String {
    let mut bytes = [0_u8; 32];
    // It tells runs apart for a reader of the journal; the time does as well.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_journals_bytes() {
        let mut out = Vec::new();
        push_field(&mut out, "A", b"b");
        push_field(&mut out, "C", b"d\ne");
        assert_eq!(out, b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n");
    }
}
