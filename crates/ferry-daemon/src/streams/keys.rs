//! The key sequence that detaches a terminal.

use std::borrow::Cow;

/// A sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` and the like; nothing is just that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(vec![16, 17]));
        }
        text.split(',').map(key).collect::<Option<_>>().map(Self)
    }
}

impl DetachKeys {
    /// Returns the bytes that the keys send.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn key(name: &str) -> Option<u8> {
    if let [only] = name.as_bytes() {
        return Some(*only);
    }
    match name.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(letter & 0x1f),
        _ => (name == "DEL").then_some(127),
    }
}

/// Watches what is typed. A beginning of the sequence is held back until it is clear what becomes of it.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    keys: Vec<u8>,
    matched: usize,
}

impl KeyWatch {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// Returns what is to be passed on, and whether the sequence is complete.
    pub(crate) fn pass<'typed>(&mut self, typed: &'typed [u8]) -> (Cow<'typed, [u8]>, bool) {
        if self.keys.is_empty() || (self.matched == 0 && !typed.contains(&self.keys[0])) {
            return (Cow::Borrowed(typed), false);
        }
        let mut passed = Vec::with_capacity(typed.len() + self.matched);
        for byte in typed {
            if *byte != self.keys[self.matched] && self.matched > 0 {
                // Not the sequence after all; this key may begin it anew.
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte != self.keys[self.matched] {
                passed.push(*byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return (Cow::Owned(passed), true);
            }
        }
        (Cow::Owned(passed), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = KeyWatch::new(DetachKeys::parse(keys).unwrap());
        let mut passed = Vec::new();
        for part in parts {
            let (bytes, detached) = watch.pass(part);
            passed.extend_from_slice(&bytes);
            if detached {
                return (passed, true);
            }
        }
        (passed, false)
    }

    #[test]
    fn keys_are_docker_s() {
        assert_eq!(DetachKeys::parse("").unwrap().0, [16, 17]);
        assert_eq!(DetachKeys::parse("ctrl-@,a,ctrl-_,DEL,ctrl-\\").unwrap().0, [0, b'a', 31, 127, 28]);
        assert!(
            DetachKeys::parse("ctrl-A").is_none()
                && DetachKeys::parse("xy").is_none()
                && DetachKeys::parse("a,,b").is_none()
        );
    }

    #[test]
    fn the_sequence_detaches_however_it_arrives() {
        assert_eq!(typed("", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(typed("", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(typed("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn other_keys_pass_unchanged() {
        assert_eq!(typed("", &[b"\x10a\x11\x10", b"b"]), (b"\x10a\x11\x10b".to_vec(), false));
        assert_eq!(typed("a,b,c", &[b"ab", b"x", b"abab"]), (b"abxab".to_vec(), false));
        assert_eq!(typed("", &[b"plain"]), (b"plain".to_vec(), false));
    }
}
