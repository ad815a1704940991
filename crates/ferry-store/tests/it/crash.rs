//! Kills at any moment and disks that fill up.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::reference::Reference;
use ferry_store::{Live, Store};

use crate::collection::{assert_whole, layers, make_image};
use crate::support::{Fixture, Tar, apply, assert_one_passed, describe, diff_id, gzip, need_root};

const DATA: &str = "FERRY_TEST_CRASH_DATA";

/// Pulls, names, removes and collects until it is killed.
fn work_until_killed(data: &Path) -> ! {
    let store = Store::open(data).unwrap();
    for round in 0u64.. {
        let lease = store.lease();
        let own = format!("own-{}", round % 3);
        let (target, _) = make_image(&store, &layers(&["base", "middle", &own]));
        let reference = Reference::parse(&format!("image:{}", round % 2)).unwrap();
        store.set_image(&reference, &target, 0).unwrap();
        drop(lease);
        if round % 3 == 2 {
            store.remove_image(&reference).unwrap();
            store.collect(&Live::default()).unwrap();
        }
    }
    unreachable!("the rounds do not end")
}

#[test]
fn a_kill_at_any_moment_leaves_only_whole_things() {
    if let Some(data) = std::env::var_os(DATA) {
        work_until_killed(Path::new(&data));
    }
    let fixture = Fixture::new();
    let expected = |name: &str| {
        let other = Store::open(&fixture.dir.path().join("expected")).unwrap();
        let chain = apply(&other, None, &layers(&[name])[0]).unwrap();
        describe(&fixture.dir.path().join("expected/layers").join(chain.hex()).join("diff"))
    };
    let names = ["base", "middle", "own-0", "own-1", "own-2"];
    let looks: Vec<(ferry_spec::DiffId, String)> =
        names.iter().map(|name| (diff_id(&layers(&[name])[0]), expected(name))).collect();
    let mut images_seen = 0;
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_kill_at_any_moment_leaves_only_whole_things"])
            .env(DATA, fixture.data())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Not to wait for anything: to hit another moment each time.
        std::thread::sleep(Duration::from_millis(20 + round * 13 % 170));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&fixture.data()).unwrap();
        // The beginning of a blob is kept for who goes on with it.
        let mut left = fixture.left_overs();
        left.retain(|name| !name.ends_with(".part"));
        assert_eq!(left, Vec::<String>::new(), "round {round}");
        for layer in store.layers() {
            let (_, look) = looks.iter().find(|(diff_id, _)| *diff_id == layer.diff_id).unwrap();
            assert_eq!(describe(&fixture.diff(&layer.chain_id)), *look, "round {round}");
        }
        for (digest, size) in store.blobs().unwrap() {
            assert_eq!(store.read_blob(&digest, size).unwrap().len() as u64, size);
        }
        for image in store.images().unwrap() {
            images_seen += 1;
            for chain in store.reachable(&image.target).chains {
                assert_whole(&store, &image.target, &chain);
            }
        }
        assert_eq!(std::fs::read_dir(fixture.data().join("layers/l")).unwrap().count(), store.layers().len());
    }
    assert!(images_seen > 0, "the kills came too early to show anything");
}

const DISK: &str = "FERRY_TEST_SMALL_DISK";

/// Fills what is left of a disk but for `spare` bytes.
fn fill(disk: &Path, spare: u64) {
    let ballast = disk.join("ballast");
    let status = Command::new("sh")
        .args(["-c", "head -c 100M /dev/zero > \"$0\" 2>/dev/null; truncate -s -$1 \"$0\"; true"])
        .arg(&ballast)
        .arg(spare.to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(disk) = std::env::var_os(DISK) else {
        need_root();
        let dir = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o size=16M tmpfs "$0" &&
            FERRY_TEST_SMALL_DISK="$0" exec "$1" --exact crash::a_full_disk_is_named_and_leaves_nothing --nocapture"#;
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .output()
            .unwrap();
        assert_one_passed(&output);
        return;
    };
    let disk = Path::new(&disk);
    let store = Store::open(&disk.join("data")).unwrap();
    let data: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    let tar = Tar::new().dir("d/", 0o755).file("d/a", &data).file("d/b", &data).end();
    let blob = gzip(&tar);
    let target = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b""), 0);
    let reference = Reference::parse("image:1").unwrap();
    for spare in [0u64, 8 << 10, 64 << 10, 512 << 10, 3 << 20] {
        let before = describe(&disk.join("data"));
        fill(disk, spare);
        let unpacked = store.apply_layer(None, &diff_id(&tar), "", &blob[..]);
        assert!(unpacked.unwrap_err().is_no_space(), "{spare} spare");
        if spare < 1 << 20 {
            let error = store.put_blob(&data).unwrap_err();
            assert!(error.is_no_space(), "{spare} spare: {error:?}");
            let error = store.load_archive(&Tar::new().file("x", &data).end()[..]).unwrap_err();
            assert!(error.is_no_space(), "{spare} spare: {error:?}");
        }
        if spare == 0 {
            let error = store.set_image(&reference, &target, 0).unwrap_err();
            assert!(error.is_no_space(), "{error:?}");
        }
        assert_eq!(describe(&disk.join("data")), before, "{spare} spare");
        std::fs::remove_file(disk.join("ballast")).unwrap();
    }
    apply(&store, None, &tar).unwrap();
    store.set_image(&reference, &target, 0).unwrap();
}

#[test]
fn bytes_changed_at_random_never_panic_and_leave_nothing() {
    let fixture = Fixture::new();
    let tar = Tar::new()
        .pax(&[("path", b"a/long/name"), ("SCHILY.xattr.user.x", b"y"), ("mtime", b"1.5")])
        .dir("a/", 0o755)
        .file("a/f", b"content")
        .symlink("a/l", "f")
        .hard_link("a/h", "a/f")
        .file("a/.wh.gone", b"")
        .file(".wh..wh..opq", b"")
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"2000")])
        .file("sparse", &[b"1\n0\n3\n".to_vec(), vec![0; 506], b"abc".to_vec()].concat())
        .end();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let mut refused = 0;
    for _ in 0..500 {
        let mut bytes = tar.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        // Checksums would stop nearly everything at the gate.
        for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        // With the diff id of what was there before, so that nothing is ever published.
        if fixture.store.apply_layer(None, &diff_id(b"none"), "", &bytes[..]).is_err() {
            refused += 1;
        }
    }
    assert_eq!(refused, 500);
    assert!(fixture.left_overs().is_empty());
    let _ = fixture.store.load_archive(&tar[..]).unwrap_err();
}
