//! A data root that itself lies on an overlay, as in a container: no overlay on top of it is possible.
//!
//! Each test runs itself once more in a mount namespace of its own, with an overlay mounted below its temporary folder.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use ferry_spec::digest::ChainId;
use ferry_store::{Live, MountOptions, Store};

use crate::support::{Fixture, Header, Mounted, Tar, apply, assert_one_passed, describe, need_root};

const PLACE: &str = "FERRY_TEST_ON_OVERLAY";

/// Returns a folder on an overlay, inside; runs `test` again with one, outside.
fn on_overlay(test: &str) -> Option<PathBuf> {
    if let Some(place) = std::env::var_os(PLACE) {
        return Some(PathBuf::from(place));
    }
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let script = r#"cd "$0" && mkdir lower upper work merged &&
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged &&
        FERRY_TEST_ON_OVERLAY="$0/merged" exec "$1" --exact "$2" --nocapture"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .output()
        .unwrap();
    assert_one_passed(&output);
    None
}

fn mount(store: &Store, chain: Option<&ChainId>, place: &std::path::Path, options: MountOptions) -> Mounted {
    let (upper, work) = (place.join("upper"), place.join("work"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let fd = store.mount_rootfs(chain, &upper, &work, options).unwrap();
    Mounted { fd, upper }
}

/// Three layers with every way of hiding and merging.
fn layers() -> [Vec<u8>; 3] {
    let set_id = Header { name: b"bin/su", mode: 0o4711, owner: (1, 2), ..Header::default() };
    let first = Tar::new()
        .dir("./", 0o755)
        .dir("bin/", 0o751)
        .header(&set_id, 2, b"su")
        .hard_link("bin/su2", "bin/su")
        .file("bin/extra", b"")
        .dir("tmp/", 0o1777)
        .dir("gone/", 0o755)
        .file("gone/x", b"x")
        .dir("opaque/", 0o755)
        .file("opaque/old", b"old")
        .file("replaced", b"file")
        .dir("was-dir/", 0o755)
        .file("was-dir/x", b"")
        .file("file", b"first")
        .symlink("link", "file")
        .symlink("to-bin", "bin")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("noted", b"")
        .end();
    let second = Tar::new()
        .file(".wh.gone", b"")
        .dir("opaque/", 0o700)
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"new")
        .dir("replaced/", 0o755)
        .file("replaced/y", b"y")
        .file("was-dir", b"now a file")
        .file("tmp/implied", b"")
        .file("bin/.wh.extra", b"")
        .end();
    let third = Tar::new()
        .file("gone/back", b"back")
        .file("file", b"third")
        .symlink("deep/l", "../bin")
        .file("to-bin/through-link", b"")
        .file(".wh.never-there", b"")
        .end();
    [first, second, third]
}

fn apply_all(store: &Store) -> ChainId {
    let mut chain = None;
    for tar in layers() {
        chain = Some(apply(store, chain.as_ref(), &tar).unwrap());
    }
    chain.unwrap()
}

#[test]
fn a_copy_looks_as_an_overlay_would() {
    let Some(place) = on_overlay("nested::a_copy_looks_as_an_overlay_would") else { return };
    // The same layers, off the overlay: the temporary folder that holds it.
    let plain = Store::open(&place.parent().unwrap().join("plain")).unwrap();
    assert_eq!(plain.driver_name(), "overlayfs");
    let expected = mount(&plain, Some(&apply_all(&plain)), &place.parent().unwrap().join("c"), MountOptions::default());
    let store = Store::open(&place.join("data")).unwrap();
    assert_eq!(store.driver_name(), "vfs");
    assert!(store.driver_status().contains(&("Backing Filesystem".to_owned(), "overlayfs".to_owned())));
    let chain = apply_all(&store);
    let mounted = mount(&store, Some(&chain), &place.join("c"), MountOptions::default());
    let listing = |mounted: &Mounted| {
        let text = describe(&mounted.path("."));
        // Folders count their links differently.
        let lines = text.lines().map(|line| match line.split_once(" 4") {
            Some((name, rest)) => format!("{name} 4{}", rest.split(' ').take(2).collect::<Vec<_>>().join(" ")),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(listing(&mounted), listing(&expected));
    assert_eq!(mounted.read("link"), "third");
    assert_eq!(mounted.names("gone"), ["back"]);
    assert_eq!(mounted.names("opaque"), ["new"]);
    let mode = |name: &str| std::fs::metadata(mounted.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("opaque"), mode("bin/su")), (0o1777, 0o700, 0o4711));
}

#[test]
fn a_copy_is_made_once_and_whole() {
    let Some(place) = on_overlay("nested::a_copy_is_made_once_and_whole") else { return };
    let store = Store::open(&place.join("data")).unwrap();
    let chain = apply_all(&store);
    let container = place.join("c");
    // One that was cut short has no mark and is begun anew.
    std::fs::create_dir_all(container.join("upper/bin")).unwrap();
    std::fs::write(container.join("upper/half"), b"").unwrap();
    let mounted = mount(&store, Some(&chain), &container, MountOptions::default());
    assert!(!mounted.path("half").exists());
    std::fs::write(mounted.path("mine"), b"mine").unwrap();
    std::fs::remove_file(mounted.path("file")).unwrap();
    drop(mounted);
    let again = mount(&store, Some(&chain), &container, MountOptions { volatile: true, ..MountOptions::default() });
    assert_eq!(again.read("mine"), "mine");
    assert!(!again.path("file").exists());
    let read_only =
        mount(&store, Some(&chain), &container, MountOptions { read_only: true, ..MountOptions::default() });
    assert!(std::fs::write(read_only.path("new"), b"").is_err());
    let other = mount(&store, Some(&chain), &place.join("other"), MountOptions::default());
    assert!(other.path("file").exists() && !other.path("mine").exists());
    let empty = mount(&store, None, &place.join("empty"), MountOptions::default());
    assert!(empty.names("").is_empty());
    let inode = |name: &str| std::fs::metadata(other.path(name)).unwrap().ino();
    assert_ne!(inode("file"), 0);
    let reopened = Store::open(&place.join("data")).unwrap();
    assert!(reopened.has_layer(&chain));
    reopened.collect(&Live::default()).unwrap();
    assert!(reopened.layers().is_empty());
}

#[test]
fn layers_unpacked_on_an_overlay_serve_elsewhere_too() {
    let Some(place) = on_overlay("nested::layers_unpacked_on_an_overlay_serve_elsewhere_too") else { return };
    let store = Store::open(&place.join("data")).unwrap();
    let chain = apply_all(&store);
    drop(store);
    // The upper folder of that overlay is where the data root really lies, and there overlay works.
    let moved = place.parent().unwrap().join("moved");
    let copied = Command::new("cp").arg("-a").arg(place.join("data")).arg(&moved).status().unwrap();
    assert!(copied.success());
    let store = Store::open(&moved).unwrap();
    assert_eq!(store.driver_name(), "overlayfs");
    let mounted = mount(&store, Some(&chain), &place.parent().unwrap().join("c2"), MountOptions::default());
    assert_eq!(mounted.names("gone"), ["back"]);
    assert_eq!(mounted.names("opaque"), ["new"]);
    assert!(!mounted.path("bin/extra").exists() && mounted.path("bin/su").exists());
    assert_eq!(mounted.read("was-dir"), "now a file");
}

#[test]
fn off_an_overlay_nothing_of_this_happens() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.driver_name(), "overlayfs");
}

#[test]
fn a_mount_that_a_kill_left_is_taken_off_before_the_sweep() {
    // For its mount namespace.
    let Some(place) = on_overlay("nested::a_mount_that_a_kill_left_is_taken_off_before_the_sweep") else { return };
    let data = place.parent().unwrap().join("plain");
    drop(Store::open(&data).unwrap());
    let (left, precious) = (data.join("layers/.new-0"), place.parent().unwrap().join("precious"));
    for folder in [&left, &precious] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(precious.join("file"), b"x").unwrap();
    let mounted = Command::new("mount").arg("--bind").arg(&precious).arg(&left).status().unwrap();
    assert!(mounted.success());
    Store::open(&data).unwrap();
    assert!(!left.exists());
    assert_eq!(std::fs::read(precious.join("file")).unwrap(), b"x");
}
