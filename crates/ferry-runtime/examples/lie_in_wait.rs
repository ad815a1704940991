//! For the tests: a root process in a container that looks at every other process there, as fast as it can, for anything of the host.
//!
//! Ends when `/stop` appears and prints what it saw: processes, programs of theirs that could be written and are not the image's, descriptors of
//! directories, working directories and roots that are not the container's, and those that are the host's
//! root (`device:inode`, the argument), and rights that are not the container's.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, metadata, read_dir, read_link};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// No process in the container has this capability of its own.
const SYS_ADMIN: u64 = 1 << 21;

#[derive(Default)]
struct Seen {
    processes: HashSet<u32>,
    writable: u64,
    directories: u64,
    foreign: u64,
    host: u64,
    rights: u64,
    looked_into: u64,
}

impl Seen {
    fn look(&mut self, pid: u32, root: (u64, u64), host: &str) {
        self.processes.insert(pid);
        let process = Path::new("/proc").join(pid.to_string());
        let program = process.join("exe");
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let effective =
            status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        let unfiltered = status.lines().any(|line| line == "Seccomp:\t0");
        self.rights += u64::from(unfiltered && effective.is_some_and(|set| set & SYS_ADMIN != 0));
        if read_link(&program).is_ok_and(|path| path != Path::new("/bin/busybox"))
            && OpenOptions::new().write(true).open(&program).is_ok()
        {
            self.writable += 1;
        }
        for name in ["cwd", "root"] {
            if let Ok(meta) = metadata(process.join(name)) {
                self.looked_into += 1;
                self.foreign += u64::from((meta.dev(), meta.ino()) != root);
                self.host += u64::from(format!("{}:{}", meta.dev(), meta.ino()) == host);
            }
        }
        let Ok(descriptors) = read_dir(process.join("fd")) else { return };
        for descriptor in descriptors.flatten() {
            // A shell has none of its own.
            if let Ok(meta) = metadata(descriptor.path()) {
                self.directories += u64::from(meta.is_dir() && (meta.dev(), meta.ino()) != root);
                self.host += u64::from(format!("{}:{}", meta.dev(), meta.ino()) == host);
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    let root = metadata("/")?;
    let root = (root.dev(), root.ino());
    let own = std::process::id();
    let host = std::env::args().nth(1).unwrap_or_default();
    out.write_all(b"watching\n")?;
    let mut seen = Seen::default();
    let mut next = own + 1;
    while File::open("/stop").is_err() {
        // Pids are given in order, so the next ones are where to look.
        let first = next;
        for pid in first..first + 4 {
            if Path::new("/proc").join(pid.to_string()).exists() {
                seen.look(pid, root, &host);
                next = next.max(pid);
            }
        }
        let newest = std::fs::read_to_string("/proc/loadavg")?;
        if let Some(newest) = newest.split_whitespace().last().and_then(|pid| pid.parse::<u32>().ok()) {
            next = next.max(newest);
        }
    }
    let Seen { processes, writable, directories, foreign, host, rights, looked_into } = seen;
    writeln!(
        out,
        "processes {}\nwritable {writable}\ndirectories {directories}\nforeign {foreign}\nhost {host}\nrights {rights}\nlooked into {looked_into}\nend",
        processes.len()
    )
}
