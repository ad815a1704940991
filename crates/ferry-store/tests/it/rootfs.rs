use std::os::unix::fs::symlink;

use ferry_store::{MountOptions, Store};

use crate::support::{Fixture, Tar};

#[test]
fn layers_lie_on_top_of_each_other() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.driver_name(), "overlayfs", "{:?}", fixture.store.driver_status());
    let a = Tar::new().dir("d/", 0o755).file("d/a", b"a").file("d/x", b"low").dir("o/", 0o755).file("o/old", b"").end();
    let b = Tar::new().file("d/x", b"high").file("d/.wh.a", b"").file("o/.wh..wh..opq", b"").file("o/new", b"").end();
    let a = fixture.apply(None, &a).unwrap();
    let b = fixture.apply(Some(&a), &b).unwrap();
    let mounted = fixture.mount(Some(&b), "one");
    assert_eq!(mounted.read("d/x"), "high");
    assert_eq!(mounted.names("d"), ["x"]);
    assert_eq!(mounted.names("o"), ["new"]);
    std::fs::write(mounted.path("d/mine"), b"mine").unwrap();
    let other = fixture.mount(Some(&b), "two");
    assert_eq!(other.names("d"), ["x"], "containers do not see each other's files");
    assert!(mounted.upper.join("d/mine").exists());
    drop(mounted);
    assert_eq!(fixture.mount(Some(&b), "one").names("d"), ["mine", "x"], "what was written is there again");
}

#[test]
fn an_image_without_layers_is_empty_and_writable() {
    let fixture = Fixture::new();
    let mounted = fixture.mount(None, "c");
    assert!(mounted.names("").is_empty());
    std::fs::write(mounted.path("x"), b"x").unwrap();
}

#[test]
fn volatile_and_read_only_mounts() {
    let fixture = Fixture::new();
    let chain = fixture.apply(None, &Tar::new().file("a", b"a").end()).unwrap();
    let dir = fixture.dir.path().join("c");
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let mount = |options| fixture.store.mount_rootfs(Some(&chain), &upper, &work, options).unwrap();
    for _ in 0..2 {
        // The kernel refuses a second volatile mount unless told that the first ended well.
        drop(mount(MountOptions { volatile: true, ..MountOptions::default() }));
    }
    let fd = mount(MountOptions { read_only: true, ..MountOptions::default() });
    let path = format!("/proc/self/fd/{}/new", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let error = std::fs::write(path, b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_missing_layer_is_named() {
    let fixture = Fixture::new();
    let chain = fixture.apply(None, &Tar::new().end()).unwrap();
    let other = Store::open(&fixture.dir.path().join("other")).unwrap();
    let error = other.mount_rootfs(Some(&chain), fixture.dir.path(), fixture.dir.path(), MountOptions::default());
    assert!(error.unwrap_err().is_not_found());
}

#[test]
fn five_hundred_layers_mount() {
    let fixture = Fixture::in_memory();
    let mut chain = None;
    for n in 0..500 {
        let tar = Tar::new().file(&format!("f{n}"), n.to_string().as_bytes()).file("last", n.to_string().as_bytes());
        chain = Some(fixture.apply(chain.as_ref(), &tar.end()).unwrap());
    }
    let mounted = fixture.mount(chain.as_ref(), "c");
    assert_eq!(mounted.read("last"), "499");
    assert_eq!(mounted.names("").len(), 501);
}

#[test]
fn paths_may_have_any_character_and_length() {
    let fixture = Fixture::new();
    let deep = format!("{}/a,b:c\\d\"e f", ["x".repeat(200), "y".repeat(200)].join("/"));
    let data = fixture.dir.path().join(deep);
    let store = Store::open(&data).unwrap();
    assert_eq!(store.driver_name(), "overlayfs");
    let chain = crate::support::apply(&store, None, &Tar::new().file("a", b"a").end()).unwrap();
    let (upper, work) = (data.join("c/upper"), data.join("c/work"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let fd = store.mount_rootfs(Some(&chain), &upper, &work, MountOptions::default()).unwrap();
    let root = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    assert_eq!(std::fs::read(format!("{root}/a")).unwrap(), b"a");
    std::fs::write(format!("{root}/b"), b"b").unwrap();
    assert!(upper.join("b").exists());
}

#[test]
fn a_data_root_behind_a_link_is_found() {
    let fixture = Fixture::new();
    let link = fixture.dir.path().join("link");
    symlink(fixture.data(), &link).unwrap();
    let store = Store::open(&link).unwrap();
    let chain = crate::support::apply(&store, None, &Tar::new().file("a", b"a").end()).unwrap();
    assert_eq!(fixture.diff(&chain).join("a").metadata().unwrap().len(), 1);
}
