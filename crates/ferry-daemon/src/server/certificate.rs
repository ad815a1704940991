//! The name in a certificate.

/// `CN`: 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// Reads the common name of the subject of a certificate that was verified before; `None` when it has none.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version is there or not; then serial number, algorithm, issuer, validity.
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (_, mut names, _) = element(fields)?;
    let mut found = None;
    while let Some((SET, mut set, rest)) = element(names) {
        while let Some((SEQUENCE, pair, more)) = element(set) {
            if let Some((OBJECT_IDENTIFIER, COMMON_NAME, value)) = element(pair) {
                // As Go: of several the last one counts.
                found = element(value).map(|(_, text, _)| String::from_utf8_lossy(text).into_owned());
            }
            set = more;
        }
        names = rest;
    }
    found
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag, 0x82];
        out.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        out.extend(content);
        out
    }

    #[test]
    fn the_subjects_name_is_found_and_not_the_issuers() {
        let name = |text: &str| {
            let pair = der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[COMMON_NAME]), &der(0x0c, &[text.as_bytes()])]);
            der(SEQUENCE, &[&der(SET, &[&pair])])
        };
        for version in [Vec::new(), der(VERSION, &[&[2, 1, 2]])] {
            let body = der(
                SEQUENCE,
                &[&version, &[2, 1, 1], &der(SEQUENCE, &[]), &name("authority"), &der(SEQUENCE, &[]), &name("client")],
            );
            assert_eq!(common_name(&der(SEQUENCE, &[&body])).as_deref(), Some("client"));
        }
        assert_eq!(common_name(b""), None);
        assert_eq!(common_name(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
