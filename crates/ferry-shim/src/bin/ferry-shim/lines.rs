//! A byte stream cut into log lines.
//!
//! As Docker does it: a line longer than 16 KiB is cut into parts of just that, all with the time of the first; at the end of the
//! stream a line without a newline is a part too.

use ferry_shim::log::PART_BYTES;

/// One piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a [u8],
    /// The line ends here.
    pub(crate) whole: bool,
    pub(crate) time_ns: i64,
}

/// Cuts one stream.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    begun: Vec<u8>,
    part_time: Option<i64>,
}

impl LineCutter {
    /// Takes bytes as they came and emits the pieces that are complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: impl Fn() -> i64, mut emit: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = PART_BYTES - self.begun.len();
            let window = &bytes[..bytes.len().min(room)];
            let (length, whole) = match memchr::memchr(b'\n', window) {
                Some(at) => (at, true),
                None if window.len() == room => (room, false),
                None => {
                    self.begun.extend_from_slice(window);
                    return;
                }
            };
            let time_ns = if whole {
                self.part_time.take().unwrap_or_else(&now)
            } else {
                *self.part_time.get_or_insert_with(&now)
            };
            if self.begun.is_empty() {
                emit(Piece { text: &window[..length], whole, time_ns });
            } else {
                self.begun.extend_from_slice(&window[..length]);
                emit(Piece { text: &self.begun, whole, time_ns });
                self.begun = Vec::new();
            }
            bytes = &bytes[length + usize::from(whole)..];
        }
    }

    /// The stream has ended.
    pub(crate) fn finish(&mut self, now: impl Fn() -> i64, mut emit: impl FnMut(Piece<'_>)) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            emit(Piece { text: &begun, whole: false, time_ns: self.part_time.unwrap_or_else(now) });
        }
        self.part_time = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Length, wholeness and time of each piece.
    fn cut(chunks: &[&[u8]]) -> Vec<(usize, bool, i64)> {
        let mut cutter = LineCutter::default();
        let clock = Cell::new(0);
        let now = || clock.replace(clock.get() + 1);
        let mut pieces = Vec::new();
        for chunk in chunks {
            cutter.feed(chunk, now, |piece| pieces.push((piece.text.len(), piece.whole, piece.time_ns)));
        }
        cutter.finish(now, |piece| pieces.push((piece.text.len(), piece.whole, piece.time_ns)));
        pieces
    }

    #[test]
    fn lines_are_cut_whatever_the_chunks() {
        assert_eq!(cut(&[b"a\nbb\n\nccc"]), [(1, true, 0), (2, true, 1), (0, true, 2), (3, false, 3)]);
        assert_eq!(cut(&[b"a", b"\nb", b"b\n\ncc", b"c"]), [(1, true, 0), (2, true, 1), (0, true, 2), (3, false, 3)]);
        assert!(cut(&[]).is_empty());
    }

    #[test]
    fn long_lines_are_cut_in_parts_of_one_time() {
        let mut long = vec![b'x'; 2 * PART_BYTES + 5];
        long.extend_from_slice(b"\nnext\n");
        let expected = [(PART_BYTES, false, 0), (PART_BYTES, false, 0), (5, true, 0), (4, true, 1)];
        assert_eq!(cut(&[&long]), expected);
        let chunks: Vec<&[u8]> = long.chunks(1000).collect();
        assert_eq!(cut(&chunks), expected);
    }

    #[test]
    fn a_line_of_just_one_part_ends_with_an_empty_piece() {
        let mut line = vec![b'x'; PART_BYTES];
        line.push(b'\n');
        assert_eq!(cut(&[&line]), [(PART_BYTES, false, 0), (0, true, 0)]);
    }
}
