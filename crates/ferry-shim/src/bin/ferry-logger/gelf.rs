//! GELF 1.1: one JSON document a line, compressed and in chunks over UDP, ended by a zero byte over TCP.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use ferry_shim::forward::{Address, Forward, Gelf as Options, GelfCompression};
use ferry_shim::log::{Line, Stream};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::dial::{Connection, dial, go_text};
use crate::driver::Driver;

/// Largest datagram.
const CHUNK_BYTES: usize = 1420;

/// Of which the header of a chunk takes some.
const CHUNK_HEADER_BYTES: usize = 12;

const MOST_CHUNKS: usize = 128;

const LEVEL_ERROR: u8 = 3;
const LEVEL_INFO: u8 = 6;

/// See the module.
pub(crate) struct Gelf {
    options: Options,
    /// `"host":"…"`
    host: String,
    /// The fields of every message, without braces.
    extra: String,
    connection: Option<Connection>,
}

impl Gelf {
    pub(crate) fn open(forward: &Forward, options: Options, resumed: bool) -> Result<Self, String> {
        let host = format!("\"host\":{}", serde_json::Value::from(forward.container.hostname.as_str()));
        let mut driver = Self { options, host, extra: extra(forward), connection: None };
        if !resumed {
            driver.connect()?;
        }
        Ok(driver)
    }

    fn connect(&mut self) -> Result<&mut Connection, String> {
        let (Address::Udp(host) | Address::Tcp(host)) = &self.options.address else {
            return Err("gelf: endpoint needs to be TCP or UDP".to_owned());
        };
        let connection = dial(&self.options.address)
            .map_err(|why| format!("gelf: cannot connect to GELF endpoint: {host} {why}"))?;
        Ok(self.connection.insert(connection))
    }

    fn document(&self, line: &Line<'_>) -> String {
        let level = if line.stream == Stream::Stderr { LEVEL_ERROR } else { LEVEL_INFO };
        let text = serde_json::Value::from(String::from_utf8_lossy(line.text));
        let milliseconds = line.time_ns.div_euclid(1_000_000);
        let (seconds, rest) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
        format!(
            "{{\"version\":\"1.1\",{},\"short_message\":{text},\"timestamp\":{seconds}.{rest:03},\"level\":{level},{}}}",
            self.host, self.extra
        )
    }

    fn send_datagrams(&mut self, document: &[u8]) -> Result<(), String> {
        let bytes = compress(&self.options, document).map_err(|error| go_text(&error))?;
        let datagrams = chunks(&bytes)?;
        let connection = match self.connection.take() {
            Some(connection) => self.connection.insert(connection),
            None => self.connect()?,
        };
        for datagram in &datagrams {
            // The first one after a refusal by the host reports that refusal; the second is sent.
            if connection.send(datagram).is_err() {
                connection.send(datagram).map_err(|error| go_text(&error))?;
            }
        }
        Ok(())
    }

    fn send_stream(&mut self, mut document: Vec<u8>) -> Result<(), String> {
        document.push(0);
        for _ in 0..=self.options.max_reconnect {
            if let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_closed())
                && connection.send(&document).is_ok()
            {
                return Ok(());
            }
            self.connection = None;
            std::thread::sleep(Duration::from_secs(self.options.reconnect_delay_s));
            // A failure is met again at the next turn.
            let _ = self.connect();
        }
        match &mut self.connection {
            Some(connection) => connection.send(&document).map_err(|error| go_text(&error)),
            None => Err("Maximum reconnection attempts was reached; giving up".to_owned()),
        }
    }
}

impl Driver for Gelf {
    fn send(&mut self, line: &Line<'_>) -> Result<(), String> {
        if line.text.is_empty() {
            return Ok(());
        }
        let document = self.document(line).into_bytes();
        let sent = match self.options.address {
            Address::Udp(_) => self.send_datagrams(&document),
            _ => self.send_stream(document),
        };
        sent.map_err(|why| format!("gelf: cannot send GELF message: {why}"))
    }
}

fn extra(forward: &Forward) -> String {
    let about = &forward.container;
    let mut fields: BTreeMap<&str, &str> = BTreeMap::from([
        ("_command", about.command.as_str()),
        ("_container_id", about.id.as_str()),
        ("_container_name", about.name.as_str()),
        ("_created", about.created.as_str()),
        ("_image_id", about.image_id.as_str()),
        ("_image_name", about.image_name.as_str()),
        ("_tag", forward.tag.as_str()),
    ]);
    fields.extend(forward.attrs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let object = serde_json::to_string(&fields).expect("texts serialise");
    object[1..object.len() - 1].to_owned()
}

fn compress(options: &Options, document: &[u8]) -> io::Result<Vec<u8>> {
    let level = u32::try_from(options.compression_level).map_or_else(|_| Compression::default(), Compression::new);
    match options.compression {
        GelfCompression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(document)?;
            encoder.finish()
        }
        GelfCompression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(document)?;
            encoder.finish()
        }
        GelfCompression::None => Ok(document.to_vec()),
    }
}

/// A message that does not fit a datagram goes in pieces: two magic bytes, an id of eight, number and count, then bytes.
fn chunks(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.len() <= CHUNK_BYTES {
        return Ok(vec![bytes.to_vec()]);
    }
    let pieces: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES - CHUNK_HEADER_BYTES).collect();
    let count = u8::try_from(pieces.len()).ok().filter(|count| usize::from(*count) <= MOST_CHUNKS);
    let count = count.ok_or_else(|| format!("msg too large, would need {} chunks", pieces.len()))?;
    let mut id = [0_u8; 8];
    getrandom(&mut id, GetRandomFlags::empty()).map_err(|errno| errno.to_string())?;
    let datagrams = (0..count).zip(pieces).map(|(number, piece)| {
        let mut datagram = vec![0x1e, 0x0f];
        datagram.extend_from_slice(&id);
        datagram.extend_from_slice(&[number, count]);
        datagram.extend_from_slice(piece);
        datagram
    });
    Ok(datagrams.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_a_datagram_goes_in_chunks() {
        assert_eq!(chunks(&[7; CHUNK_BYTES]).expect("fits").len(), 1);
        let bytes: Vec<u8> = (0..4000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let datagrams = chunks(&bytes).expect("three");
        let numbers: Vec<(u8, u8)> = datagrams.iter().map(|datagram| (datagram[10], datagram[11])).collect();
        assert_eq!(numbers, [(0, 3), (1, 3), (2, 3)]);
        assert!(datagrams.iter().all(|datagram| datagram.len() <= CHUNK_BYTES && datagram[..10] == datagrams[0][..10]));
        let whole: Vec<u8> = datagrams.iter().flat_map(|datagram| datagram[12..].to_vec()).collect();
        assert_eq!(whole, bytes);
        assert_eq!(chunks(&vec![0; 1 << 20]).unwrap_err(), "msg too large, would need 745 chunks");
    }
}
