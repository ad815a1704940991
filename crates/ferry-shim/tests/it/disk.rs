//! A disk that is full.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};

use crate::harness::{Engine, Folders, ready};

/// A small file system over the container's data folder.
struct SmallDisk<'a>(&'a Folders);

impl<'a> SmallDisk<'a> {
    fn new(folders: &'a Folders, size: &str) -> Self {
        use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount};
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("tmpfs");
        fsconfig_set_string(fs.as_fd(), "size", size).expect("size");
        fsconfig_create(fs.as_fd()).expect("create");
        let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("mount");
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount.as_fd(), "", rustix::fs::CWD, folders.data(), flags).expect("place");
        Self(folders)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.data(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_log_lines_and_the_log_says_how_many() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let disk = SmallDisk::new(&folders, "1m");
    let filler = folders.data().join("filler");
    std::fs::write(&filler, vec![0; 512 * 1024]).expect("filler");
    let fifo = folders.base.join("rootfs/tmp/go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("fifo");
    let mut engine = Engine::spawn();
    let script = "seq 1 100000; read go < /tmp/go; echo after; exit 4";
    engine.start(&folders, folders.start(&["sh", "-c", script]), Vec::new());
    // This waits for the script to open the other end: all its lines are in the pipe then, and most were read from it.
    let mut go = File::options().write(true).open(&fifo).expect("go");
    std::fs::remove_file(&filler).expect("space again");
    go.write_all(b"go\n").expect("go");
    assert_eq!(engine.wait_exit().code, 4);
    assert_eq!(folders.exit().expect("exit.json").code, 4);
    let log = folders.log();
    assert_eq!(log.last().map(|(_, line)| line.as_str()), Some("after\n"));
    let lost = log.iter().filter_map(|(_, line)| line.strip_prefix("ferry: ")).map(|text| {
        assert!(text.ends_with(" log lines were lost: No space left on device (os error 28)\n"), "{text}");
        text.split(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a count")
    });
    let lost: usize = lost.sum();
    assert!(lost > 1000, "the disk was not full");
    let kept =
        log.iter().filter(|(stream, line)| *stream == "stdout" && line.trim_end().parse::<u32>().is_ok()).count();
    assert_eq!(kept + lost, 100_000);
    engine.shut_down(&folders);
    drop(disk);
}
