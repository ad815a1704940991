//! A bare HTTP client over a unix socket: for what no command line can say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::LIMIT;
use crate::strip::Strip;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines as sent.
    pub head: String,
    /// Body with the chunked encoding taken off.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the body as JSON, or null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Percent-encodes what no request line may hold, so that filters can be written as JSON.
#[must_use]
pub fn encode(target: &str) -> String {
    let mut out = String::new();
    for byte in target.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let kind = if body.is_some() { "application/json" } else { "" };
    send(socket, method, path, kind, body.map(ToString::to_string).unwrap_or_default().as_bytes())
}

/// Sends one request with a body of any kind on a connection of its own.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn send(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
    let strip = Strip::asked();
    if strip.as_ref().is_some_and(|strip| strip.is_endpoint(method, path)) {
        return Ok(Answer { status: 404, head: "HTTP/1.1 404 Not Found".to_owned(), body: Vec::new() });
    }
    let path = strip.map_or_else(|| path.to_owned(), |strip| strip.target(method, path));
    let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: ferry\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        body.len()
    );
    raw(socket, &[head.as_bytes(), body].concat())
}

/// A connection whose answer has to be at its end in time, however often something of it comes.
struct Bounded {
    inner: UnixStream,
    end: Instant,
}

impl Bounded {
    fn connect(socket: &Path) -> Result<Self> {
        let inner = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self { inner, end: Instant::now() + LIMIT })
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.inner.set_read_timeout(Some(left))?;
        self.inner.read(buffer)
    }
}

/// Sends bytes as they are and reads the answer to its end.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn raw(socket: &Path, bytes: &[u8]) -> Result<Answer> {
    let mut stream = Bounded::connect(socket)?;
    stream.inner.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    parse(&answer)
}

/// Attaches to what `target` names, types once that is granted, and reads to the end.
///
/// # Errors
/// When nobody listens, the answer is no HTTP or the stream does not end in time.
pub fn attach(socket: &Path, target: &str, typed: &[u8]) -> Result<Answer> {
    let target = Strip::asked().map_or_else(|| target.to_owned(), |strip| strip.target("POST", target));
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: ferry\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    upgraded(socket, head.as_bytes(), typed)
}

/// Sends the head of a request for a connection of its own, then `typed` once that is granted, and
/// reads to the end.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn upgraded(socket: &Path, head: &[u8], typed: &[u8]) -> Result<Answer> {
    let mut stream = Bounded::connect(socket)?;
    stream.inner.write_all(head)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let mut granted = false;
    loop {
        let read = stream.read(&mut buffer).context("read the answer")?;
        answer.extend_from_slice(&buffer[..read]);
        if read == 0 {
            return parse(&answer);
        }
        let Ok(parsed) = parse(&answer) else { continue };
        if parsed.status == 101 {
            if !granted {
                stream.inner.write_all(typed)?;
                granted = true;
            }
            continue;
        }
        // Refused: the connection stays open for the next request.
        let length = parsed.header("content-length").and_then(|length| length.parse().ok());
        if length.is_some_and(|length: usize| parsed.body.len() >= length) || answer.ends_with(b"0\r\n\r\n") {
            return Ok(parsed);
        }
    }
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("the answer has no head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("the answer has no status")?;
    let rest = &answer[end + 4..];
    let mut parsed = Answer { status, head, body: rest.to_vec() };
    if parsed.header("transfer-encoding") == Some("chunked") {
        parsed.body = dechunk(rest);
    }
    Ok(parsed)
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let Ok(size) = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16) else { break };
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!([1, 2])));
    }
}
