//! Keys out of the bytes that a terminal sends.

/// What a key means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Top,
    Bottom,
    /// The other half of the screen.
    Switch,
    /// Opens or closes a folder.
    Toggle,
    Quit,
}

/// Reads what was typed; what has no meaning is left out.
pub(super) fn read(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, used) = next(rest);
        keys.extend(key);
        rest = &rest[used..];
    }
    keys
}

fn next(bytes: &[u8]) -> (Option<Key>, usize) {
    let key = match bytes {
        [0x1b, b'[' | b'O', b'A', ..] => return (Some(Key::Up), 3),
        [0x1b, b'[' | b'O', b'B', ..] => return (Some(Key::Down), 3),
        [0x1b, b'[' | b'O', b'C' | b'D', ..] => return (Some(Key::Switch), 3),
        [0x1b, b'[' | b'O', b'H', ..] => return (Some(Key::Top), 3),
        [0x1b, b'[' | b'O', b'F', ..] => return (Some(Key::Bottom), 3),
        [0x1b, b'[', b'5', b'~', ..] => return (Some(Key::PageUp), 4),
        [0x1b, b'[', b'6', b'~', ..] => return (Some(Key::PageDown), 4),
        // Another sequence: up to its last letter.
        [0x1b, b'[', more @ ..] => {
            let end = more.iter().position(u8::is_ascii_alphabetic).map_or(more.len(), |at| at + 1);
            return (None, 2 + end);
        }
        [b'k', ..] => Key::Up,
        [b'j', ..] => Key::Down,
        [b'g', ..] => Key::Top,
        [b'G', ..] => Key::Bottom,
        [b'\t', ..] => Key::Switch,
        [b'\r' | b'\n' | b' ', ..] => Key::Toggle,
        // Escape alone, and Ctrl-C and Ctrl-D, which raw mode hands over.
        [b'q' | 0x1b | 0x03 | 0x04, ..] => Key::Quit,
        _ => return (None, 1),
    };
    (Some(key), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_pieces() {
        assert_eq!(read(b"\x1b[A\x1b[Bjk\t\r"), [Key::Up, Key::Down, Key::Down, Key::Up, Key::Switch, Key::Toggle]);
        assert_eq!(read(b"\x1b[6~\x1b[1;5Cx\x03"), [Key::PageDown, Key::Quit]);
        assert_eq!(read(b"\x1b"), [Key::Quit]);
    }
}
