//! The words between a shim and its `ferry-logger`, which sends a container's lines to a server.
//!
//! One stream socket, descriptor 0 of the logger. The shim sends a [`Forward`] as a frame of JSON, then lines as binary frames
//! ([`encode_line`]); the logger answers with frames of JSON ([`Report`]). Each frame is a `u32` little-endian length and that many
//! bytes. The end of the stream is the end of the container; the logger then delivers what it has, within bounds, and ends.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::log::{Line, Part, Stream};

/// Name of the program, and of its process.
pub const PROGRAM: &str = "ferry-logger";

/// Where lines go, and what goes with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Which server, in which language.
    pub server: Server,
    /// `tag`, its template filled in.
    pub tag: String,
    /// Labels and environment that were asked for, by the name that the driver gives them.
    pub attrs: Vec<(String, String)>,
    /// Of which container.
    pub container: About,
}

/// The first frame to a logger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Where lines go.
    pub forward: Forward,
    /// Another logger ran before it: the container runs, and no server is no reason to fail.
    pub resumed: bool,
}

/// What servers are told of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// As inspected.
    pub image_id: String,
    /// As asked for.
    pub image_name: String,
    /// Entrypoint and command, joined by blanks.
    pub command: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// Name of this host.
    pub hostname: String,
}

/// A kind of server with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// `syslog`
    Syslog(Syslog),
    /// `fluentd`
    Fluentd(Fluentd),
    /// `gelf`
    Gelf(Gelf),
    /// `journald`
    Journald,
    /// A log plugin of the engine.
    Plugin(PluginFifo),
}

/// Where a log plugin reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFifo {
    /// A FIFO that is there.
    pub path: PathBuf,
}

/// An address with its transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// `host:port`, an IPv6 host in brackets.
    Udp(String),
    /// Likewise.
    Tcp(String),
    /// Likewise, with TLS.
    Tls(String, TlsFiles),
    /// A stream socket.
    Unix(PathBuf),
    /// A datagram socket.
    UnixDatagram(PathBuf),
    /// The host's own syslog, wherever it listens.
    LocalSyslog,
}

/// What proves who is who.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// Authorities; `None` are the host's.
    pub authorities: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Take whatever the server shows.
    pub skip_verify: bool,
}

/// Options of `syslog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Where to.
    pub address: Address,
    /// 0..=23
    pub facility: u8,
    /// How a message is worded.
    pub format: SyslogFormat,
}

/// `syslog-format`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// As the host's own programs do.
    #[default]
    Unix,
    /// `rfc3164`
    Rfc3164,
    /// `rfc5424`
    Rfc5424,
    /// `rfc5424micro`
    Rfc5424Micro,
}

/// Options of `fluentd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fluentd {
    /// Where to.
    pub address: Address,
    /// Start without a server, and never hold the container up.
    pub is_async: bool,
    /// Messages that wait at most when async.
    pub buffer_limit: u64,
    /// Before the second try to connect; grows by half each time.
    pub retry_wait_ms: u64,
    /// Tries to connect, and to write.
    pub max_retries: u32,
    /// Times with nanoseconds.
    pub sub_second_precision: bool,
    /// Wait for the server's word for each message.
    pub request_ack: bool,
    /// Connect anew after so long when async; 0 never.
    pub reconnect_interval_ms: u64,
    /// 0 waits for ever.
    pub write_timeout_ms: u64,
    /// 0 waits for ever.
    pub read_timeout_ms: u64,
}

/// Options of `gelf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gelf {
    /// UDP or TCP.
    pub address: Address,
    /// Of UDP messages.
    pub compression: GelfCompression,
    /// -1..=9
    pub compression_level: i8,
    /// Tries after a failed write to TCP.
    pub max_reconnect: u32,
    /// Between them.
    pub reconnect_delay_s: u64,
}

/// `gelf-compression-type`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GelfCompression {
    /// `gzip`
    #[default]
    Gzip,
    /// `zlib`
    Zlib,
    /// `none`
    None,
}

/// What a logger tells its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The server is reached, or need not be: lines may come.
    Ready,
    /// It is not, and the container must not start.
    Failed(String),
    /// Lines were not delivered.
    Trouble(String),
}

const WHOLE: u8 = 1;
const PART: u8 = 2;

/// Appends a line as a frame: stream and flags, a byte each, the time, of a part its ordinal and the length of its id, then the id and
/// the text. Numbers are little-endian.
pub fn encode_line(out: &mut Vec<u8>, line: &Line<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let flags = if line.whole { WHOLE } else { 0 } | if line.part.is_some() { PART } else { 0 };
    out.extend_from_slice(&[line.stream.frame_byte(), flags]);
    out.extend_from_slice(&line.time_ns.to_le_bytes());
    if let Some(part) = &line.part {
        out.extend_from_slice(&part.ordinal.to_le_bytes());
        out.push(u8::try_from(part.id.len()).expect("an id has 64 digits"));
        out.extend_from_slice(part.id.as_bytes());
    }
    out.extend_from_slice(line.text);
    let length = u32::try_from(out.len() - start - 4).expect("a text has at most 16 KiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Takes the body of such a frame apart; `None` when it is none.
#[must_use]
pub fn decode_line(frame: &[u8]) -> Option<Line<'_>> {
    let (&[stream, flags], rest) = frame.split_first_chunk()?;
    let (time, mut rest) = rest.split_first_chunk()?;
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    let mut part = None;
    if flags & PART != 0 {
        let (ordinal, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first()?;
        let (id, after) = after.split_at_checked(usize::from(*length))?;
        part = Some(Part { id: std::str::from_utf8(id).ok()?, ordinal: u32::from_le_bytes(*ordinal) });
        rest = after;
    }
    Some(Line { stream, text: rest, whole: flags & WHOLE != 0, time_ns: i64::from_le_bytes(*time), part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_way_there_and_back() {
        let part = Part { id: "feed", ordinal: 7 };
        for (text, whole, part) in [(&b"text"[..], true, None), (b"", false, Some(part)), (b"\0\xff", true, Some(part))]
        {
            let line = Line { stream: Stream::Stderr, text, whole, time_ns: -3, part };
            let mut out = Vec::new();
            encode_line(&mut out, &line);
            assert_eq!(u32::from_le_bytes(*out.first_chunk().expect("length")) as usize, out.len() - 4);
            assert_eq!(decode_line(&out[4..]), Some(line));
        }
        assert_eq!(decode_line(b"\x01\x02"), None);
        assert_eq!(decode_line(b""), None);
    }
}
