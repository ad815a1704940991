//! A disk that is full.

use std::os::fd::AsFd;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};

use crate::harness::{BOTH, Engine, Folders, pair, read_until, ready};

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
    let (client, theirs) = pair();
    engine.start(&folders, folders.start(&["sh", "-c", script]), vec![(theirs, BOTH)]);
    read_until(&client, "\n100000\n");
    std::fs::remove_file(&filler).expect("space again");
    std::fs::write(&fifo, "go\n").expect("go");
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

#[test]
fn the_end_is_written_even_if_the_disk_is_full() {
    if !ready() {
        return;
    }
    let folders = Folders::new();
    let disk = SmallDisk::new(&folders, "256k");
    std::fs::write(folders.data().join("exit.json"), r#"{"code":99,"time_ns":1,"oom_killed":false}"#)
        .expect("of an earlier run");
    let mut engine = Engine::spawn();
    engine.start(&folders, folders.start(&["sh", "-c", "seq 1 50000; exit 6"]), Vec::new());
    assert_eq!(engine.wait_exit().code, 6);
    std::fs::write(folders.data().join("filler"), [0; 65536]).expect_err("the disk is full");
    assert_eq!(folders.exit().expect("exit.json").code, 6);
    engine.shut_down(&folders);
    drop(disk);
}
