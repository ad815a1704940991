//! fluentd: the forward protocol, one message a line.
//!
//! Spec: Forward Protocol v1, message mode, with `chunk` and `ack` when asked for. Tries and waits as in Docker's driver.

use std::time::{Duration, Instant};

use ferry_shim::forward::{Fluentd as Options, Forward};
use ferry_shim::log::Line;

use crate::dial::{Connection, dial, go_text};
use crate::driver::Driver;
use crate::msgpack;

/// Longest wait between two tries to connect.
const LONGEST_WAIT_MS: u64 = 60_000;

/// Longest answer of a server.
const ANSWER_BYTES: usize = 4096;

/// See the module.
pub(crate) struct Fluentd {
    options: Options,
    tag: String,
    /// Fields of every message.
    fixed: Vec<(String, String)>,
    connection: Option<Connection>,
    connected_at: Instant,
    messages: u64,
}

impl Fluentd {
    pub(crate) fn open(forward: &Forward, options: Options, resumed: bool) -> Result<Self, String> {
        let container = &forward.container;
        let mut fixed = vec![
            ("container_id".to_owned(), container.id.clone()),
            ("container_name".to_owned(), format!("/{}", container.name)),
        ];
        // As in a Go map, attributes of these names take their place.
        for (key, value) in &forward.attrs {
            fixed.retain(|(known, _)| known != key);
            fixed.push((key.clone(), value.clone()));
        }
        let mut driver = Self {
            options,
            tag: forward.tag.clone(),
            fixed,
            connection: None,
            connected_at: Instant::now(),
            messages: 0,
        };
        if !resumed && !driver.options.is_async {
            driver.connect()?;
        }
        Ok(driver)
    }

    fn connect(&mut self) -> Result<(), String> {
        let connection = dial(&self.options.address)?;
        let time = |milliseconds| (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        connection
            .set_timeouts(time(self.options.write_timeout_ms), time(self.options.read_timeout_ms))
            .map_err(|error| go_text(&error))?;
        self.connection = Some(connection);
        self.connected_at = Instant::now();
        Ok(())
    }

    fn connect_with_retry(&mut self) -> Result<(), String> {
        for attempt in 0..self.options.max_retries {
            if self.connect().is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(wait_ms(self.options.retry_wait_ms, attempt)));
        }
        Err(format!("could not connect to fluentd after {} retries", self.options.max_retries))
    }

    fn encode(&mut self, line: &Line<'_>) -> (Vec<u8>, Option<String>) {
        self.messages += 1;
        let chunk = self.options.request_ack.then(|| format!("{:016x}{:016x}", line.time_ns, self.messages));
        let mut out = Vec::with_capacity(line.text.len() + 256);
        msgpack::push_array(&mut out, 4);
        msgpack::push_text(&mut out, self.tag.as_bytes());
        if self.options.sub_second_precision {
            msgpack::push_event_time(&mut out, line.time_ns);
        } else {
            msgpack::push_seconds(&mut out, line.time_ns.div_euclid(1_000_000_000));
        }
        let mut pairs: Vec<(&str, &[u8])> =
            self.fixed.iter().map(|(key, value)| (key.as_str(), value.as_bytes())).collect();
        let mut own: Vec<(&str, &[u8])> = vec![("source", line.stream.name().as_bytes()), ("log", line.text)];
        own.retain(|(key, _)| pairs.iter().all(|(known, _)| known != key));
        pairs.append(&mut own);
        let ordinal = line.part.map(|part| part.ordinal.to_string());
        if let (Some(part), Some(ordinal)) = (&line.part, &ordinal) {
            let last: &[u8] = if line.whole { b"true" } else { b"false" };
            pairs.extend([
                ("partial_message", &b"true"[..]),
                ("partial_id", part.id.as_bytes()),
                ("partial_ordinal", ordinal.as_bytes()),
                ("partial_last", last),
            ]);
        }
        msgpack::push_map(&mut out, pairs.len());
        for (key, value) in pairs {
            msgpack::push_text(&mut out, key.as_bytes());
            msgpack::push_text(&mut out, value);
        }
        msgpack::push_map(&mut out, usize::from(chunk.is_some()));
        if let Some(chunk) = &chunk {
            msgpack::push_text(&mut out, b"chunk");
            msgpack::push_text(&mut out, chunk.as_bytes());
        }
        (out, chunk)
    }

    /// Writes once; an error has closed the connection.
    fn write(&mut self, message: &[u8], chunk: Option<&str>) -> Result<(), String> {
        let Some(mut connection) = self.connection.take() else {
            return Err("not connected".to_owned());
        };
        connection.send(message).map_err(|error| go_text(&error))?;
        if let Some(chunk) = chunk {
            let ack = read_ack(&mut connection)?;
            if ack != chunk.as_bytes() {
                return Err("the acknowledgement does not match".to_owned());
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn drop_stale_connection(&mut self) {
        let interval = Duration::from_millis(self.options.reconnect_interval_ms);
        let is_old = self.options.is_async && !interval.is_zero() && self.connected_at.elapsed() > interval;
        if is_old || self.connection.as_ref().is_some_and(Connection::is_closed) {
            self.connection = None;
        }
    }
}

impl Driver for Fluentd {
    fn send(&mut self, line: &Line<'_>) -> Result<(), String> {
        let (message, chunk) = self.encode(line);
        for _ in 0..self.options.max_retries {
            self.drop_stale_connection();
            if self.connection.is_none() {
                self.connect_with_retry()?;
            }
            if self.write(&message, chunk.as_deref()).is_ok() {
                return Ok(());
            }
        }
        Err(format!("failed to write after {} attempts", self.options.max_retries))
    }
}

/// Half as long again with each try, from nothing after the first.
fn wait_ms(retry_wait_ms: u64, attempt: u32) -> u64 {
    let mut factor = 2.0 / 3.0;
    for _ in 0..attempt.min(40) {
        factor *= 1.5;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1.5^40, below 2^63")]
    let whole = factor as u64;
    retry_wait_ms.saturating_mul(whole).min(LONGEST_WAIT_MS)
}

fn read_ack(connection: &mut Connection) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Err("EOF".to_owned()),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(go_text(&error)),
        }
        if let Some(ack) = msgpack::read_ack(&answer) {
            return Ok(ack);
        }
        if answer.len() > ANSWER_BYTES {
            return Err("the answer is no acknowledgement".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_as_dockers_do() {
        let waits: Vec<u64> = (0..7).map(|attempt| wait_ms(1000, attempt)).collect();
        assert_eq!(waits, [0, 1000, 1000, 2000, 3000, 5000, 7000]);
        assert_eq!(wait_ms(1000, 30), LONGEST_WAIT_MS);
    }
}
