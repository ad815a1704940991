//! The few forms of MessagePack that the forward protocol needs.

/// Appends the header of an array of that length.
pub(crate) fn push_array(out: &mut Vec<u8>, length: u8) {
    out.push(0x90 | length);
}

/// Appends the header of a map with that many pairs.
pub(crate) fn push_map(out: &mut Vec<u8>, pairs: usize) {
    match u16::try_from(pairs) {
        Ok(few @ 0..16) => out.push(0x80 | few.to_le_bytes()[0]),
        Ok(pairs) => {
            out.push(0xde);
            out.extend_from_slice(&pairs.to_be_bytes());
        }
        Err(_) => {
            out.push(0xdf);
            out.extend_from_slice(&u32::try_from(pairs).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// Appends a text.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).expect("a text has at most 16 KiB").to_be_bytes();
    match text.len() {
        0..32 => out.push(0xa0 | length[3]),
        32..256 => out.extend_from_slice(&[0xd9, length[3]]),
        256..65_536 => out.extend_from_slice(&[0xda, length[2], length[3]]),
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&length);
        }
    }
    out.extend_from_slice(text);
}

/// Appends a time in whole seconds.
pub(crate) fn push_seconds(out: &mut Vec<u8>, seconds: i64) {
    out.push(0xd3);
    out.extend_from_slice(&seconds.to_be_bytes());
}

/// Appends fluentd's `EventTime`: extension 0 with seconds and nanoseconds.
pub(crate) fn push_event_time(out: &mut Vec<u8>, time_ns: i64) {
    let seconds = u32::try_from(time_ns.div_euclid(1_000_000_000)).unwrap_or(u32::MAX);
    let nanos = u32::try_from(time_ns.rem_euclid(1_000_000_000)).expect("below 10^9");
    out.extend_from_slice(&[0xd7, 0]);
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

/// Reads the value of `ack` in a map of texts; `None` while the map is not all there.
pub(crate) fn read_ack(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, mut rest) = bytes.split_first()?;
    let pairs = first & 0x0f;
    let mut ack = None;
    for _ in 0..pairs {
        let (key, after) = read_text(rest)?;
        let (value, after) = read_text(after)?;
        if key == b"ack" {
            ack = Some(value.to_vec());
        }
        rest = after;
    }
    Some(ack.unwrap_or_default())
}

fn read_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = match first {
        0xa0..=0xbf => (usize::from(first & 0x1f), rest),
        0xd9 | 0xc4 => (usize::from(*rest.first()?), &rest[1..]),
        0xda | 0xc5 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return Some((b"", b"")),
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_bytes() {
        let mut out = Vec::new();
        push_array(&mut out, 4);
        push_text(&mut out, b"a");
        push_event_time(&mut out, 1_000_000_002);
        push_map(&mut out, 1);
        assert_eq!(out, b"\x94\xa1a\xd7\x00\x00\x00\x00\x01\x00\x00\x00\x02\x81");
        for (length, header) in [(31, &[0xbf][..]), (32, &[0xd9, 32]), (300, &[0xda, 1, 44])] {
            let mut out = Vec::new();
            push_text(&mut out, &vec![b'x'; length]);
            assert_eq!(out[..header.len()], *header);
            assert_eq!(read_text(&out), Some((&vec![b'x'; length][..], &b""[..])));
        }
    }

    #[test]
    fn an_ack_is_read_once_it_is_whole() {
        let answer = b"\x81\xa3ack\xa4abcd";
        for end in 0..answer.len() {
            assert_eq!(read_ack(&answer[..end]), None, "{end}");
        }
        assert_eq!(read_ack(answer), Some(b"abcd".to_vec()));
    }
}
