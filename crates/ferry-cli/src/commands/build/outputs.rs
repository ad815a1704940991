//! `--output`, `--push` and `--load`: what becomes of what was built.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_client::BuildCacheEntry;

use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::output::stdout_is_terminal;

/// Where an output goes on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dest {
    /// Nowhere: the daemon keeps it, or sends it elsewhere.
    Daemon,
    /// Nowhere at all: what was built is in the cache alone.
    Nowhere,
    /// A file; `-` is standard output.
    File(String),
    /// A directory, for files.
    Folder(String),
    /// A directory in the form of an OCI layout, for an image.
    Layout(String),
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// As the daemon is told.
    pub(crate) entry: BuildCacheEntry,
    pub(crate) dest: Dest,
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

/// Reads the flags. `notes` are annotations, which images get.
pub(super) fn read(parsed: &Parsed, notes: &BTreeMap<String, String>) -> Result<Vec<Output>> {
    let mut outputs = parsed.all("output").iter().map(|text| one(text)).collect::<Result<Vec<_>>>()?;
    let is_image = |output: &Output| output.dest == Dest::Daemon;
    if parsed.on("push") {
        if !outputs.iter().any(is_image) {
            outputs.push(image(BTreeMap::new()));
        }
        let images = outputs.iter_mut().filter(|output| is_image(output));
        images.for_each(|output| drop(output.entry.attributes.insert("push".to_owned(), "true".to_owned())));
    }
    if (parsed.on("load") || !notes.is_empty() && outputs.is_empty()) && !outputs.iter().any(is_image) {
        outputs.push(image(BTreeMap::new()));
    }
    for output in
        outputs.iter_mut().filter(|output| !matches!(output.entry.kind.as_str(), "local" | "tar" | "cacheonly"))
    {
        output.entry.attributes.extend(notes.clone());
    }
    if outputs.iter().filter(|output| matches!(output.dest, Dest::Layout(_))).count() > 1 {
        return Err(Failure::not_implemented("more than one `--output type=oci,tar=false` of a build"));
    }
    Ok(outputs)
}

fn image(attributes: BTreeMap<String, String>) -> Output {
    Output { entry: BuildCacheEntry { kind: "image".to_owned(), attributes }, dest: Dest::Daemon }
}

/// `type=local,dest=x`, `dest`, `-`.
fn one(text: &str) -> Result<Output> {
    if !text.contains('=') {
        let kind = if text == "-" { "tar" } else { "local" };
        return output(kind, text.to_owned(), BTreeMap::new());
    }
    let (mut kind, mut dest, mut attributes) = (String::new(), String::new(), BTreeMap::new());
    for field in ferry_dockerfile::csv::fields(text).map_err(failed)? {
        let (key, value) = field.split_once('=').ok_or_else(|| failed(format!("invalid value {field}")))?;
        match key.trim().to_lowercase().as_str() {
            "type" => value.clone_into(&mut kind),
            "dest" => value.clone_into(&mut dest),
            key => drop(attributes.insert(key.to_owned(), value.to_owned())),
        }
    }
    match kind.as_str() {
        "" => Err(failed("type is required for output")),
        kind => output(kind, dest, attributes),
    }
}

fn output(kind: &str, dest: String, mut attributes: BTreeMap<String, String>) -> Result<Output> {
    let (kind, dest) = match (kind, dest.as_str()) {
        ("local", "") => return Err(failed("dest is required for local exporter")),
        // Files travel as a tar, which is unpacked here.
        ("local", _) => {
            if std::fs::metadata(&dest).is_ok_and(|found| !found.is_dir()) {
                return Err(failed(format!("destination directory {dest} is a file")));
            }
            ("tar", Dest::Folder(dest))
        }
        ("registry", "") => {
            attributes.insert("push".to_owned(), "true".to_owned());
            ("image", Dest::Daemon)
        }
        ("image" | "moby" | "docker", "") => ("image", Dest::Daemon),
        ("oci" | "docker", folder) if attributes.get("tar").is_some_and(|value| value == "false") => match folder {
            "" | "-" => return Err(failed(format!("dest is required for {kind} exporter without tar"))),
            _ => (kind, Dest::Layout(dest)),
        },
        ("oci" | "docker" | "tar", "" | "-") => {
            if stdout_is_terminal() {
                return Err(failed(format!("dest file is required for {kind} exporter. refusing to write to console")));
            }
            (kind, Dest::File("-".to_owned()))
        }
        ("oci" | "docker" | "tar", path) => {
            if Path::new(path).is_dir() {
                return Err(failed(format!("destination file {path} is a directory")));
            }
            (kind, Dest::File(dest))
        }
        ("cacheonly", "") => (kind, Dest::Nowhere),
        ("image" | "moby" | "registry" | "cacheonly", _) => {
            return Err(failed(format!("dest is not supported by the {kind} exporter")));
        }
        (other, _) => (other, Dest::Daemon),
    };
    Ok(Output { entry: BuildCacheEntry { kind: kind.to_owned(), attributes }, dest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::IMAGE_BUILD;
    use crate::{flags, options};

    fn read_line(line: &str) -> Result<Vec<Output>> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let parsed = flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check).unwrap();
        read(&parsed, &BTreeMap::new())
    }

    #[test]
    fn outputs_are_read_as_by_buildx() {
        for (line, kind, dest) in [
            ("-o out .", "tar", Dest::Folder("out".to_owned())),
            ("-o - .", "tar", Dest::File("-".to_owned())),
            ("-o type=tar,dest=x.tar .", "tar", Dest::File("x.tar".to_owned())),
            ("-o type=local,dest=d .", "tar", Dest::Folder("d".to_owned())),
            ("-o type=oci,dest=x .", "oci", Dest::File("x".to_owned())),
            ("-o type=docker,dest=x .", "docker", Dest::File("x".to_owned())),
            ("-o type=oci,dest=x,tar=false .", "oci", Dest::Layout("x".to_owned())),
            ("-o type=docker .", "image", Dest::Daemon),
            ("-o type=cacheonly .", "cacheonly", Dest::Nowhere),
            ("--load .", "image", Dest::Daemon),
        ] {
            let outputs = read_line(line).unwrap();
            assert_eq!((outputs[0].entry.kind.as_str(), &outputs[0].dest), (kind, &dest), "{line}");
        }
        assert_eq!(read_line("-o type=registry .").unwrap()[0].entry.attributes["push"], "true");
        let both = read_line("--push -o out .").unwrap();
        assert_eq!((both.len(), both[1].entry.attributes["push"].as_str()), (2, "true"));
        assert_eq!(read_line("--push --load .").unwrap().len(), 1);
        assert!(read_line(".").unwrap().is_empty());
        for (line, error) in [
            ("-o type=local .", "dest is required for local exporter"),
            ("-o dest=x .", "type is required for output"),
            ("-o type=oci,dest=/ .", "destination file / is a directory"),
            ("-o type=oci,tar=false .", "dest is required for oci exporter without tar"),
            ("-o type=image,dest=x .", "dest is not supported by the image exporter"),
        ] {
            assert_eq!(read_line(line).unwrap_err().message, format!("ERROR: {error}"), "{line}");
        }
    }
}
