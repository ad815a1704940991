//! What a program file needs: its interpreter and its machine. Reads a hostile root by descriptor.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

/// Enough for the headers of a program and the first line of a script.
const HEAD_BYTES: u64 = 16 * 1024;

/// A program, as far as its head tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Processor it is made for; `None` for a script.
    pub(super) machine: Option<&'static str>,
    /// Dynamic loader, or what stands behind `#!`.
    pub(super) interpreter: Option<String>,
    /// The interpreter is in the image.
    pub(super) has_interpreter: bool,
    /// Neither a program nor a script with a first line that says of what.
    pub(super) is_unknown: bool,
}

/// Looks at the file `path` below `root`.
pub(super) fn look(root: &OwnedFd, path: &str) -> Option<Program> {
    let mut head = Vec::new();
    File::from(open_regular(root, path)?).take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    let mut program = read(&head);
    program.has_interpreter = program.interpreter.as_deref().is_none_or(|path| open_regular(root, path).is_some());
    Some(program)
}

fn open_regular(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), within).ok();
    let is_regular = |fd: &OwnedFd| {
        statat(fd, "", AtFlags::EMPTY_PATH)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    // As a location first: opening a device can have effects of its own.
    open(OFlags::PATH).filter(is_regular)?;
    open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).filter(is_regular)
}

fn read(head: &[u8]) -> Program {
    let none = Program { machine: None, interpreter: None, has_interpreter: true, is_unknown: false };
    if let Some(rest) = head.strip_prefix(b"#!") {
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        // A carriage return belongs to the name for the kernel, and is what is wrong then.
        let interpreter = line.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
        return Program { interpreter: Some(interpreter.to_owned()).filter(|path| !path.is_empty()), ..none };
    }
    if head.starts_with(b"\x7fELF") {
        return Program { machine: machine(head), interpreter: elf_interpreter(head), ..none };
    }
    Program { is_unknown: true, ..none }
}

fn machine(head: &[u8]) -> Option<&'static str> {
    let number = match (head.get(5)?, head.get(18..20)?) {
        (2, [a, b]) => u16::from_be_bytes([*a, *b]),
        (_, [a, b]) => u16::from_le_bytes([*a, *b]),
        _ => return None,
    };
    Some(match number {
        3 => "386",
        8 => "mips",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        _ => return None,
    })
}

/// The path in the segment of type `PT_INTERP`, of a little-endian program of 64 bits: the others are rare enough to be told less of.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let number = |at: usize, width: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(head.get(at..at.checked_add(width)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let entry = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(entry, 4)? != u64::from(PT_INTERP) {
            return None;
        }
        let start = usize::try_from(number(entry.checked_add(8)?, 8)?).ok()?;
        let length = usize::try_from(number(entry.checked_add(32)?, 8)?).ok()?;
        let path = head.get(start..start.checked_add(length)?)?;
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(path).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(read(b"#! /bin/bash -e\nx").interpreter.unwrap(), "/bin/bash");
        assert_eq!(read(b"#!/bin/sh\r\nx").interpreter.unwrap(), "/bin/sh\r");
        assert!(read(b"echo no first line").is_unknown);
    }

    #[test]
    fn programs_name_their_machine_and_loader() {
        let mut elf = vec![0_u8; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 3;
        elf[64 + 8] = 130;
        elf[64 + 32] = 6;
        elf[130..136].copy_from_slice(b"/ld.so");
        let program = read(&elf);
        assert_eq!((program.machine, program.interpreter.as_deref()), (Some("arm64"), Some("/ld.so")));
        // Numbers that point anywhere do no harm.
        for at in [32, 56, 72, 96] {
            let mut wild = elf.clone();
            wild[at..at + 4].copy_from_slice(&[0xff; 4]);
            let _ = read(&wild);
        }
    }
}
