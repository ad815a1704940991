//! Reading of headers, as Go's reader understands them.

use std::borrow::Cow;

use super::{BLOCK, Entry, Kind, Piece, ReadError, Source, padding};

/// Pieces of one sparse file.
const MAX_PIECES: usize = 1 << 20;

/// What extended headers say about the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseKeys,
}

#[derive(Default)]
struct SparseKeys {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Option<Vec<u64>>,
    /// Offsets and lengths in turn, format 0.0.
    list: Vec<u64>,
}

/// Reads the next header; `None` at the end of the archive.
pub fn next_entry<S: Source>(stream: &mut S) -> Result<Option<Entry>, S::Error> {
    let mut extended = Extended::default();
    loop {
        let Some(block) = stream.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            // One zero block is a pad, two are the end; what follows them is only hashed.
            match stream.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    return Err(ReadError::Header("a lone zero block").into());
                }
                _ => return Ok(None),
            }
        }
        check_sum(&block)?;
        let size = number(&block[124..136])?;
        match block[156] {
            b'x' => {
                let bytes = read_header_data(stream, size)?;
                extended.read_pax(&bytes)?;
            }
            // Go's reader hands global headers out, and Docker passes over them.
            b'g' => {
                read_header_data(stream, size)?;
            }
            b'L' => extended.path = Some(until_nul(&read_header_data(stream, size)?).to_vec()),
            b'K' => extended.link = Some(until_nul(&read_header_data(stream, size)?).to_vec()),
            // A volume label.
            b'V' => stream.skip(padded(size)?)?,
            flag => return entry(stream, &block, flag, size, extended).map(Some),
        }
    }
}

/// Passes over the padding behind an entry's data.
pub fn skip_padding<S: Source>(stream: &mut S, stored_bytes: u64) -> Result<(), S::Error> {
    stream.skip(padding(stored_bytes))
}

fn entry<S: Source>(
    stream: &mut S,
    block: &[u8; 512],
    flag: u8,
    size: u64,
    extended: Extended,
) -> Result<Entry, S::Error> {
    let path = extended.path.clone().unwrap_or_else(|| header_path(block));
    let kind = match flag {
        // Before POSIX a trailing slash made a folder.
        0 if path.ends_with(b"/") => Kind::Folder,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Folder,
        b'6' => Kind::Fifo,
        _ => return Err(ReadError::Header("an entry of unknown type").into()),
    };
    let stored = extended.size.unwrap_or(size);
    // Some writers put a size on entries that have no data; Go's reader takes it for none.
    let stored_bytes = if kind == Kind::File { stored } else { 0 };
    let mut entry = Entry {
        kind,
        path,
        link: extended.link.clone().unwrap_or_else(|| until_nul(&block[157..257]).to_vec()),
        mode: to_u32(number(&block[100..108])?)? & 0o7777,
        uid: to_id(extended.uid.map_or_else(|| number(&block[108..116]), Ok)?)?,
        gid: to_id(extended.gid.map_or_else(|| number(&block[116..124]), Ok)?)?,
        mtime: extended.mtime.map_or_else(|| signed_number(&block[136..148]).map(|s| (s, 0)), Ok)?,
        device: (0, 0),
        xattrs: Vec::new(),
        size: stored_bytes,
        stored_bytes,
        sparse: None,
    };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.device = (to_u32(number(&block[329..337])?)?, to_u32(number(&block[337..345])?)?);
    }
    if flag == b'S' {
        read_gnu_sparse(stream, block, &mut entry)?;
    } else if kind == Kind::File {
        read_pax_sparse(stream, &extended.sparse, &mut entry)?;
    }
    entry.xattrs = extended.xattrs;
    if let Some(pieces) = &entry.sparse {
        check_pieces(pieces, &entry)?;
    }
    if entry.size > stream.file_limit() {
        return Err(ReadError::Limit { what: "bytes of one file", limit: stream.file_limit() }.into());
    }
    Ok(entry)
}

fn header_path(block: &[u8; 512]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { b"" };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn check_sum(block: &[u8; 512]) -> Result<(), ReadError> {
    let claimed = number(&block[148..156])?;
    let outside = block[..148].iter().chain(&block[156..]);
    let unsigned: u64 = outside.clone().map(|byte| u64::from(*byte)).sum::<u64>() + 8 * 32;
    // Old writers summed signed characters.
    let signed: i64 = outside.map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + 8 * 32;
    if claimed == unsigned || i64::try_from(claimed).is_ok_and(|claimed| claimed == signed) {
        return Ok(());
    }
    Err(ReadError::Header("a header whose checksum is wrong"))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn signed_number(field: &[u8]) -> Result<i64, ReadError> {
    const BAD: ReadError = ReadError::Header("a number that is none");
    if field[0] & 0x80 == 0 {
        let text: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, 0 | b' ')).collect();
        if text.is_empty() {
            return Ok(0);
        }
        let text = std::str::from_utf8(&text).map_err(|_| BAD)?;
        return i64::from_str_radix(text, 8).map_err(|_| BAD);
    }
    // Base 256: the sign is the bit below the mark, the rest is big-endian two's complement.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| BAD)
}

fn number(field: &[u8]) -> Result<u64, ReadError> {
    u64::try_from(signed_number(field)?).map_err(|_| ReadError::Header("a negative number"))
}

fn to_u32(value: u64) -> Result<u32, ReadError> {
    u32::try_from(value).map_err(|_| ReadError::Header("a number out of range"))
}

/// Ids that do not fit, or are the one that chown takes for "leave as is", are refused.
fn to_id(value: u64) -> Result<u32, ReadError> {
    to_u32(value).ok().filter(|id| *id != u32::MAX).ok_or(ReadError::Header("an owner out of range"))
}

fn padded(size: u64) -> Result<u64, ReadError> {
    size.checked_next_multiple_of(BLOCK).ok_or(ReadError::Header("a size out of range"))
}

fn read_header_data<S: Source>(stream: &mut S, size: u64) -> Result<Vec<u8>, S::Error> {
    let limit = stream.header_limit();
    if size > limit {
        return Err(ReadError::Limit { what: "bytes of one extended header", limit }.into());
    }
    let bytes = stream.read_vec(usize::try_from(size).map_err(|_| ReadError::Truncated)?)?;
    skip_padding(stream, size)?;
    Ok(bytes)
}

impl Extended {
    fn read_pax(&mut self, mut bytes: &[u8]) -> Result<(), ReadError> {
        const BAD: ReadError = ReadError::Header("a malformed extended header");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length: usize =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or(BAD)?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            self.take_pax(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn take_pax(&mut self, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
        // An empty value takes back what a global header said, and those are passed over.
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(without_nul(value)?),
            b"linkpath" => self.link = Some(without_nul(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(decimal_time(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(without_nul(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(decimal(value)?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                self.sparse.map = Some(numbers.collect::<Result<_, _>>()?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.list.push(decimal(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((without_nul(name)?, value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn without_nul(value: &[u8]) -> Result<Vec<u8>, ReadError> {
    if value.contains(&0) {
        return Err(ReadError::Header("a NUL in a name"));
    }
    Ok(value.to_vec())
}

fn decimal(text: &[u8]) -> Result<u64, ReadError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ReadError::Header("a malformed extended header"))
}

/// `seconds[.fraction]`, possibly negative.
fn decimal_time(text: &[u8]) -> Result<(i64, u32), ReadError> {
    const BAD: ReadError = ReadError::Header("a malformed time");
    let text: Cow<'_, str> = String::from_utf8_lossy(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let seconds: i64 = whole.parse().map_err(|_| BAD)?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| BAD)?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds - 1, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

/// The old GNU form: four pieces in the header, more in blocks of 21.
fn read_gnu_sparse<S: Source>(stream: &mut S, block: &[u8; 512], entry: &mut Entry) -> Result<(), S::Error> {
    let mut pieces = Vec::new();
    let mut more = block[482] != 0;
    read_pieces(&block[386..482], &mut pieces)?;
    while more {
        let next = stream.block()?.ok_or(ReadError::Truncated)?;
        read_pieces(&next[..504], &mut pieces)?;
        more = next[504] != 0;
        if pieces.len() > MAX_PIECES {
            return Err(ReadError::Limit { what: "pieces of a sparse file", limit: MAX_PIECES as u64 }.into());
        }
    }
    entry.size = number(&block[483..495])?;
    entry.sparse = Some(pieces);
    Ok(())
}

fn read_pieces(fields: &[u8], pieces: &mut Vec<Piece>) -> Result<(), ReadError> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        pieces.push(Piece { offset: number(&field[..12])?, length: number(&field[12..])? });
    }
    Ok(())
}

/// The three PAX forms: 0.0 and 0.1 list the pieces in the header, 1.0 in front of the data.
fn read_pax_sparse<S: Source>(stream: &mut S, keys: &SparseKeys, entry: &mut Entry) -> Result<(), S::Error> {
    if let Some(name) = &keys.name {
        entry.path.clone_from(name);
    }
    if keys.major == Some(1) && keys.minor.unwrap_or(0) == 0 {
        entry.size = keys.real_size.ok_or(ReadError::Header("a sparse file without its size"))?;
        entry.sparse = Some(read_map_in_data(stream, entry)?);
        return Ok(());
    }
    let numbers = match (&keys.map, &keys.list) {
        (Some(map), _) => map,
        (None, list) if !list.is_empty() => list,
        _ => return Ok(()),
    };
    entry.size = keys.real_size.ok_or(ReadError::Header("a sparse file without its size"))?;
    if numbers.len() % 2 != 0 {
        return Err(ReadError::Header("a malformed sparse map").into());
    }
    entry.sparse = Some(numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], length: pair[1] }).collect());
    Ok(())
}

fn read_map_in_data<S: Source>(stream: &mut S, entry: &mut Entry) -> Result<Vec<Piece>, S::Error> {
    const BAD: ReadError = ReadError::Header("a malformed sparse map");
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted: Option<usize> = None;
    let mut text: Vec<u8> = Vec::new();
    while wanted.is_none_or(|wanted| numbers.len() < wanted) {
        let block = stream.block()?.ok_or(ReadError::Truncated)?;
        entry.stored_bytes = entry.stored_bytes.checked_sub(BLOCK).ok_or(BAD)?;
        for byte in block {
            if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                break;
            }
            if byte != b'\n' {
                text.push(byte);
                if text.len() > 20 {
                    return Err(BAD.into());
                }
                continue;
            }
            let value = decimal(&text)?;
            text.clear();
            if wanted.is_none() {
                let count = usize::try_from(value).ok().filter(|count| *count <= MAX_PIECES).ok_or(BAD)?;
                wanted = Some(count * 2);
            } else {
                numbers.push(value);
            }
        }
    }
    Ok(numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], length: pair[1] }).collect())
}

/// Pieces must lie in order within the file and have exactly the stored bytes.
fn check_pieces(pieces: &[Piece], entry: &Entry) -> Result<(), ReadError> {
    let mut end = 0;
    let mut stored = 0u64;
    for piece in pieces {
        let piece_end = piece.offset.checked_add(piece.length).filter(|e| *e <= entry.size);
        if piece.offset < end || piece_end.is_none() {
            return Err(ReadError::Header("a malformed sparse map"));
        }
        end = piece_end.unwrap_or(end);
        stored += piece.length;
    }
    if stored != entry.stored_bytes {
        return Err(ReadError::Header("a sparse map that does not fit its data"));
    }
    Ok(())
}
