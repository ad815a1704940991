//! Writing of headers: ustar where it holds what there is to say, PAX records in front of it where it does not.

use super::{BLOCK, Entry, Kind, padding};

/// What ends an archive.
pub const END: [u8; 1024] = [0; 1024];

/// The largest number that an octal field of eight bytes holds.
const SMALL: u64 = 0o777_7777;
/// The largest number that an octal field of twelve bytes holds.
const LARGE: u64 = 0o777_7777_7777;

/// Returns the header of an entry, whose data follows with its padding.
#[must_use]
pub fn header(entry: &Entry) -> Vec<u8> {
    let records = records(entry);
    let mut bytes = Vec::with_capacity(512);
    if !records.is_empty() {
        let name = [b"PaxHeaders.0/", &entry.path[entry.path.len().saturating_sub(60)..]].concat();
        let carrier = Entry { size: records.len() as u64, ..Entry::new(Kind::File, name, 0) };
        bytes.extend_from_slice(&block(&carrier, b'x'));
        bytes.extend_from_slice(&records);
        let pad = usize::try_from(padding(records.len() as u64)).unwrap_or(0);
        bytes.resize(bytes.len() + pad, 0);
    }
    bytes.extend_from_slice(&block(entry, flag(entry.kind)));
    bytes
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Folder => b'5',
        Kind::Fifo => b'6',
    }
}

fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
    if entry.path.len() > 100 || !entry.path.is_ascii() {
        add(b"path", &entry.path);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        add(b"linkpath", &entry.link);
    }
    for (key, number, most) in
        [(&b"size"[..], entry.size, LARGE), (b"uid", entry.uid.into(), SMALL), (b"gid", entry.gid.into(), SMALL)]
    {
        if number > most {
            add(key, number.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || u64::try_from(seconds).is_err() {
        add(b"mtime", time(seconds, nanoseconds).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

fn time(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        let text = format!("{seconds}.{nanoseconds:09}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    // The fraction counts away from zero, like the rest of the number.
    let text = format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds);
    text.trim_end_matches('0').to_owned()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn block(entry: &Entry, flag: u8) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    put(&mut block[..100], &entry.path);
    octal(&mut block[100..108], entry.mode.into(), SMALL);
    octal(&mut block[108..116], entry.uid.into(), SMALL);
    octal(&mut block[116..124], entry.gid.into(), SMALL);
    octal(&mut block[124..136], entry.size, LARGE);
    octal(&mut block[136..148], u64::try_from(entry.mtime.0).unwrap_or(0), LARGE);
    block[156] = flag;
    put(&mut block[157..257], &entry.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], entry.device.0.into(), SMALL);
    octal(&mut block[337..345], entry.device.1.into(), SMALL);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// What does not fit is in a record, which readers take before this.
fn put(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn octal(field: &mut [u8], number: u64, most: u64) {
    let number = if number > most { 0 } else { number };
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
}
