//! A daemon that answers from a table and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Method, path with query, body.
pub(crate) type Seen = (String, String, String);

/// Answers by method and path; several for one path are given in turn, the last one for good.
pub(crate) type Answers = HashMap<String, Vec<(u16, String)>>;

#[derive(Clone, Default)]
pub(crate) struct Fake {
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Listens until the process ends.
    pub(crate) fn listen(socket: &Path, answers: Answers) -> Self {
        let fake = Self { answers: Arc::new(Mutex::new(answers)), seen: Arc::default() };
        let listener = UnixListener::bind(socket).unwrap();
        let server = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        fake
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// A client may leave at any time.
    fn serve(&self, stream: UnixStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some((method, path, body)) = read_request(&mut reader) {
            let path = without_version(&path);
            let plain = path.split('?').next().unwrap_or_default().to_owned();
            if plain != "/_ping" {
                let mut seen = self.seen.lock().unwrap();
                seen.push((method.clone(), path.clone(), String::from_utf8_lossy(&body).into_owned()));
            }
            let (status, text) = self.answer(&method, &plain);
            let text = with_times(&text);
            let length = if matches!(status, 204 | 304) { 0 } else { text.len() };
            let head = format!(
                "HTTP/1.1 {status} X\r\nApi-Version: 1.48\r\nOstype: linux\r\nContent-Type: application/json\r\nContent-Length: \
                 {length}\r\n\r\n"
            );
            let body = if method == "HEAD" || length == 0 { "" } else { &text };
            if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, path: &str) -> (u16, String) {
        let mut answers = self.answers.lock().unwrap();
        match answers.get_mut(&format!("{method} {path}")) {
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
            None if path == "/_ping" => (200, "OK".to_owned()),
            None => (404, r#"{"message": "page not found"}"#.to_owned()),
        }
    }
}

fn without_version(path: &str) -> String {
    let rest = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    match rest {
        Some((version, rest)) if version.contains('.') => format!("/{rest}"),
        _ => path.to_owned(),
    }
}

/// `@NOW-n@` is the unix time n seconds ago.
fn with_times(text: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut parts = text.split("@NOW-");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (seconds, rest) = part.split_once('@').unwrap();
        out.push_str(&(now - seconds.parse::<u64>().unwrap()).to_string());
        out.push_str(rest);
    }
    out
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<(String, String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let body = if chunked { read_chunks(reader)? } else { read_exactly(reader, length)? };
    Some((method, path, body))
}

fn read_exactly(reader: &mut BufReader<UnixStream>, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(reader: &mut BufReader<UnixStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        body.extend(read_exactly(reader, size)?);
        read_exactly(reader, 2)?;
        if size == 0 {
            return Some(body);
        }
    }
}

/// Answers as the recorded files write them.
pub(crate) fn answers(json: &Value) -> Answers {
    let list = |items: &Value| {
        let items = items.as_array().unwrap().iter();
        items
            .map(|item| {
                let text = item[1].as_str().map_or_else(|| item[1].to_string(), str::to_owned);
                (u16::try_from(item[0].as_u64().unwrap()).unwrap(), text)
            })
            .collect()
    };
    json.as_object().into_iter().flatten().map(|(key, items)| (key.clone(), list(items))).collect()
}
