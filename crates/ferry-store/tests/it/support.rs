//! Stores in folders of their own, and archives of any kind.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ferry_spec::digest::{ChainId, DiffId, Digest};
use ferry_store::{MountOptions, Store};

/// Tests here make devices, owners and mounts.
pub(crate) fn need_root() {
    assert!(rustix_is_root(), "these tests need root: run them as root or in a user namespace that maps it");
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// Asserts that a test program which was told to run one test did so, and it passed.
#[track_caller]
pub(crate) fn assert_one_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Not at the beginning of a line, where it would be taken for the outer program's own list and counts.
    let shown: String = said.lines().map(|line| format!("  | {line}\n")).collect();
    assert!(output.status.success() && said.contains("1 passed"), "\n{shown}");
}

/// A data root in a temporary folder.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// In memory, for what syncs very often.
    pub(crate) fn in_memory() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        need_root();
        let store = Store::open(&dir.path().join("data")).unwrap();
        Self { dir, store }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Unpacks a tar onto `parent`.
    pub(crate) fn apply(&self, parent: Option<&ChainId>, tar: &[u8]) -> ferry_store::Result<ChainId> {
        apply(&self.store, parent, tar)
    }

    /// Returns the folder of a layer.
    pub(crate) fn diff(&self, chain: &ChainId) -> PathBuf {
        self.data().join("layers").join(chain.hex()).join("diff")
    }

    /// Mounts a chain; the result is used through `/proc/self/fd`.
    pub(crate) fn mount(&self, chain: Option<&ChainId>, name: &str) -> Mounted {
        let container = self.dir.path().join(name);
        let (upper, work) = (container.join("upper"), container.join("work"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let fd = self.store.mount_rootfs(chain, &upper, &work, MountOptions::default()).unwrap();
        Mounted { fd, upper }
    }

    /// Names of everything below the folder of layers that is no finished layer.
    pub(crate) fn left_overs(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.data().join("layers"))
            .unwrap()
            .chain(std::fs::read_dir(self.data().join("content/ingest")).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !matches!(name.as_str(), "l" | "empty") && name.len() != 64)
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn apply(store: &Store, parent: Option<&ChainId>, tar: &[u8]) -> ferry_store::Result<ChainId> {
    store.apply_layer(parent, &diff_id(tar), "application/vnd.oci.image.layer.v1.tar", tar)
}

pub(crate) fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::sha256(tar))
}

/// A mounted root file system.
pub(crate) struct Mounted {
    pub(crate) fd: OwnedFd,
    pub(crate) upper: PathBuf,
}

impl Mounted {
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Builds archives, also those that no honest program writes.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

/// The fields of one header; what is not said is a plain file of root's.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
    pub(crate) mtime: u64,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self { name: b"", flag: b'0', mode: 0o644, owner: (0, 0), link: b"", device: (0, 0), mtime: 1_600_000_000 }
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn header(mut self, header: &Header<'_>, size: u64, data: &[u8]) -> Self {
        let mut block = [0u8; 512];
        let name = &header.name[..header.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        let mut octal = |at: usize, width: usize, value: u64| {
            let text = format!("{value:0width$o}\0", width = width - 1);
            if text.len() <= width {
                block[at..at + text.len()].copy_from_slice(text.as_bytes());
            } else {
                let bytes = value.to_be_bytes();
                block[at + width - 8..at + width].copy_from_slice(&bytes);
                block[at] |= 0x80;
            }
        };
        octal(100, 8, header.mode.into());
        octal(108, 8, header.owner.0.into());
        octal(116, 8, header.owner.1.into());
        octal(124, 12, size);
        octal(136, 12, header.mtime);
        octal(329, 8, header.device.0.into());
        octal(337, 8, header.device.1.into());
        block[156] = header.flag;
        let link = &header.link[..header.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self.raw(data)
    }

    /// Adds bytes, padded to a block.
    pub(crate) fn raw(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.header(&Header { name: name.as_bytes(), ..Header::default() }, data.len() as u64, data)
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.header(&Header { name: name.as_bytes(), flag: b'5', mode, ..Header::default() }, 0, b"")
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        let header =
            Header { name: name.as_bytes(), flag: b'2', mode: 0o777, link: link.as_bytes(), ..Header::default() };
        self.header(&header, 0, b"")
    }

    pub(crate) fn hard_link(self, name: &str, link: &str) -> Self {
        self.header(&Header { name: name.as_bytes(), flag: b'1', link: link.as_bytes(), ..Header::default() }, 0, b"")
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length = length.to_string().len() + rest;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.header(&Header { name: b"PaxHeaders/x", flag: b'x', ..Header::default() }, data.len() as u64, &data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// Without the end mark.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Tells about everything below a folder, links not followed: names, kinds, modes, owners, link counts, content.
pub(crate) fn describe(folder: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let mut lines = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            Digest::sha256(&std::fs::read(&path).unwrap()).to_string()
        } else if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        lines.push(format!(
            "{name} {:o} {}:{} {} {} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.rdev()
        ));
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines.join("\n")
}
