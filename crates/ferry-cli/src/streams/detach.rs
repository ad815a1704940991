//! Recognises the keys that detach.

/// The keys when nothing else is said: ctrl-p ctrl-q.
const DEFAULT: &[u8] = &[16, 17];

/// Finds a key sequence in input that comes in pieces.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// Reads a sequence such as `ctrl-p,ctrl-q` or `a,ctrl-@`.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',').map(key).collect()
}

fn key(name: &str) -> Result<u8, String> {
    let unknown = || format!("Unknown character: '{name}'");
    if let [byte] = name.as_bytes() {
        return Ok(*byte);
    }
    let Some(control) = name.strip_prefix("ctrl-") else { return Err(unknown()) };
    match control.as_bytes() {
        [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
        [b'@'] => Ok(0),
        [b'['] => Ok(27),
        [b'\\'] => Ok(28),
        [b']'] => Ok(29),
        [b'^'] => Ok(30),
        [b'_'] => Ok(31),
        [b'?'] => Ok(127),
        _ => Err(unknown()),
    }
}

impl DetachKeys {
    /// Looks for these keys, or the default ones.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let keys = if text.is_empty() { DEFAULT.to_vec() } else { parse(text)? };
        Ok(Self { keys, matched: 0 })
    }

    /// Takes input and returns what goes on to the container, and whether the sequence is complete.
    ///
    /// A prefix of the sequence is held back until it is known to be none.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len());
        for byte in input {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if *byte == self.keys[0] {
                self.matched = 1;
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_sequence_over_pieces() {
        let mut keys = DetachKeys::new("").unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn custom_sequences() {
        assert_eq!(parse("ctrl-a,x,ctrl-@"), Ok(vec![1, b'x', 0]));
        assert_eq!(parse("nope"), Err("Unknown character: 'nope'".to_owned()));
    }
}
