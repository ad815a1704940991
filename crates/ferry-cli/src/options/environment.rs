//! Environment variables and labels from flags and files.

use std::collections::BTreeMap;

/// The environment of a new process: files first, then flags; a bare name takes the client's value.
pub(crate) fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>, String> {
    let mut variables = Vec::new();
    for file in files {
        for line in read(file)? {
            if line.contains('=') {
                variables.push(line);
            } else if let Some(value) = own_variable(&line) {
                variables.push(format!("{line}={value}"));
            }
        }
    }
    for flag in flags {
        variables.push(resolve(flag));
    }
    Ok(variables)
}

fn own_variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A bare name that this process has gets its value; one it lacks removes the image's.
fn resolve(flag: &str) -> String {
    if flag.contains('=') {
        return flag.to_owned();
    }
    own_variable(flag).map_or_else(|| flag.to_owned(), |value| format!("{flag}={value}"))
}

/// Labels from files and flags; a bare name has an empty value as a flag, and is no label in a file.
pub(crate) fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = Vec::new();
    for file in files {
        pairs.extend(read(file)?.into_iter().filter(|line| line.contains('=')));
    }
    pairs.extend(flags.iter().cloned());
    Ok(to_map(&pairs))
}

/// Splits `key=value` pairs.
pub(crate) fn to_map(pairs: &[String]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn read(path: &str) -> Result<Vec<String>, String> {
    let bytes = std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open {path}: {reason}")
    })?;
    lines(path, &bytes)
}

/// The meaningful lines of a file of assignments.
fn lines(path: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut found = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let invalid = |reason: String| format!("invalid env file ({path}): {reason}");
        let line = std::str::from_utf8(line)
            .map_err(|_| invalid(format!("invalid utf8 bytes at line {}: {:?}", index + 1, line)))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or(line);
        if name.is_empty() {
            return Err(invalid(format!("no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err(invalid(format!("variable '{name}' contains whitespaces")));
        }
        found.push(line.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_assignments_and_comments() {
        let text = b"\xef\xbb\xbf# note\n\nA=1\n  B=two words \nC\r\n";
        assert_eq!(lines("f", text).unwrap(), ["A=1", "B=two words ", "C"]);
        assert_eq!(lines("f", b"=x\n").unwrap_err(), "invalid env file (f): no variable name on line '=x'");
        assert_eq!(lines("f", b"a b=x\n").unwrap_err(), "invalid env file (f): variable 'a b' contains whitespaces");
    }

    #[test]
    fn labels_without_a_value_are_empty() {
        let labels = labels(&[], &["a=b=c".to_owned(), "d".to_owned()]).unwrap();
        assert_eq!(labels["a"], "b=c");
        assert_eq!(labels["d"], "");
    }
}
