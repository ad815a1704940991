//! Netlink attributes for the families that are written by hand (nfnetlink): type, length, value.
//!
//! Pure bytes. Numbers inside nfnetlink attributes are big-endian; the attribute's own header is in
//! host order.

/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// A growing list of attributes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Starts after `head` (a message's fixed header).
    pub(crate) fn after(head: &[u8]) -> Self {
        Self(head.to_vec())
    }

    /// Adds bytes.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// Adds a text with its ending NUL.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds attributes inside an attribute.
    pub(crate) fn nested(self, kind: u16, value: Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }

    /// Returns the bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("attributes made here stay below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Iterates over attributes as kind and value; stops at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the value of the first attribute of a kind.
    pub(crate) fn value(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Returns the text of the first attribute of a kind.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.value(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1] = *self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & KIND_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::default().bytes(1, &[9]);
        let bytes = Attributes::after(&[0xaa; 4]).text(2, "ab").nested(3, inner).into_bytes();
        let expected: Vec<u8> = [
            [0xaa; 4].as_slice(),
            &7_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            b"ab\0\0",
            &12_u16.to_ne_bytes(),
            &0x8003_u16.to_ne_bytes(),
            &5_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            &[9, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn reader_finds_what_was_written() {
        let bytes = Attributes::default().text(2, "name").nested(3, Attributes::default().bytes(1, &[9])).into_bytes();
        let reader = Reader::new(&bytes);
        assert_eq!(reader.text(2), Some("name"));
        assert_eq!(reader.value(3).and_then(|inner| Reader::new(inner).value(1)), Some([9].as_slice()));
        assert_eq!(reader.value(4), None);
    }

    #[test]
    fn reader_stops_at_a_length_beyond_the_end() {
        assert_eq!(Reader::new(&[200, 0, 1, 0, 1, 2]).count(), 0);
        assert_eq!(Reader::new(&[2, 0, 1, 0]).count(), 0);
    }
}
