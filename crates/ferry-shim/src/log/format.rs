//! The two forms of a log file, behind one set of words, so that writing, rotating, reading and finding the tail are written once.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::parse::Parsed;
use super::{Line, encode, local, parse};

/// How the entries of a log file are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object per line: Docker's `json-file`.
    #[default]
    JsonFile,
    /// Length-prefixed protobuf messages: Docker's `local`, also the copy kept beside a remote driver.
    Local,
}

/// What comes next in a piece of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole record: its body, and where the next one begins.
    Record { body: Range<usize>, end: usize },
    /// It is not all there.
    More,
    /// No record can be found from here on.
    Damaged,
}

impl Format {
    /// Appends one entry; `attrs` come from [`Format::encode_attrs`].
    pub(super) fn push(self, out: &mut Vec<u8>, line: &Line<'_>, attrs: &[u8]) {
        match self {
            Self::JsonFile => encode::push_entry(out, line.stream, line.text, line.whole, attrs, line.time_ns),
            Self::Local => local::push_entry(out, line, attrs),
        }
    }

    /// What every entry repeats, ready to be copied.
    pub(super) fn encode_attrs(self, attrs: &[(String, String)]) -> Vec<u8> {
        match self {
            Self::JsonFile => encode::encode_attrs(attrs),
            Self::Local => local::encode_attrs(attrs),
        }
    }

    /// Finds the first record of `unread`, of which the first `searched` bytes are known to hold no end.
    pub(super) fn next(self, unread: &[u8], searched: usize) -> Next {
        match self {
            Self::JsonFile => match memchr::memchr(b'\n', &unread[searched..]) {
                Some(at) => Next::Record { body: 0..searched + at, end: searched + at + 1 },
                None => Next::More,
            },
            Self::Local => local::next(unread),
        }
    }

    /// Takes a record apart.
    pub(super) fn parse(self, record: &[u8], text: &mut Vec<u8>, attrs: &mut Vec<u8>) -> Option<Parsed> {
        match self {
            Self::JsonFile => parse::parse(record, text, attrs),
            Self::Local => local::parse(record, text, attrs),
        }
    }

    /// The time of a record alone, for skipping.
    pub(super) fn time_of(self, record: &[u8]) -> Option<i64> {
        match self {
            Self::JsonFile => parse::time_of(record),
            Self::Local => local::time_of(record),
        }
    }

    /// The attributes of a record, as [`Format::parse`] has put them aside.
    pub(super) fn decode_attrs(self, attrs: &[u8]) -> Vec<(String, String)> {
        match self {
            Self::JsonFile => parse::decode_attrs(attrs),
            Self::Local => local::decode_attrs(attrs),
        }
    }

    /// How many bytes of `records`, which begin with a record, are whole ones, and how many records these are.
    pub(super) fn whole(self, records: &[u8]) -> (usize, u64) {
        match self {
            Self::JsonFile => {
                let bytes = memchr::memrchr(b'\n', records).map_or(0, |at| at + 1);
                (bytes, memchr::memchr_iter(b'\n', &records[..bytes]).count() as u64)
            }
            Self::Local => local::whole(records),
        }
    }

    /// Brings the end of a file into a state in which a record may follow; returns its size then.
    pub(super) fn repair_end(self, file: &File, size: u64) -> io::Result<u64> {
        match self {
            Self::JsonFile => encode::repair_end(file, size),
            Self::Local => local::repair_end(file, size),
        }
    }
}
