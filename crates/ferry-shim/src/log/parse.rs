//! One log line back into its parts.
//!
//! Lines of our own shape are cut by hand; whatever else is JSON with these fields goes through `serde_json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::time::parse_time;
use super::{Format, Stream};

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which output it came from.
    pub stream: Stream,
    /// Unix time in nanoseconds.
    pub time_ns: i64,
    /// The text; a part of a longer line has no newline at its end.
    pub line: &'a [u8],
    /// Which part of a longer line this is; json-file does not tell.
    pub part: Option<&'a PartOf>,
    pub(super) format: Format,
    pub(super) attrs: &'a [u8],
}

/// The place of an entry in a longer line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartOf {
    /// Common to all parts of the line.
    pub id: String,
    /// Counts the parts from 1.
    pub ordinal: u32,
    /// The line ends here.
    pub last: bool,
}

/// What [`Format::parse`] finds besides text and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) stream: Stream,
    pub(super) time_ns: i64,
    pub(super) part: Option<PartOf>,
}

impl Entry<'_> {
    /// Whether more of the same line follows in the next entry of the stream.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.line.last() != Some(&b'\n')
    }

    /// The extra attributes, sorted by name; empty when the log has none.
    #[must_use]
    pub fn attrs(&self) -> Vec<(String, String)> {
        if self.attrs.is_empty() { Vec::new() } else { self.format.decode_attrs(self.attrs) }
    }
}

pub(super) fn decode_attrs(attrs: &[u8]) -> Vec<(String, String)> {
    serde_json::from_slice::<BTreeMap<String, String>>(attrs)
        .map(|attrs| attrs.into_iter().collect())
        .unwrap_or_default()
}

/// Stream and time of a line without its newline; the text is put into `text`, the JSON of the attributes into `attrs`.
pub(super) fn parse(line: &[u8], text: &mut Vec<u8>, attrs: &mut Vec<u8>) -> Option<Parsed> {
    text.clear();
    attrs.clear();
    if let Some((stream, time_ns, raw_attrs)) = parse_own_shape(line, text) {
        attrs.extend_from_slice(raw_attrs);
        return Some(Parsed { stream, time_ns, part: None });
    }
    text.clear();
    // Power loss can leave a hole of zeros where a line was not yet on the disk.
    match memchr::memrchr(0, line) {
        Some(at) if at + 1 < line.len() => parse(&line[at + 1..], text, attrs),
        _ => parse_any_shape(line, text, attrs),
    }
}

/// The time alone, for skipping; reads no further than it must.
pub(super) fn time_of(line: &[u8]) -> Option<i64> {
    let inner = line.strip_suffix(b"\"}")?;
    let start = memchr::memrchr(b'"', inner)? + 1;
    inner[..start].ends_with(b",\"time\":\"").then(|| parse_time(&inner[start..]))?
}

fn parse_own_shape<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Option<(Stream, i64, &'a [u8])> {
    let time_ns = time_of(line)?;
    let rest = match line.strip_prefix(b"{\"log\":\"") {
        Some(rest) => unescape(rest, text)?.strip_prefix(b",\"stream\":\"")?,
        None => line.strip_prefix(b"{\"stream\":\"")?,
    };
    let (stream, rest) = match rest.strip_prefix(b"stdout\",") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"stderr\",")?),
    };
    if rest.starts_with(b"\"time\":\"") {
        return Some((stream, time_ns, b""));
    }
    let attrs = rest.strip_prefix(b"\"attrs\":")?;
    let end = memchr::memmem::rfind(attrs, b",\"time\":\"")?;
    Some((stream, time_ns, &attrs[..end]))
}

/// Appends the text up to the closing quote; returns what follows that.
fn unescape<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        text.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return Some(&rest[at + 1..]);
        }
        let (escape, after) = rest[at + 1..].split_first()?;
        rest = after;
        match escape {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'"' | b'\\' | b'/' => text.push(*escape),
            b'u' => rest = unescape_unicode(rest, text)?,
            _ => return None,
        }
    }
}

fn unescape_unicode<'a>(rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (mut rest, mut code) = (rest.get(4..)?, hex(rest)?);
    if (0xd800..0xdc00).contains(&code)
        && let Some(low) = rest.strip_prefix(b"\\u").and_then(hex)
        && (0xdc00..0xe000).contains(&low)
    {
        code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        rest = &rest[6..];
    }
    // A lone surrogate is no character.
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

#[derive(Deserialize)]
struct AnyShape {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn parse_any_shape(line: &[u8], text: &mut Vec<u8>, attrs: &mut Vec<u8>) -> Option<Parsed> {
    let any: AnyShape = serde_json::from_slice(line).ok()?;
    let stream = match any.stream.as_str() {
        "stderr" => Stream::Stderr,
        "stdout" | "" => Stream::Stdout,
        _ => return None,
    };
    let time_ns = parse_time(any.time.as_bytes())?;
    text.extend_from_slice(any.log.as_bytes());
    if !any.attrs.is_empty() {
        serde_json::to_writer(attrs, &any.attrs).ok()?;
    }
    Some(Parsed { stream, time_ns, part: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::encode::push_entry;

    fn parsed<'a>(line: &[u8], text: &'a mut Vec<u8>, attrs: &'a mut Vec<u8>) -> Option<Entry<'a>> {
        let Parsed { stream, time_ns, .. } = parse(line, text, attrs)?;
        Some(Entry { stream, time_ns, line: text, part: None, format: Format::JsonFile, attrs })
    }

    #[test]
    fn what_is_written_is_read() {
        let texts: [&[u8]; 6] =
            [b"", b"plain", b"\x00\x1b<&>\"\\\r\t\x08", "€ \u{2028} 😀".as_bytes(), b"\"}", b",\"time\":\"x\"}"];
        for text in texts {
            for whole in [true, false] {
                for attrs in [b"".as_slice(), br#"{"a":"}\",\"time\":\"b"}"#] {
                    let mut line = Vec::new();
                    push_entry(&mut line, Stream::Stderr, text, whole, attrs, 12_345_000_000_006);
                    let (mut first, mut second) = (Vec::new(), Vec::new());
                    let entry =
                        parsed(line.strip_suffix(b"\n").expect("newline"), &mut first, &mut second).expect("own shape");
                    assert_eq!(
                        (entry.stream, entry.time_ns, entry.is_partial()),
                        (Stream::Stderr, 12_345_000_000_006, !whole)
                    );
                    assert_eq!(entry.line.strip_suffix(b"\n").unwrap_or(entry.line), text);
                    assert_eq!(entry.attrs().len(), usize::from(!attrs.is_empty()));
                }
            }
        }
    }

    #[test]
    fn other_orders_and_blanks_are_read() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let line =
            br#"{ "time": "1970-01-01T00:00:01Z", "attrs": {"k": "v"}, "stream": "stdout", "log": "\ud83d\ude00\n" }"#;
        let entry = parsed(line, &mut first, &mut second).expect("json");
        assert_eq!((entry.line, entry.time_ns), ("😀\n".as_bytes(), 1_000_000_000));
        assert_eq!(entry.attrs(), [("k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn a_line_after_a_hole_is_read() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let line = b"\0\0\0{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}";
        assert_eq!(parsed(line, &mut first, &mut second).expect("line").line, b"x\n");
    }

    #[test]
    fn damaged_lines_are_refused() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for line in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"log":"x"#,
            r#"{"log":"x","stream":"stdout","time":"yesterday"}"#,
            "\u{0}\u{0}\u{0}",
        ] {
            assert_eq!(parsed(line.as_bytes(), &mut first, &mut second), None, "{line}");
        }
    }

    #[test]
    fn no_line_makes_it_panic() {
        let seeds: [&[u8]; 3] = [
            br#"{"log":"a\ud83d\ude00\u0000\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05.678Z"}"#,
            br#"{"stream":"stderr","time":"1970-01-01T00:00:00+01:00"}"#,
            b"\0\0{\"log\":\"\xff\",\"time\":\"",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..50_000 {
            let mut line = seeds[random(seeds.len())].to_vec();
            for _ in 0..=random(4) {
                let at = random(line.len());
                match random(4) {
                    0 => line.truncate(at.max(1)),
                    1 => line[at] = br#""\u{}:,0dDT"#[random(11)],
                    2 => line.insert(at, u8::try_from(random(256)).expect("a byte")),
                    _ => drop(line.remove(at)),
                }
                if line.is_empty() {
                    line.push(b'{');
                }
            }
            let _ = parse(&line, &mut first, &mut second);
        }
    }
}
