//! Reads one table of an SQLite file, as far as package databases need it: rows of a table, blobs whole. No index, no journal, nothing written.
//!
//! The bytes come out of an image, so every number in them is checked before it is used.
//!
//! Spec: <https://www.sqlite.org/fileformat2.html>

/// Pages that are visited at most; a file that has loops ends here.
const MAX_PAGES: usize = 1 << 20;
/// Bytes of one row.
const MAX_ROW: usize = 64 << 20;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// Returns every row of a table.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn table(bytes: &[u8], name: &str) -> Result<Vec<Vec<Value>>, &'static str> {
    let file = File::open(bytes)?;
    let schema = file.rows(1)?;
    // type, name, tbl_name, rootpage, sql
    let is_it = |row: &&Vec<Value>| {
        row.first() == Some(&Value::Text(b"table".to_vec()))
            && row.get(1) == Some(&Value::Text(name.as_bytes().to_vec()))
    };
    match schema.iter().find(is_it).and_then(|row| row.get(3)) {
        Some(Value::Integer(root)) => file.rows(usize::try_from(*root).map_err(|_| "a table at no page")?),
        _ => Err("the table is not there"),
    }
}

struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Of each page, without what is reserved at its end.
    usable: usize,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if !bytes.starts_with(b"SQLite format 3\0") || bytes.len() < 100 {
            return Err("no SQLite file");
        }
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => usize::from(size),
        };
        if !page_size.is_power_of_two() || page_size < 512 {
            return Err("an impossible page size");
        }
        let usable = page_size - usize::from(bytes[20]);
        if usable < 480 {
            return Err("pages without room");
        }
        Ok(Self { bytes, page_size, usable })
    }

    fn page(&self, number: usize) -> Result<&'a [u8], &'static str> {
        let start = number.checked_sub(1).and_then(|at| at.checked_mul(self.page_size)).ok_or("a page that is none")?;
        self.bytes.get(start..start + self.page_size).ok_or("a page behind the end")
    }

    /// Walks a tree of table pages.
    fn rows(&self, root: usize) -> Result<Vec<Vec<Value>>, &'static str> {
        let mut rows = Vec::new();
        let mut todo = vec![root];
        let mut visited = 0;
        while let Some(number) = todo.pop() {
            visited += 1;
            if visited > MAX_PAGES {
                return Err("more pages than there can be");
            }
            let page = self.page(number)?;
            let head = if number == 1 { 100 } else { 0 };
            let cells = usize::from(short(page, head + 3)?);
            match page[head] {
                0x05 => {
                    let mut children = Vec::with_capacity(cells + 1);
                    for cell in 0..cells {
                        let at = usize::from(short(page, head + 12 + 2 * cell)?);
                        children.push(long(page, at)?);
                    }
                    children.push(long(page, head + 8)?);
                    todo.extend(children.into_iter().rev());
                }
                0x0d => {
                    for cell in 0..cells {
                        let at = usize::from(short(page, head + 8 + 2 * cell)?);
                        rows.push(record(&self.payload(page, at)?)?);
                    }
                }
                _ => return Err("a page that is no table's"),
            }
        }
        Ok(rows)
    }

    /// Reads the bytes of a row, over as many pages as they take.
    fn payload(&self, page: &[u8], at: usize) -> Result<Vec<u8>, &'static str> {
        let mut rest = page.get(at..).ok_or("a cell outside of its page")?;
        let length =
            usize::try_from(varint(&mut rest)?).ok().filter(|length| *length <= MAX_ROW).ok_or("a row too long")?;
        varint(&mut rest)?;
        let most = self.usable - 35;
        if length <= most {
            return Ok(rest.get(..length).ok_or("a row behind its page")?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        let local = if wanted <= most { wanted } else { least };
        let mut payload = rest.get(..local).ok_or("a row behind its page")?.to_vec();
        let mut next = long(rest, local)?;
        while payload.len() < length {
            let page = self.page(next)?;
            next = long(page, 0)?;
            let count = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(page.get(4..4 + count).ok_or("an overflow page too short")?);
        }
        Ok(payload)
    }
}

fn short(page: &[u8], at: usize) -> Result<u16, &'static str> {
    let bytes = page.get(at..at + 2).ok_or("a number outside of its page")?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn long(page: &[u8], at: usize) -> Result<usize, &'static str> {
    let bytes = page.get(at..at + 4).ok_or("a number outside of its page")?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

/// One to nine bytes, seven bits each, the last one whole.
fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for count in 0..9 {
        let (byte, after) = rest.split_first().ok_or("a number that breaks off")?;
        *rest = after;
        if count == 8 {
            return Ok((value << 8) | u64::from(*byte));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number without end")
}

fn record(payload: &[u8]) -> Result<Vec<Value>, &'static str> {
    let mut kinds = payload;
    let head = usize::try_from(varint(&mut kinds)?).map_err(|_| "a row without a head")?;
    let used = payload.len() - kinds.len();
    let mut kinds = payload.get(used..head).ok_or("a row without a head")?;
    let mut body = payload.get(head..).ok_or("a row without a body")?;
    let mut values = Vec::new();
    while !kinds.is_empty() {
        let kind = varint(&mut kinds)?;
        values.push(value(kind, &mut body)?);
    }
    Ok(values)
}

fn value(kind: u64, body: &mut &[u8]) -> Result<Value, &'static str> {
    let mut take = |length: usize| -> Result<&[u8], &'static str> {
        let (taken, rest) = body.split_at_checked(length).ok_or("a value behind its row")?;
        *body = rest;
        Ok(taken)
    };
    let length = |base: u64| usize::try_from((kind - base) / 2).map_err(|_| "a value too long");
    Ok(match kind {
        0 => Value::Null,
        1..=4 => Value::Integer(signed(take(usize::try_from(kind).unwrap_or(4))?)),
        5 => Value::Integer(signed(take(6)?)),
        6 => Value::Integer(signed(take(8)?)),
        // A floating point number, which no package has.
        7 => {
            take(8)?;
            Value::Null
        }
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        10 | 11 => return Err("a value of no kind"),
        even if even % 2 == 0 => Value::Blob(take(length(12)?)?.to_vec()),
        _ => Value::Text(take(length(13)?)?.to_vec()),
    })
}

fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |value, byte| (value << 8) | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        for (bytes, expected) in [
            (&[0x05][..], 5),
            (&[0x81, 0x00], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], u64::MAX),
        ] {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest).unwrap(), expected);
            assert!(rest.is_empty());
        }
        assert!(varint(&mut &[0x80][..]).is_err());
        assert_eq!((signed(&[0xff, 0xfe]), signed(&[0x01, 0x00])), (-2, 256));
    }

    #[test]
    fn rows_are_read_by_their_kinds() {
        let mut row = vec![6, 0, 1, 9, 16, 19];
        row.extend_from_slice(&[0x07, b'a', b'b', b'x', b'y', b'z']);
        let expected = [
            Value::Null,
            Value::Integer(7),
            Value::Integer(1),
            Value::Blob(b"ab".to_vec()),
            Value::Text(b"xyz".to_vec()),
        ];
        assert_eq!(record(&row).unwrap(), expected);
        assert!(record(&row[..9]).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(table(b"", "x").is_err());
        let mut bytes = vec![0; 1024];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        assert!(table(&bytes, "x").is_err());
        bytes[16..18].copy_from_slice(&1024_u16.to_be_bytes());
        bytes[100] = 0x05;
        bytes[108..112].copy_from_slice(&1_u32.to_be_bytes());
        assert!(table(&bytes, "x").is_err(), "a page that is its own child");
    }
}
