//! The little of D-Bus that starting and stopping a unit takes: calls to systemd over its own socket, and the one signal that tells
//! how a job has ended.
//!
//! Owns the wire format. The socket is root's alone and systemd's alone, so there is no bus and nothing to look up.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[cfg(test)]
pub(super) mod fake;

const SOCKET: &str = "/run/systemd/private";
/// Far more than systemd ever says here.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Values as D-Bus lays them out: each at a multiple of its own size.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, size: usize) {
        while !self.0.len().is_multiple_of(size) {
            self.0.push(0);
        }
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.0.extend(value.bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, value: &str) {
        self.0.push(value.len() as u8);
        self.0.extend(value.bytes());
        self.0.push(0);
    }

    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    /// An array whose elements stand at multiples of `element`; the length counts from the first of them.
    pub(super) fn array(&mut self, element: usize, fill: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(element);
        let start = self.0.len();
        fill(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads what [`Writer`] writes; everything that does not fit is an error.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(io::ErrorKind::InvalidData)?;
        let taken = self.bytes.get(self.at..end).ok_or(io::ErrorKind::InvalidData)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()?.into();
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

/// A message that came in.
#[derive(Debug, Default)]
struct Message {
    kind: u8,
    reply_serial: u32,
    member: String,
    error: String,
    body: Vec<u8>,
}

fn parse(header: &[u8], body: Vec<u8>) -> io::Result<Message> {
    let mut message = Message { kind: header[1], body, ..Message::default() };
    let mut fields = Reader { bytes: header, at: 12 };
    let length = fields.u32()? as usize;
    let end = fields.at + length;
    while fields.at < end {
        fields.align(8);
        let code = fields.byte()?;
        let signature = fields.signature()?;
        match (code, signature.as_str()) {
            (3, "s") => message.member = fields.text()?,
            (4, "s") => message.error = fields.text()?,
            (5, "u") => message.reply_serial = fields.u32()?,
            (_, "s" | "o") => drop(fields.text()?),
            (_, "u") => drop(fields.u32()?),
            (_, "g") => drop(fields.signature()?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(message)
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// systemd could not be talked to.
    Io(io::Error),
    /// It said no: name and text of the error.
    Refused { name: String, text: String },
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> CallError {
        match error.kind() {
            // The first is what a socket says that has waited long enough.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                CallError::Io(io::Error::new(io::ErrorKind::TimedOut, "systemd did not answer in time"))
            }
            _ => CallError::Io(error),
        }
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Io(error) => error.fmt(formatter),
            CallError::Refused { name, text } if text.is_empty() => formatter.write_str(name),
            CallError::Refused { text, .. } => formatter.write_str(text),
        }
    }
}

impl std::error::Error for CallError {}

/// A connection to systemd.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Jobs that have ended while something else was waited for: path and result.
    ended: Vec<(String, String)>,
    patience: Duration,
}

impl Bus {
    /// Neither an answer nor a job may take longer than `patience`.
    pub(super) fn connect(patience: Duration) -> Result<Bus, CallError> {
        Ok(Bus::begin(UnixStream::connect(SOCKET)?, patience)?)
    }

    fn begin(mut stream: UnixStream, patience: Duration) -> io::Result<Bus> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        // The uid in hexadecimal of its digits: root's is `0`. Both lines at once: until it has read the second, systemd takes all that
        // lies there, and a busy one would take the first call along and look at it only when more comes, which is never.
        stream.write_all(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0u8; 1];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
            if answer.len() > 1024 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if !answer.starts_with(b"OK ") {
            return Err(io::Error::other(format!("systemd refused: {}", String::from_utf8_lossy(&answer).trim())));
        }
        Ok(Bus { stream, serial: 0, ended: Vec::new(), patience })
    }

    /// Calls a method of systemd's manager and returns the body of the answer.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: Writer) -> Result<Vec<u8>, CallError> {
        self.serial += 1;
        let message = call_message(self.serial, member, signature, body);
        self.stream.write_all(&message)?;
        let deadline = Instant::now() + self.patience;
        loop {
            let message = self.receive(deadline)?;
            let is_answer = message.reply_serial == self.serial;
            match message.kind {
                RETURN if is_answer => return Ok(message.body),
                ERROR if is_answer => {
                    let text = Reader { bytes: &message.body, at: 0 }.text().unwrap_or_default();
                    return Err(CallError::Refused { name: message.error, text });
                }
                _ => self.note(&message)?,
            }
        }
    }

    /// Calls a method that answers with a job, and waits for the job's end; returns its result, `done` when all is well.
    pub(super) fn call_job(&mut self, member: &str, signature: &str, body: Writer) -> Result<String, CallError> {
        let answer = self.call(member, signature, body)?;
        let job = Reader { bytes: &answer, at: 0 }.text()?;
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| *path == job) {
                return Ok(self.ended.swap_remove(at).1);
            }
            let message = self.receive(deadline)?;
            self.note(&message)?;
        }
    }

    fn note(&mut self, message: &Message) -> io::Result<()> {
        if message.kind == SIGNAL && message.member == "JobRemoved" {
            let mut body = Reader { bytes: &message.body, at: 0 };
            body.u32()?;
            let (job, _unit, result) = (body.text()?, body.text()?, body.text()?);
            self.ended.push((job, result));
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Message> {
        // Each message of another matter would start the time of a socket anew, and no time left would be no limit.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut header = vec![0u8; 16];
        self.stream.read_exact(&mut header)?;
        if header[0] != b'l' {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (body_length, fields_length) = (word(4), word(12));
        if body_length > MAX_MESSAGE_BYTES || fields_length > MAX_MESSAGE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut fields = vec![0u8; fields_length.next_multiple_of(8)];
        self.stream.read_exact(&mut fields)?;
        header.extend(fields);
        let mut body = vec![0u8; body_length];
        self.stream.read_exact(&mut body)?;
        parse(&header, body)
    }
}

fn call_message(serial: u32, member: &str, signature: &str, body: Writer) -> Vec<u8> {
    let mut message = Writer::default();
    for byte in [b'l', CALL, 0, 1] {
        message.byte(byte);
    }
    message.u32(body.0.len() as u32);
    message.u32(serial);
    let fields = [
        (1u8, "o", "/org/freedesktop/systemd1"),
        (2, "s", "org.freedesktop.systemd1.Manager"),
        (3, "s", member),
        (6, "s", "org.freedesktop.systemd1"),
        (8, "g", signature),
    ];
    message.array(8, |message| {
        for (code, kind, value) in fields {
            message.structure();
            message.byte(code);
            message.signature(kind);
            if kind == "g" {
                message.signature(value);
            } else {
                message.text(value);
            }
        }
    });
    message.structure();
    message.0.extend(body.0);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than it takes.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_busy_systemd_sees_the_first_call() {
        let mut bus = fake::connect(LONG, |mut systemd| {
            assert_eq!(systemd.next_call().as_deref(), Some("Subscribe"));
            systemd.answer("");
        });
        bus.call("Subscribe", "", Writer::default()).unwrap();
    }

    #[test]
    fn a_job_may_end_before_it_is_named() {
        let mut bus = fake::connect(LONG, |mut systemd| {
            assert_eq!(systemd.next_call().as_deref(), Some("StopUnit"));
            systemd.job_ended("/job/6", "canceled");
            systemd.job_ended("/job/7", "done");
            systemd.answer("/job/7");
            assert_eq!(systemd.next_call().as_deref(), Some("StopUnit"));
            systemd.answer("/job/8");
            systemd.job_ended("/job/8", "failed");
        });
        let mut stop = || bus.call_job("StopUnit", "", Writer::default()).unwrap();
        assert_eq!((stop().as_str(), stop().as_str()), ("done", "failed"));
    }

    #[test]
    fn talk_of_other_jobs_is_no_answer() {
        let mut bus = fake::connect(LONG, |mut systemd| {
            systemd.next_call();
            while systemd.send_job_ended("/job/1", "done").is_ok() {}
        });
        bus.patience = Duration::from_millis(200);
        let error = bus.call_job("StopUnit", "", Writer::default()).unwrap_err();
        assert_eq!(error.to_string(), "systemd did not answer in time");
    }

    #[test]
    fn values_stand_at_multiples_of_their_size() {
        let mut body = Writer::default();
        body.byte(1);
        body.u32(2);
        body.text("ab");
        body.u64(3);
        body.array(8, |body| {
            body.structure();
            body.byte(9);
        });
        let expected: &[u8] =
            &[1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, b'a', b'b', 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(body.0, expected);
    }

    #[test]
    fn a_call_is_read_back() {
        let mut body = Writer::default();
        body.text("x");
        let message = call_message(7, "StopUnit", "s", body);
        let fields = u32::from_le_bytes(message[12..16].try_into().unwrap()) as usize;
        let start = 16 + fields.next_multiple_of(8);
        let parsed = parse(&message[..start], message[start..].to_vec()).unwrap();
        assert_eq!(
            (parsed.kind, parsed.member.as_str(), parsed.body.as_slice()),
            (CALL, "StopUnit", &b"\x01\0\0\0x\0"[..])
        );
    }

    #[test]
    fn a_message_that_is_cut_is_refused() {
        let message = call_message(7, "StopUnit", "s", Writer::default());
        for length in 16..message.len() - 8 {
            parse(&message[..length], Vec::new()).unwrap_err();
        }
    }
}
