//! One log line as bytes, to the byte as Docker's json-file driver writes it.
//!
//! Go's rules: `<`, `>`, `&` and control characters are `\u00xx` (only `\n` and `\r` have a short form), U+2028 and U+2029 are escaped,
//! and every byte that is not part of valid UTF-8 becomes `\ufffd`, one each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::Stream;
use super::time::push_time;

/// Largest part of a line in one entry.
pub const PART_BYTES: usize = 16 * 1024;

/// Appends an entry; `whole` ends the text with a newline.
pub(super) fn push_entry(out: &mut Vec<u8>, stream: Stream, text: &[u8], whole: bool, attrs: &[u8], time_ns: i64) {
    // Docker leaves the field out when there is nothing in it, which only a part without a newline can be.
    if text.is_empty() && !whole {
        out.push(b'{');
    } else {
        out.extend_from_slice(b"{\"log\":\"");
        push_escaped(out, text);
        if whole {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",");
    if !attrs.is_empty() {
        out.extend_from_slice(b"\"attrs\":");
        out.extend_from_slice(attrs);
        out.push(b',');
    }
    out.extend_from_slice(b"\"time\":\"");
    push_time(out, time_ns);
    out.extend_from_slice(b"\"}\n");
}

/// Ends a line that was cut by a crash, so that it costs itself only, not the next one too.
pub(super) fn repair_end(mut file: &File, size: u64) -> io::Result<u64> {
    let mut last = [0];
    if size == 0 || file.read_at(&mut last, size - 1)? != 1 || last == *b"\n" {
        return Ok(size);
    }
    Ok(size + u64::try_from(file.write(b"\n").unwrap_or(0)).unwrap_or(0))
}

/// The value of `attrs`: a JSON object with sorted keys, empty when there are none.
pub(super) fn encode_attrs(attrs: &[(String, String)]) -> Vec<u8> {
    let sorted: BTreeMap<&str, &str> = attrs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut out = Vec::new();
    for (name, value) in sorted {
        out.push(if out.is_empty() { b'{' } else { b',' });
        push_quoted(&mut out, name);
        out.push(b':');
        push_quoted(&mut out, value);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// A string as Go's `encoding/json` writes it: as in the log text, but with short forms for backspace, form feed and tab.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for part in text.split_inclusive(['\u{8}', '\u{c}', '\t']) {
        let (plain, short) = match part.as_bytes().last() {
            Some(b'\x08') => (&part[..part.len() - 1], "\\b"),
            Some(b'\x0c') => (&part[..part.len() - 1], "\\f"),
            Some(b'\t') => (&part[..part.len() - 1], "\\t"),
            _ => (part, ""),
        };
        push_escaped(out, plain.as_bytes());
        out.extend_from_slice(short.as_bytes());
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        push_valid(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn push_valid(out: &mut Vec<u8>, text: &[u8]) {
    let mut start = 0;
    let mut at = 0;
    while let Some(offset) = text[at..].iter().position(|byte| NOTABLE[usize::from(*byte)]) {
        at += offset;
        let byte = text[at];
        if byte == 0xe2 {
            // Most characters that begin with this byte are plain; U+2028 and U+2029 are not.
            if let [_, 0x80, last @ (0xa8 | 0xa9), ..] = text[at..] {
                out.extend_from_slice(&text[start..at]);
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(last & 0xf)]);
                start = at + 3;
            }
            at += 3;
            continue;
        }
        out.extend_from_slice(&text[start..at]);
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 0xf)],
            ]),
        }
        at += 1;
        start = at;
    }
    out.extend_from_slice(&text[start..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that may need an escape.
const NOTABLE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xe2] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, text);
        String::from_utf8(out).expect("escapes are text")
    }

    #[test]
    fn text_is_escaped_as_go_does() {
        let cases: [(&[u8], &str); 14] = [
            (b"", ""),
            (b"plain text 123", "plain text 123"),
            (b"quote \" and \\", "quote \\\" and \\\\"),
            (b"a\tb\x08\x0c\x00\x1b[0m\r\n", "a\\u0009b\\u0008\\u000c\\u0000\\u001b[0m\\r\\n"),
            (b"<a href='x'>&</a>", "\\u003ca href='x'\\u003e\\u0026\\u003c/a\\u003e"),
            ("größe € 😀".as_bytes(), "größe € 😀"),
            ("a\u{2028}b\u{2029}c\u{2027}".as_bytes(), "a\\u2028b\\u2029c\u{2027}"),
            (b"\xff", "\\ufffd"),
            (b"a\xe2\x82b", "a\\ufffd\\ufffdb"),
            (b"\xe2\x82", "\\ufffd\\ufffd"),
            (b"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"),
            (b"\xf0\x9f\x98", "\\ufffd\\ufffd\\ufffd"),
            (b"\xc0\xaf.\x80", "\\ufffd\\ufffd.\\ufffd"),
            ("\u{fffd}\x7f".as_bytes(), "\u{fffd}\x7f"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_entry_has_dockers_shape() {
        let mut out = Vec::new();
        push_entry(&mut out, Stream::Stdout, b"hello", true, b"", 1_767_323_045_000_000_000);
        push_entry(&mut out, Stream::Stderr, b"part", false, b"{\"a\":\"b\"}", 1);
        push_entry(&mut out, Stream::Stdout, b"", true, b"", 0);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            concat!(
                "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n",
                "{\"log\":\"part\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"b\"},\"time\":\"1970-01-01T00:00:00.000000001Z\"}\n",
                "{\"log\":\"\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n",
            )
        );
    }

    #[test]
    fn attrs_are_sorted_and_escaped() {
        let attrs = [("tag".to_owned(), "a<b\t".to_owned()), ("env".to_owned(), "\"x\"".to_owned())];
        assert_eq!(String::from_utf8(encode_attrs(&attrs)).expect("text"), r#"{"env":"\"x\"","tag":"a\u003cb\t"}"#);
        assert!(encode_attrs(&[]).is_empty());
    }
}
