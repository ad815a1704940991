//! Packages in rpm's database: a table of headers, each with tags.
//!
//! Spec: <https://rpm-software-management.github.io/rpm/manual/format_header.html>

use super::sqlite::{Value, table};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
/// A string, and a number of 32 bits.
const STRING: u32 = 6;
const INT32: u32 = 4;

/// Returns name and version of every package; the version as rpm shows it, `[epoch:]version-release`.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn packages(bytes: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let rows = table(bytes, "Packages")?;
    let headers = rows.iter().filter_map(|row| match row.get(1) {
        Some(Value::Blob(header)) => Some(header),
        _ => None,
    });
    Ok(headers.filter_map(|header| package(header)).collect())
}

fn package(header: &[u8]) -> Option<(String, String)> {
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let entries = usize::try_from(number(0)?).ok()?;
    let data = header.get(8 + entries.checked_mul(16)?..)?;
    let (mut name, mut version, mut release, mut epoch) = (None, None, None, None);
    for entry in 0..entries {
        let at = 8 + 16 * entry;
        let (tag, kind, offset) = (number(at)?, number(at + 4)?, usize::try_from(number(at + 8)?).ok()?);
        let string = || {
            let text = data.get(offset..)?;
            let end = text.iter().position(|byte| *byte == 0)?;
            Some(String::from_utf8_lossy(&text[..end]).into_owned())
        };
        match (tag, kind) {
            (NAME, STRING) => name = string(),
            (VERSION, STRING) => version = string(),
            (RELEASE, STRING) => release = string(),
            (EPOCH, INT32) => {
                epoch = data.get(offset..offset + 4).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
            }
            _ => {}
        }
    }
    let (name, version) = (name?, version?);
    let release = release.map(|release| format!("-{release}")).unwrap_or_default();
    let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
    Some((name, format!("{epoch}{version}{release}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let mut header = Vec::new();
        header.extend_from_slice(&4_u32.to_be_bytes());
        header.extend_from_slice(&23_u32.to_be_bytes());
        for (tag, kind, offset) in
            [(NAME, STRING, 4_u32), (VERSION, STRING, 9), (RELEASE, STRING, 13), (EPOCH, INT32, 0)]
        {
            for number in [tag, kind, offset, 1] {
                header.extend_from_slice(&number.to_be_bytes());
            }
        }
        header.extend_from_slice(&2_u32.to_be_bytes());
        header.extend_from_slice(b"bash\x005.2\x001.fc40\0");
        assert_eq!(package(&header), Some(("bash".to_owned(), "2:5.2-1.fc40".to_owned())));
        assert_eq!(package(&header[..40]), None);
        assert_eq!(package(&[0xff; 8]), None);
    }
}
