//! `--tmpfs` and `--mount type=tmpfs`: options, merged as Docker merges them.

use ferry_api::container::TmpfsOptions;

use super::{Asked, destination_path, record};
use crate::containers::record::MountKind;
use crate::error::{Error, Result};

/// Docker mounts every tmpfs so unless told otherwise.
const DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];

/// Reads one entry of `Tmpfs`.
pub(super) fn parse(destination: &str, options: &str) -> Result<Asked> {
    let asked = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    mount(destination_path(destination)?, asked)
}

/// A tmpfs with options beside Docker's own.
pub(super) fn mount(destination: String, asked: Vec<String>) -> Result<Asked> {
    let options = merge(DEFAULTS.into_iter().map(str::to_owned).chain(asked).collect())?;
    let writable = !options.iter().any(|option| option == "ro");
    Ok(Asked::new(record(MountKind::Tmpfs { options }, destination, "", writable)))
}

/// The words of `TmpfsOptions`.
///
/// # Errors
/// Docker's text for what a tmpfs of `--mount` does not take.
pub(super) fn words(options: Option<&TmpfsOptions>, read_only: bool) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = read_only.then(|| "ro".to_owned()).into_iter().collect();
    let Some(options) = options else { return Ok(words) };
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", size(options.size_bytes)));
    }
    for option in &options.options {
        match option.as_slice() {
            [] => return Err("invalid option array length".to_owned()),
            [_, _, _, ..] => return Err("invalid option array length".to_owned()),
            [name, ..] if !matches!(name.as_str(), "exec" | "noexec") => {
                return Err(format!("invalid option: {name}"));
            }
            parts => words.push(parts.join("=")),
        }
    }
    Ok(words)
}

/// The largest unit that divides it.
fn size(bytes: i64) -> String {
    let units = [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes % unit == 0) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Of words that set the same thing the last one stays.
fn merge(options: Vec<String>) -> Result<Vec<String>> {
    let mut merged: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for option in options.into_iter().rev().filter(|option| option != "defaults") {
        let key = match flag(&option) {
            Some(key) => key.to_owned(),
            None => parameter(&option)?,
        };
        if !seen.contains(&key) {
            merged.push(option);
            seen.push(key);
        }
    }
    merged.reverse();
    Ok(merged)
}

/// What a flag sets; words with the same answer exclude each other.
fn flag(option: &str) -> Option<&'static str> {
    Some(match option {
        "ro" | "rw" => "ro",
        "suid" | "nosuid" => "suid",
        "dev" | "nodev" => "dev",
        "exec" | "noexec" => "exec",
        "sync" | "async" => "sync",
        "dirsync" => "dirsync",
        "remount" => "remount",
        "mand" | "nomand" => "mand",
        "atime" | "noatime" => "atime",
        "diratime" | "nodiratime" => "diratime",
        "bind" | "rbind" => "bind",
        "relatime" | "norelatime" => "relatime",
        "strictatime" | "nostrictatime" => "strictatime",
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
            "propagation"
        }
        _ => return None,
    })
}

fn parameter(option: &str) -> Result<String> {
    let parts: Vec<&str> = option.splitn(2, '=').collect();
    let known = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    match parts[..] {
        [name, _] if known.contains(&name) => Ok(name.to_owned()),
        _ => Err(Error::invalid(format!("invalid tmpfs option {:?}", parts[0]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        match parse("/t", text).unwrap().mount.kind {
            MountKind::Tmpfs { options } => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(options(""), ["noexec", "nosuid", "nodev", "rprivate"]);
        assert_eq!(options("exec,size=1m,size=2m,rw,ro"), ["nosuid", "nodev", "rprivate", "exec", "size=2m", "ro"]);
        assert_eq!(options("shared"), ["noexec", "nosuid", "nodev", "shared"]);
        assert!(!parse("/t", "ro").unwrap().mount.writable);
    }

    #[test]
    fn unknown_words_are_named_as_go_does() {
        assert_eq!(parse("/t", "nope").unwrap_err().text(), "invalid tmpfs option \"nope\"");
        assert_eq!(parse("/t", "nope=1").unwrap_err().text(), "invalid tmpfs option \"nope\"");
        assert_eq!(parse("t", "").unwrap_err().text(), "invalid mount path: 't' mount path must be absolute");
        assert_eq!(parse("/", "").unwrap_err().text(), "invalid specification: destination can't be '/'");
    }

    #[test]
    fn the_long_form_has_words_of_its_own() {
        let long = TmpfsOptions { size_bytes: 3 << 20, mode: 0o1770, options: vec![vec!["exec".into()]] };
        assert_eq!(words(Some(&long), true).unwrap(), ["ro", "mode=1770", "size=3m", "exec"]);
        let odd = TmpfsOptions { size_bytes: 1000, ..TmpfsOptions::default() };
        assert_eq!(words(Some(&odd), false).unwrap(), ["size=1000"]);
        let with = |option: &[&str]| TmpfsOptions {
            options: vec![option.iter().map(|word| (*word).to_owned()).collect()],
            ..TmpfsOptions::default()
        };
        assert_eq!(words(Some(&with(&["nope"])), false).unwrap_err(), "invalid option: nope");
        assert_eq!(words(Some(&with(&["a", "b", "c"])), false).unwrap_err(), "invalid option array length");
    }
}
