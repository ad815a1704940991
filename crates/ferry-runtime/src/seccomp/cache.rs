//! Compiled filters on disk: `<digest of the profile>.bpf`.
//!
//! A file holds a line that names the format, the digest of the rest, and the instructions. A file that does not verify is made anew, and one
//! that cannot be written costs only the time: the filter itself never depends on the disk.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ferry_spec::Digest;
use ferry_spec::runtime::LinuxSeccomp;
use ferry_sys::seccomp::Instruction;

use crate::error::Error;

/// Changes with the generator or the tables, so that filters of another build are not taken.
const FORMAT: &str = concat!("ferry-seccomp 1 ", env!("CARGO_PKG_VERSION"));
const TABLE: &str = include_str!("syscalls.tsv");
const INSTRUCTION_SIZE: usize = 8;

/// Takes the program of a profile from the directory, or makes it and leaves it there.
pub(super) fn program(profile: &LinuxSeccomp, directory: &Path) -> Result<Vec<Instruction>, Error> {
    let text =
        serde_json::to_vec(profile).map_err(|error| Error::internal(format!("write the seccomp profile: {error}")))?;
    let path = directory.join(format!("{}.bpf", Digest::sha256(&[FORMAT.as_bytes(), &text].concat()).hex()));
    if let Some(program) = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)) {
        return Ok(program);
    }
    let program = super::compile(profile)?;
    // Another process may write the same file: both bring the same bytes, and the rename is whole.
    let _ = store(&path, &encode(&program));
    Ok(program)
}

fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut body = Vec::with_capacity(program.len() * INSTRUCTION_SIZE);
    for Instruction { code, jump_true, jump_false, k } in program {
        body.extend_from_slice(&code.to_le_bytes());
        body.extend_from_slice(&[*jump_true, *jump_false]);
        body.extend_from_slice(&k.to_le_bytes());
    }
    let mut bytes = format!("{FORMAT} {}\n{}\n", TABLE.len(), Digest::sha256(&body).hex()).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let head = format!("{FORMAT} {}\n", TABLE.len());
    let rest = bytes.strip_prefix(head.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (digest, body) = (&rest[..end], &rest[end + 1..]);
    let whole = !body.is_empty() && body.len() % INSTRUCTION_SIZE == 0;
    if !whole || Digest::sha256(body).hex().as_bytes() != digest {
        return None;
    }
    let instruction = |chunk: &[u8]| Instruction {
        code: u16::from_le_bytes([chunk[0], chunk[1]]),
        jump_true: chunk[2],
        jump_false: chunk[3],
        k: u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
    };
    Some(body.chunks_exact(INSTRUCTION_SIZE).map(instruction).collect())
}

fn store(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use ferry_spec::runtime::defaults;

    use super::*;

    #[test]
    fn damaged_file_is_made_anew() {
        let directory = std::env::temp_dir().join(format!("ferry-seccomp-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let profile = defaults::seccomp_profile(&defaults::capabilities());
        let first = program(&profile, &directory).unwrap();
        let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
        let good = std::fs::read(&file).unwrap();
        assert_eq!(decode(&good).unwrap(), first);
        for damage in [good.len() - 1, 0, 40] {
            let mut bad = good.clone();
            bad[damage] ^= 1;
            assert!(decode(&bad).is_none());
            std::fs::write(&file, &bad).unwrap();
            assert_eq!(program(&profile, &directory).unwrap(), first);
            assert_eq!(std::fs::read(&file).unwrap(), good);
        }
        assert!(decode(&good[..good.len() - 8]).is_none() && decode(b"").is_none());
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(program(&profile, &directory).unwrap(), first, "no directory is no failure");
    }
}
