//! `fsutil.types`: trees of files on their way from one end to the other.
//!
//! The sender walks its tree and sends a `Stat` packet for each entry, numbered from zero in that order; one without a stat is the end.
//! The receiver asks for the content of files by number; it comes in `Data` packets, an empty one is its end. `Fin` goes back and forth.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stat {
    #[prost(string, tag = "1")]
    pub path: String,
    /// As Go's `os.FileMode`.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    #[prost(int64, tag = "5")]
    pub size: i64,
    #[prost(int64, tag = "6")]
    pub mod_time: i64,
    #[prost(string, tag = "7")]
    pub linkname: String,
    #[prost(int64, tag = "8")]
    pub devmajor: i64,
    #[prost(int64, tag = "9")]
    pub devminor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PacketType {
    Stat = 0,
    Req = 1,
    Data = 2,
    Fin = 3,
    Err = 4,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Packet {
    #[prost(enumeration = "PacketType", tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    pub id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: bytes::Bytes,
}

impl Packet {
    /// A packet with nothing in it.
    #[must_use]
    pub fn of(kind: PacketType) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

/// Bits of Go's `os.FileMode`.
pub mod mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const NAMED_PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;
    /// All that make an entry something else than a regular file.
    pub const KIND: u32 = DIRECTORY | SYMLINK | DEVICE | NAMED_PIPE | SOCKET | CHAR_DEVICE | IRREGULAR;

    /// The twelve bits of permissions that a mode stands for.
    #[must_use]
    pub fn permissions(mode: u32) -> u32 {
        let bit = |go: u32, unix: u32| if mode & go == 0 { 0 } else { unix };
        (mode & 0o777) | bit(SETUID, 0o4000) | bit(SETGID, 0o2000) | bit(STICKY, 0o1000)
    }

    /// The mode that twelve bits of permissions stand for.
    #[must_use]
    pub fn of_permissions(bits: u32) -> u32 {
        let bit = |unix: u32, go: u32| if bits & unix == 0 { 0 } else { go };
        (bits & 0o777) | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY)
    }
}

#[cfg(test)]
mod tests {
    use super::mode;

    #[test]
    fn modes_are_those_of_go() {
        for (unix, go) in [(0o644, 0o644), (0o4755, mode::SETUID | 0o755), (0o1777, mode::STICKY | 0o777)] {
            assert_eq!(mode::of_permissions(unix), go);
            assert_eq!(mode::permissions(go | mode::DIRECTORY), unix);
        }
    }
}
