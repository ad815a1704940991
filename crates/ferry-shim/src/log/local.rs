//! Docker's `local` format: each entry is a protobuf message between two copies of its length.
//!
//! ```text
//! u32 big-endian length | message | u32 big-endian length
//! message: 1 source, 2 time in nanoseconds, 3 line without its newline, 4 part of a longer line,
//!          5 { 1 last part, 2 id of the longer line, 3 ordinal }, 6 { 1 key, 2 value } repeated
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::Next;
use super::parse::{Parsed, PartOf};
use super::{Line, Stream};

/// Longest message; a text has at most 16 KiB, and attributes are few.
const MESSAGE_BYTES: usize = 1_000_000;

const LENGTH_BYTES: usize = 4;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

pub(super) fn push_entry(out: &mut Vec<u8>, line: &Line<'_>, attrs: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    push_bytes(out, 1, line.stream.name().as_bytes());
    push_number(out, 2, line.time_ns.cast_unsigned());
    push_bytes(out, 3, line.text);
    if let Some(part) = &line.part {
        push_number(out, 4, 1);
        let mut metadata = Vec::with_capacity(80);
        push_number(&mut metadata, 1, u64::from(line.whole));
        push_bytes(&mut metadata, 2, part.id.as_bytes());
        push_number(&mut metadata, 3, u64::from(part.ordinal));
        push_bytes(out, 5, &metadata);
    }
    out.extend_from_slice(attrs);
    let length = u32::try_from(out.len() - start - LENGTH_BYTES).expect("a text has at most 16 KiB").to_be_bytes();
    out[start..start + LENGTH_BYTES].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

pub(super) fn encode_attrs(attrs: &[(String, String)]) -> Vec<u8> {
    let mut sorted: Vec<_> = attrs.iter().collect();
    sorted.sort();
    let mut out = Vec::new();
    for (key, value) in sorted {
        let mut pair = Vec::new();
        push_bytes(&mut pair, 1, key.as_bytes());
        push_bytes(&mut pair, 2, value.as_bytes());
        push_bytes(&mut out, 6, &pair);
    }
    out
}

pub(super) fn decode_attrs(attrs: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = Fields(attrs).filter_map(|(_, value)| value.bytes());
    pairs
        .map(|pair| {
            let mut decoded = (String::new(), String::new());
            for (field, value) in Fields(pair) {
                match (field, value) {
                    (1, Value::Bytes(key)) => decoded.0 = text(key),
                    (2, Value::Bytes(value)) => decoded.1 = text(value),
                    _ => {}
                }
            }
            decoded
        })
        .collect()
}

pub(super) fn next(unread: &[u8]) -> Next {
    let Some(length) = length_at(unread, 0) else {
        return Next::More;
    };
    if length > MESSAGE_BYTES {
        return Next::Damaged;
    }
    let end = length + 2 * LENGTH_BYTES;
    match length_at(unread, LENGTH_BYTES + length) {
        None => Next::More,
        Some(again) if again == length => Next::Record { body: LENGTH_BYTES..LENGTH_BYTES + length, end },
        Some(_) => Next::Damaged,
    }
}

pub(super) fn parse(record: &[u8], text: &mut Vec<u8>, attrs: &mut Vec<u8>) -> Option<Parsed> {
    text.clear();
    attrs.clear();
    let (mut stream, mut time_ns, mut is_part, mut part) = (None, 0, false, PartOf::default());
    let mut last = false;
    for (field, value) in Fields(record) {
        match (field, value) {
            (1, Value::Bytes(b"stdout")) => stream = Some(Stream::Stdout),
            (1, Value::Bytes(b"stderr")) => stream = Some(Stream::Stderr),
            (2, Value::Number(time)) => time_ns = time.cast_signed(),
            (3, Value::Bytes(line)) => text.extend_from_slice(line),
            (4, Value::Number(number)) => is_part = number != 0,
            (5, Value::Bytes(metadata)) => {
                for (field, value) in Fields(metadata) {
                    match (field, value) {
                        (1, Value::Number(number)) => last = number != 0,
                        (2, Value::Bytes(id)) => part.id = String::from_utf8_lossy(id).into_owned(),
                        (3, Value::Number(number)) => part.ordinal = u32::try_from(number).unwrap_or(0),
                        _ => {}
                    }
                }
            }
            (6, Value::Bytes(pair)) => push_bytes(attrs, 6, pair),
            _ => {}
        }
    }
    if !is_part || last {
        text.push(b'\n');
    }
    part.last = last;
    Some(Parsed { stream: stream?, time_ns, part: is_part.then_some(part) })
}

/// Reads the message of a log plugin, which may call its streams what it likes.
pub(super) fn plugin_line(message: &[u8]) -> Option<super::PluginLine> {
    let mut line = super::PluginLine { time_ns: 0, is_stderr: false, line: Vec::new() };
    let mut known = false;
    for (field, value) in Fields(message) {
        match (field, value) {
            (1, Value::Bytes(stream)) => line.is_stderr = stream == b"stderr",
            (2, Value::Number(time)) => line.time_ns = time.cast_signed(),
            (3, Value::Bytes(text)) => line.line = text.to_vec(),
            _ => continue,
        }
        known = true;
    }
    known.then_some(line)
}

pub(super) fn time_of(record: &[u8]) -> Option<i64> {
    Fields(record).find_map(|(field, value)| match (field, value) {
        (2, Value::Number(time)) => Some(time.cast_signed()),
        _ => None,
    })
}

pub(super) fn whole(records: &[u8]) -> (usize, u64) {
    let (mut at, mut count) = (0, 0);
    while let Next::Record { end, .. } = next(&records[at..]) {
        at += end;
        count += 1;
    }
    (at, count)
}

/// Cuts off what a crash has left of an entry.
pub(super) fn repair_end(file: &File, size: u64) -> io::Result<u64> {
    if size == 0 || previous(file, size)?.is_some() {
        return Ok(size);
    }
    let mut end = 0;
    while let Some(length) = read_length(file, end, size)? {
        let next = end + (length + 2 * LENGTH_BYTES) as u64;
        if length > MESSAGE_BYTES || read_length(file, next - LENGTH_BYTES as u64, size)? != Some(length) {
            break;
        }
        end = next;
    }
    file.set_len(end)?;
    Ok(end)
}

/// Where the entry begins that ends at `end`; `None` when none does.
pub(super) fn previous(file: &File, end: u64) -> io::Result<Option<u64>> {
    let Some(footer) = end.checked_sub(LENGTH_BYTES as u64) else {
        return Ok(None);
    };
    let Some(length) = read_length(file, footer, end)?.filter(|length| *length <= MESSAGE_BYTES) else {
        return Ok(None);
    };
    let Some(start) = end.checked_sub((length + 2 * LENGTH_BYTES) as u64) else {
        return Ok(None);
    };
    Ok((read_length(file, start, end)? == Some(length)).then_some(start))
}

fn read_length(file: &File, at: u64, size: u64) -> io::Result<Option<usize>> {
    let mut bytes = [0; LENGTH_BYTES];
    if at + LENGTH_BYTES as u64 > size {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, at)?;
    Ok(usize::try_from(u32::from_be_bytes(bytes)).ok())
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..at + LENGTH_BYTES)?.try_into().ok().map(u32::from_be_bytes)?;
    usize::try_from(length).ok()
}

/// A number field; proto3 leaves out zeros.
fn push_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3 | VARINT);
        push_varint(out, number);
    }
}

fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    // An empty message is written, an empty text is not; only pairs and metadata are messages, and those are never empty.
    if !bytes.is_empty() {
        out.push(field << 3 | BYTES);
        push_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A field's value; fixed-width ones are skipped.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Skipped,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The fields of a message; ends at the first that cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match u8::try_from(key & 7).ok()? {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => self.take(8).map(|_| Value::Skipped)?,
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED32 => self.take(4).map(|_| Value::Skipped)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Part;

    fn line<'a>(text: &'a [u8], whole: bool, part: Option<Part<'a>>) -> Line<'a> {
        Line { stream: Stream::Stderr, text, whole, time_ns: 1_700_000_000_000_000_001, part }
    }

    #[test]
    fn an_entry_has_dockers_bytes() {
        let mut out = Vec::new();
        push_entry(&mut out, &Line { stream: Stream::Stdout, text: b"hi", whole: true, time_ns: 300, part: None }, b"");
        let message = b"\x0a\x06stdout\x10\xac\x02\x1a\x02hi";
        let length = [0, 0, 0, u8::try_from(message.len()).expect("short")];
        assert_eq!(out, [&length[..], message, &length].concat());
    }

    #[test]
    fn entries_survive_the_way_there_and_back() {
        let attrs = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())];
        let part = Part { id: "feed", ordinal: 3 };
        let mut out = Vec::new();
        push_entry(&mut out, &line(b"whole", true, None), &encode_attrs(&attrs));
        push_entry(&mut out, &line(b"", true, None), b"");
        push_entry(&mut out, &line(b"part", false, Some(part)), b"");
        push_entry(&mut out, &line(b"end", true, Some(part)), b"");
        assert_eq!(whole(&out), (out.len(), 4));
        let (mut at, mut texts, mut found) = (0, Vec::new(), Vec::new());
        while let Next::Record { body, end } = next(&out[at..]) {
            let (mut text, mut raw) = (Vec::new(), Vec::new());
            let parsed = parse(&out[at..][body], &mut text, &mut raw).expect("an entry");
            assert_eq!((parsed.stream, parsed.time_ns), (Stream::Stderr, 1_700_000_000_000_000_001));
            texts.push(String::from_utf8(text).expect("text"));
            found.push((decode_attrs(&raw).len(), parsed.part.map(|part| (part.id, part.ordinal, part.last))));
            at += end;
        }
        assert_eq!(texts, ["whole\n", "\n", "part", "end\n"]);
        let part = |last| Some(("feed".to_owned(), 3, last));
        assert_eq!(found, [(2, None), (0, None), (0, part(false)), (0, part(true))]);
    }

    #[test]
    fn plugins_get_the_message_behind_its_length() {
        let mut out = Vec::new();
        super::super::push_for_plugin(&mut out, &line(b"text", true, None));
        assert_eq!(u32::from_be_bytes(*out.first_chunk().expect("length")) as usize, out.len() - 4);
        let read = super::super::read_from_plugin(&out[4..]).expect("a line");
        assert_eq!((read.line.as_slice(), read.is_stderr), (&b"text"[..], true));
        assert_eq!(super::super::read_from_plugin(b""), None);
    }

    #[test]
    fn what_is_no_entry_is_told_apart_from_what_is_not_all_there() {
        let mut out = Vec::new();
        push_entry(&mut out, &line(b"x", true, None), b"");
        assert_eq!(next(&out[..3]), Next::More);
        assert_eq!(next(&out[..out.len() - 1]), Next::More);
        let last = out.len() - 1;
        out[last] ^= 1;
        assert_eq!(next(&out), Next::Damaged);
        assert_eq!(next(b"{\"log\":"), Next::Damaged);
    }
}
