//! The toolbox: this host's static busybox as an image, made when it is first needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use ferry_api::image::ImportOptions;
use ferry_client::Client;
use ferry_spec::digest::Digest;
use ferry_spec::tar::{self, Entry, Kind};

use crate::failure::{Failure, Result};

const REPOSITORY: &str = "ferry-toolbox";
const PLACES: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"];

/// Returns the name of the toolbox image, which is here afterwards.
pub(super) async fn make(client: &Client) -> Result<String> {
    let missing = || {
        Failure::new(
            "there is no static busybox on this host to debug with\nhint: install one (package busybox-static), or name an image that has a shell with `--image`",
        )
    };
    let (path, program) = find().ok_or_else(missing)?;
    let digest = Digest::sha256(&program);
    let tag = digest.hex()[..12].to_owned();
    let name = format!("{REPOSITORY}:{tag}");
    if client.image_inspect(&name, "").await.is_ok() {
        return Ok(name);
    }
    let archive = archive(&program, &applets(&path));
    let options = ImportOptions {
        source: "-".to_owned(),
        repository: REPOSITORY.to_owned(),
        tag,
        message: "busybox of a host, for debugging".to_owned(),
        changes: vec!["ENV PATH=/bin".to_owned(), "CMD [\"sh\"]".to_owned()],
        ..ImportOptions::default()
    };
    let body = futures_util::stream::once(async move { Ok(Bytes::from(archive)) });
    let mut answer = client.image_import(&options, body).await?;
    while answer.next().await?.is_some() {}
    Ok(name)
}

fn find() -> Option<(PathBuf, Vec<u8>)> {
    PLACES.iter().find_map(|place| {
        let program = fs::read(place).ok()?;
        is_static(&program).then(|| (PathBuf::from(place), program))
    })
}

/// Whether an ELF program asks for no interpreter.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    if program.get(..5) != Some(b"\x7fELF\x02") {
        return false;
    }
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = program.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    (0..count).all(|index| {
        let at = usize::try_from(start + index * size).ok();
        at.and_then(|at| number(at, 4)).is_some_and(|kind| kind != u64::from(INTERPRETER))
    })
}

/// The names it answers to.
fn applets(path: &Path) -> Vec<String> {
    let listed = Command::new(path).arg("--list").output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut names: Vec<String> = text.lines().filter(|name| *name != "busybox").map(str::to_owned).collect();
    if names.is_empty() {
        names.push("sh".to_owned());
    }
    names
}

fn archive(program: &[u8], applets: &[String]) -> Vec<u8> {
    let size = program.len() as u64;
    let mut bytes = tar::header(&Entry::new(Kind::Folder, *b"bin/", 0o755));
    bytes.extend(tar::header(&Entry { size, stored_bytes: size, ..Entry::new(Kind::File, *b"bin/busybox", 0o755) }));
    bytes.extend_from_slice(program);
    bytes.resize(bytes.len() + usize::try_from(tar::padding(size)).unwrap_or(0), 0);
    for name in applets {
        let link = Entry { link: b"busybox".to_vec(), ..Entry::new(Kind::Symlink, format!("bin/{name}"), 0o777) };
        bytes.extend(tar::header(&link));
    }
    bytes.extend(tar::header(&Entry::new(Kind::Folder, *b"tmp/", 0o1777)));
    bytes.extend(tar::END);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_an_interpreter_are_told() {
        let program = |kind: u8| {
            let mut bytes = vec![0; 64 + 56];
            bytes[..5].copy_from_slice(b"\x7fELF\x02");
            (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
            bytes
        };
        assert!(is_static(&program(1)) && !is_static(&program(3)));
        assert!(!is_static(b"#!/bin/sh") && !is_static(b"\x7fELF\x02"));
    }

    #[test]
    fn every_applet_is_a_link() {
        let bytes = archive(b"program", &["ls".to_owned()]);
        let mut reader = tar::Reader(&bytes[..]);
        let mut names = Vec::new();
        while let Some(entry) = tar::next_entry(&mut reader).unwrap() {
            tar::Source::skip(&mut reader, entry.stored_bytes + tar::padding(entry.stored_bytes)).unwrap();
            names.push(String::from_utf8(entry.path).unwrap());
        }
        assert_eq!(names, ["bin/", "bin/busybox", "bin/ls", "tmp/"]);
    }
}
