//! Contexts as archives: a tar of `meta.json` and `tls/<endpoint>/<file>`, or the same as a zip, which is read alone.

mod zip;

use ferry_spec::tar::{self, Entry, Kind, ReadError, Reader, next_entry};
use serde_json::Value;

use crate::config::contexts::Whole;

/// Most bytes of an archive, and of a file in it.
pub(super) const LIMIT: u64 = 10 << 20;
pub(super) const TOO_LARGE: &str = "read exceeds the defined limit";

/// Makes the tar of a context.
pub(super) fn pack(whole: &Whole) -> std::io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    add(&mut archive, "meta.json", 0o644, &serde_json::to_vec(&whole.metadata)?);
    archive.extend(tar::header(&Entry::new(Kind::Folder, *b"tls", 0o700)));
    let mut last = "";
    for (endpoint, file, content) in &whole.tls {
        if endpoint != last {
            archive.extend(tar::header(&Entry::new(Kind::Folder, format!("tls/{endpoint}"), 0o700)));
            last = endpoint;
        }
        add(&mut archive, &format!("tls/{endpoint}/{file}"), 0o600, content);
    }
    archive.extend(tar::END);
    Ok(archive)
}

fn add(archive: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) {
    let size = content.len() as u64;
    archive.extend(tar::header(&Entry { size, stored_bytes: size, ..Entry::new(Kind::File, path, mode) }));
    archive.extend_from_slice(content);
    archive.resize(archive.len() + usize::try_from(tar::padding(size)).unwrap_or(0), 0);
}

/// Reads an archive. The texts of errors are Docker's.
pub(super) fn unpack(bytes: &[u8]) -> Result<Whole, String> {
    let files = if zip::is_zip(bytes) { zip::files(bytes)? } else { tar_files(bytes)? };
    let mut metadata = None;
    let mut tls = Vec::new();
    for (path, content) in files {
        check_path(&path)?;
        if path == "meta.json" {
            metadata = Some(read_metadata(&content)?);
            continue;
        }
        let (endpoint, file) = path["tls/".len()..].split_once('/').ok_or("archive format is invalid")?;
        if file.contains('/') {
            return Err("archive format is invalid".to_owned());
        }
        tls.push((endpoint.to_owned(), file.to_owned(), content));
    }
    Ok(Whole { metadata: metadata.ok_or("invalid context: no metadata found")?, tls })
}

/// Nothing of an archive may lie anywhere but where it belongs.
fn check_path(path: &str) -> Result<(), String> {
    if path != "meta.json" && !path.starts_with("tls/") {
        return Err(format!("{path}: unexpected context file"));
    }
    if path.contains('\\') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{path}: unexpected path format"));
    }
    Ok(())
}

fn read_metadata(content: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(content).map_err(|error| match error.is_eof() {
        true => "unexpected end of JSON input".to_owned(),
        false => error.to_string(),
    })?;
    if !value.is_object() {
        let kind = match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        return Err(format!("json: cannot unmarshal {kind} into Go value of type store.Metadata"));
    }
    Ok(value)
}

/// The regular files of a tar.
fn tar_files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let text = |error: ReadError| match error {
        ReadError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        _ => "archive/tar: invalid tar header".to_owned(),
    };
    let mut files = Vec::new();
    let mut rest = Reader(bytes);
    while let Some(entry) = next_entry(&mut rest).map_err(text)? {
        let stored = usize::try_from(entry.stored_bytes).unwrap_or(usize::MAX);
        let content = rest.0.get(..stored).ok_or("unexpected EOF")?.to_vec();
        // Docker's own archives end where their last file does.
        let padding = usize::try_from(tar::padding(entry.stored_bytes)).unwrap_or(usize::MAX);
        rest.0 = rest.0[stored..].get(padding..).unwrap_or_default();
        if entry.kind == Kind::File {
            files.push((String::from_utf8_lossy(&entry.path).into_owned(), content));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context() -> Whole {
        let file = |name: &str| ("docker".to_owned(), name.to_owned(), name.as_bytes().to_vec());
        Whole { metadata: json!({ "Name": "x", "Metadata": {} }), tls: vec![file("ca.pem"), file("key.pem")] }
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let mut packed = pack(&context()).unwrap();
        assert_eq!(unpack(&packed).unwrap(), context());
        // Two blocks of zeros, and what fills the last one.
        packed.truncate(packed.len() - 1024 - 512 + "key.pem".len());
        assert_eq!(unpack(&packed).unwrap(), context());
    }

    #[test]
    fn archives_that_are_none_are_refused_in_dockers_words() {
        let one = |path: &str, content: &[u8]| {
            let mut archive = Vec::new();
            add(&mut archive, path, 0o644, content);
            archive.extend(tar::END);
            unpack(&archive).unwrap_err()
        };
        assert_eq!(unpack(b"").unwrap_err(), "invalid context: no metadata found");
        assert_eq!(unpack(&[7; 2000]).unwrap_err(), "archive/tar: invalid tar header");
        assert_eq!(one("other", b""), "other: unexpected context file");
        assert_eq!(one("./meta.json", b"{}"), "./meta.json: unexpected context file");
        assert_eq!(one("tls/a/../../x", b""), "tls/a/../../x: unexpected path format");
        assert_eq!(one("tls/ca.pem", b""), "archive format is invalid");
        assert_eq!(one("meta.json", b""), "unexpected end of JSON input");
        assert_eq!(one("meta.json", b"[]"), "json: cannot unmarshal array into Go value of type store.Metadata");
    }
}
