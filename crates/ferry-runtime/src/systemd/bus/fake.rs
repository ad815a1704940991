//! The other end of the socket, for tests: reads as systemd does, and says what a test has it say.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::{Bus, ERROR, RETURN, SIGNAL, Writer};

/// Longer than any test takes.
const LIMIT: Duration = Duration::from_secs(60);

/// One that has let somebody in.
pub(crate) struct Systemd {
    bus: Bus,
    /// Of the call it was asked last.
    serial: u32,
}

/// A connection to one that does what `serve` says.
pub(crate) fn connect(patience: Duration, serve: impl FnOnce(Systemd) + Send + 'static) -> Bus {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        if let Some(systemd) = welcome(theirs).unwrap() {
            serve(systemd);
        }
    });
    Bus::begin(ours, patience).unwrap()
}

/// Lets somebody in, reading as sd-bus does when there is much else to do between one read and the next.
fn welcome(mut stream: UnixStream) -> io::Result<Option<Systemd>> {
    let mut said = [0u8; 256];
    let count = stream.read(&mut said)?;
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
    if said[..count].ends_with(b"\r\nBEGIN\r\n") {
        return Ok(Some(Systemd { bus: Bus { stream, serial: 0, ended: Vec::new(), patience: LIMIT }, serial: 0 }));
    }
    // That word and the first call come with one read then. What is read beyond the word waits for more to come.
    io::copy(&mut stream, &mut io::sink())?;
    Ok(None)
}

impl Systemd {
    /// Member of the next call; none when the other end is closed.
    pub(crate) fn next_call(&mut self) -> Option<String> {
        let call = self.bus.receive(Instant::now() + LIMIT).ok()?;
        self.serial += 1;
        Some(call.member)
    }

    /// Answers the last call with a text, such as the path of a job.
    pub(crate) fn answer(&mut self, text: &str) {
        self.send(RETURN, None, true, &[text]).unwrap();
    }

    /// Answers it with an error.
    pub(crate) fn refuse(&mut self, name: &str, text: &str) {
        self.send(ERROR, Some((4, name)), true, &[text]).unwrap();
    }

    /// Tells that a job has ended.
    pub(crate) fn job_ended(&mut self, job: &str, result: &str) {
        self.send_job_ended(job, result).unwrap();
    }

    pub(crate) fn send_job_ended(&mut self, job: &str, result: &str) -> io::Result<()> {
        self.send(SIGNAL, Some((3, "JobRemoved")), false, &[job, "x.scope", result])
    }

    fn send(&mut self, kind: u8, field: Option<(u8, &str)>, is_answer: bool, texts: &[&str]) -> io::Result<()> {
        let mut body = Writer::default();
        if kind == SIGNAL {
            body.u32(1);
        }
        texts.iter().for_each(|text| body.text(text));
        let mut message = Writer::default();
        for byte in [b'l', kind, 0, 1] {
            message.byte(byte);
        }
        message.u32(body.0.len() as u32);
        message.u32(1);
        message.array(8, |message| {
            if is_answer {
                message.structure();
                message.byte(5);
                message.signature("u");
                message.u32(self.serial);
            }
            if let Some((code, value)) = field {
                message.structure();
                message.byte(code);
                message.signature("s");
                message.text(value);
            }
        });
        message.structure();
        message.0.extend(body.0);
        self.bus.stream.write_all(&message.0)
    }
}
