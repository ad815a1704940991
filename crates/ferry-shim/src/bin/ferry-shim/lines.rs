//! A byte stream cut into log lines.
//!
//! As Docker does it: a line longer than 16 KiB is cut into parts of just that, all with the time of the first; at the end of the
//! stream a line without a newline is a part too.

use ferry_shim::log::{PART_BYTES, Part};
use rustix::rand::{GetRandomFlags, getrandom};

/// One piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a [u8],
    /// The line ends here.
    pub(crate) whole: bool,
    pub(crate) time_ns: i64,
    /// The line has more pieces than this, or no newline.
    pub(crate) part: Option<Part<'a>>,
}

/// Cuts one stream.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    begun: Vec<u8>,
    parts: Option<Parts>,
}

/// A line of which a part is out already.
#[derive(Debug)]
struct Parts {
    id: String,
    emitted: u32,
    time_ns: i64,
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
            if self.begun.is_empty() {
                self.emit(&window[..length], whole, &now, &mut emit);
            } else {
                let mut begun = std::mem::take(&mut self.begun);
                begun.extend_from_slice(&window[..length]);
                self.emit(&begun, whole, &now, &mut emit);
            }
            bytes = &bytes[length + usize::from(whole)..];
        }
    }

    /// The stream has ended.
    pub(crate) fn finish(&mut self, now: impl Fn() -> i64, mut emit: impl FnMut(Piece<'_>)) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            self.emit(&begun, false, now, &mut emit);
        }
        self.parts = None;
    }

    fn emit(&mut self, text: &[u8], whole: bool, now: impl Fn() -> i64, emit: &mut impl FnMut(Piece<'_>)) {
        if whole && self.parts.is_none() {
            return emit(Piece { text, whole, time_ns: now(), part: None });
        }
        let parts = self.parts.get_or_insert_with(|| Parts { id: random_id(), emitted: 0, time_ns: now() });
        parts.emitted += 1;
        let part = Some(Part { id: &parts.id, ordinal: parts.emitted });
        emit(Piece { text, whole, time_ns: parts.time_ns, part });
        if whole {
            self.parts = None;
        }
    }
}

/// 64 hex digits, by which the parts of a line are put together again.
fn random_id() -> String {
    let mut bytes = [0_u8; 32];
    // An id of zeros joins lines only if the kernel has no random numbers, and never two of one stream at a time.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn parts_are_counted_and_share_an_id() {
        let mut cutter = LineCutter::default();
        let mut parts = Vec::new();
        let mut note = |piece: Piece<'_>| parts.push(piece.part.map(|part| (part.id.to_owned(), part.ordinal)));
        cutter.feed(&[b'x'; 2 * PART_BYTES + 1], || 0, &mut note);
        cutter.feed(b"\nwhole\nlast", || 0, &mut note);
        cutter.finish(|| 0, &mut note);
        let numbers: Vec<u32> = parts.iter().flatten().map(|(_, ordinal)| *ordinal).collect();
        assert_eq!((numbers, parts.len()), (vec![1, 2, 3, 1], 5));
        let id = |at: usize| parts[at].as_ref().map(|(id, _)| id.clone());
        assert!(id(0).is_some_and(|id| id.len() == 64) && id(0) == id(2) && id(3).is_none() && id(4) != id(0));
    }

    #[test]
    fn a_line_of_just_one_part_ends_with_an_empty_piece() {
        let mut line = vec![b'x'; PART_BYTES];
        line.push(b'\n');
        assert_eq!(cut(&[&line]), [(PART_BYTES, false, 0), (0, true, 0)]);
    }
}
