//! A bare HTTP client over a unix socket: for what no command line can say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

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

    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let bytes = body.map(ToString::to_string).unwrap_or_default();
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: ferry\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        bytes.len()
    );
    raw(socket, format!("{head}{bytes}").as_bytes())
}

/// Sends bytes as they are and reads the answer to its end.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub fn raw(socket: &Path, bytes: &[u8]) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    parse(&answer)
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
