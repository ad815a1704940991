use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferry_spec::digest::ChainId;
use ferry_store::{Error, Store};

use crate::support::{Fixture, Header, Tar, apply, describe, diff_id, gzip, run};

/// A tree with everything that GNU tar can carry.
fn make_tree(dir: &Path) {
    let script = r"
        set -e
        mkdir -p tree/etc tree/usr/bin tree/deep/a/b/c tree/tmp tree/dev
        cd tree
        echo root:x:0:0 > etc/passwd
        head -c 3000000 /dev/urandom > usr/bin/big
        echo setuid > usr/bin/su; chown 7:8 usr/bin/su; chmod 4755 usr/bin/su
        ln usr/bin/su usr/bin/su2
        ln -s ../etc/passwd usr/passwd; chown -h 5:6 usr/passwd
        mkfifo fifo; mknod dev/null c 1 3; mknod dev/blk b 254 1
        chmod 1777 tmp; chown 33:33 deep/a; chmod 2750 deep/a
        setfattr -n user.note -v hello etc/passwd
        setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 usr/bin/big
        truncate -s 10M sparse; printf x | dd of=sparse bs=1 seek=5000000 conv=notrunc 2>/dev/null
        longname=$(printf 'n%.0s' $(seq 1 200)); echo long > $longname; ln -s $longname$longname longlink
        printf 'caf\303\251' > $(printf 'caf\303\251')
        : > empty
        touch -h -d '2001-02-03 04:05:06.789' usr/passwd etc/passwd fifo
        touch -d '1999-01-01 00:00:00.5' deep/a/b deep/a etc
    ";
    run("sh", &["-c", script], dir);
}

fn assert_same(unpacked: &Path, original: &Path) {
    assert_eq!(describe(unpacked), describe(original));
    let times = |root: &Path| {
        ["etc/passwd", "usr/passwd", "fifo", "deep/a", "deep/a/b", "etc", "sparse"]
            .map(|name| std::fs::symlink_metadata(root.join(name)).map(|m| (m.mtime(), m.mtime_nsec())).unwrap())
    };
    assert_eq!(times(unpacked), times(original));
    let names = "getfattr --absolute-names -h -d -m '^(user|security)' etc/passwd usr/bin/big";
    assert_eq!(run("sh", &["-c", names], unpacked), run("sh", &["-c", names], original));
    let blocks = |root: &Path| std::fs::metadata(root.join("sparse")).unwrap().blocks();
    assert!(blocks(unpacked) <= blocks(original) + 16, "holes stay holes");
}

#[test]
fn what_gnu_tar_packs_is_unpacked_alike() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    make_tree(dir);
    let tree = dir.join("tree");
    let pax = ["--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner"];
    for (name, extra) in [
        ("pax", &["--sparse"][..]),
        ("pax sparse 0.0", &["--sparse", "--sparse-version=0.0"]),
        ("pax sparse 0.1", &["--sparse", "--sparse-version=0.1"]),
        ("dot", &["--sparse", "--no-recursion"]),
    ] {
        let mut args = pax.to_vec();
        args.extend_from_slice(extra);
        let list = run("sh", &["-c", "find . -mindepth 1 | sort"], &tree);
        std::fs::write(dir.join("list"), list).unwrap();
        let tail: &[&str] = if name == "dot" { &["-T", "../list", "-cf", "-", "."] } else { &["-cf", "-", "."] };
        args.extend_from_slice(tail);
        let tar = run("tar", &args, &tree);
        let data = dir.join(name);
        let store = Store::open(&data).unwrap();
        let chain = apply(&store, None, &tar).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_same(&data.join("layers").join(chain.hex()).join("diff"), &tree);
    }
}

#[test]
fn gnu_format_is_unpacked_alike() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    make_tree(dir);
    let tree = dir.join("tree");
    // This format has neither attributes nor parts of a second.
    let script = "find . -exec touch -h -d '2010-10-10 10:10:10' {} + ; setfattr -x user.note etc/passwd; setfattr -x security.capability usr/bin/big";
    run("sh", &["-c", script], &tree);
    let tar = run("tar", &["--format=gnu", "--sparse", "--numeric-owner", "-cf", "-", "."], &tree);
    let chain = fixture.apply(None, &tar).unwrap();
    assert_eq!(describe(&fixture.diff(&chain)), describe(&tree));
    let meta = std::fs::metadata(fixture.diff(&chain).join("deep/a/b")).unwrap();
    assert_eq!(meta.mtime(), std::fs::metadata(tree.join("deep/a/b")).unwrap().mtime());
}

#[test]
fn compression_is_told_by_the_bytes() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", b"hello").end();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let half = tar.len() / 2;
    let members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    for (name, bytes) in [("gzip", gzip(&tar)), ("zstd", zstd), ("plain", tar.clone()), ("members", members)] {
        let data = fixture.dir.path().join(name);
        let store = Store::open(&data).unwrap();
        // The media type says something else each time, and does not matter.
        let chain = store.apply_layer(None, &diff_id(&tar), "text/plain", &bytes[..]).unwrap();
        let file = data.join("layers").join(chain.hex()).join("diff/a");
        assert_eq!(std::fs::read(file).unwrap(), b"hello", "{name}");
    }
}

#[test]
fn broken_layers_leave_nothing() {
    let fixture = Fixture::new();
    let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let tar = Tar::new().dir("d/", 0o755).file("d/a", &data).file("d/b", b"b").end();
    let zipped = gzip(&tar);
    let mut flipped = zipped.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let cut = &zipped[..zipped.len() - 100];
    let corrupt_tar = {
        let mut bytes = tar.clone();
        bytes[148] ^= 1;
        bytes
    };
    let cut_tar = &tar[..1000];
    let other = Tar::new().file("other", b"").end();
    let mut garbage = zipped.clone();
    garbage.extend_from_slice(b"garbage");
    for (name, bytes) in [
        ("flipped", &flipped[..]),
        ("cut", cut),
        ("corrupt tar", &corrupt_tar),
        ("cut tar", cut_tar),
        ("wrong diff id", &other),
        ("garbage behind", &garbage),
        ("bzip2", b"BZh91AY&SY"),
        ("xz", b"\xfd7zXZ\0abc"),
    ] {
        let error = fixture.store.apply_layer(None, &diff_id(&tar), "", bytes).unwrap_err();
        assert!(error.is_bad_content(), "{name}: {error:?}");
        assert!(!fixture.store.has_layer(&ChainId(diff_id(&tar).0)), "{name}");
        assert!(fixture.left_overs().is_empty(), "{name}: {:?}", fixture.left_overs());
    }
    fixture.apply(None, &tar).unwrap();
}

#[test]
fn the_wrong_diff_id_is_named() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", b"").end();
    let wrong = diff_id(b"wrong");
    let error = fixture.store.apply_layer(None, &wrong, "", &tar[..]).unwrap_err();
    assert!(matches!(error, Error::WrongDiffId { expected, actual } if expected == wrong && actual == diff_id(&tar)));
}

#[test]
fn whiteouts_become_overlays_own() {
    let fixture = Fixture::new();
    let tar = Tar::new()
        .dir("d/", 0o755)
        .file("d/.wh.gone", b"")
        .dir("o/", 0o755)
        .file("o/.wh..wh..opq", b"")
        .file("o/mine", b"x")
        .file(".wh.top", b"")
        .file("both", b"stays")
        .file(".wh.both", b"")
        .file(".wh.dir", b"")
        .file("dir/new", b"n")
        .file(".wh..wh.plnk/1.2", b"ignored")
        .end();
    let chain = fixture.apply(None, &tar).unwrap();
    let diff = fixture.diff(&chain);
    for name in ["d/gone", "top"] {
        let meta = std::fs::symlink_metadata(diff.join(name)).unwrap();
        assert!(meta.file_type().is_char_device() && meta.rdev() == 0, "{name}");
    }
    assert_eq!(std::fs::read(diff.join("both")).unwrap(), b"stays");
    for name in ["o", "dir"] {
        let value = run("getfattr", &["--absolute-names", "-n", "trusted.overlay.opaque", name], &diff);
        assert!(String::from_utf8(value).unwrap().contains("=\"y\""), "{name}");
    }
    assert!(!diff.join(".wh..wh.plnk").exists());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let fixture = Fixture::new();
    let tar = Tar::new()
        .file("file-file", b"1")
        .file("file-file", b"22")
        .dir("dir-file/", 0o755)
        .file("dir-file/x", b"")
        .dir("dir-file/sub/", 0o755)
        .file("dir-file/sub/y", b"")
        .file("dir-file", b"now a file")
        .file("file-dir", b"")
        .dir("file-dir/", 0o700)
        .file("file-dir/x", b"x")
        .dir("dir-dir/", 0o700)
        .file("dir-dir/keep", b"k")
        .dir("dir-dir/", 0o751)
        .symlink("link", "file-file")
        .file("link", b"no link")
        .hard_link("file-file", "file-file")
        .file("a", b"a")
        .hard_link("b", "a")
        .hard_link("b", "./a")
        .end();
    let chain = fixture.apply(None, &tar).unwrap();
    let diff = fixture.diff(&chain);
    let read = |name: &str| std::fs::read_to_string(diff.join(name)).unwrap();
    assert_eq!(read("file-file"), "22");
    assert_eq!(read("dir-file"), "now a file");
    assert_eq!(read("file-dir/x"), "x");
    assert_eq!(read("dir-dir/keep"), "k");
    assert_eq!(std::fs::metadata(diff.join("dir-dir")).unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(read("link"), "no link");
    assert_eq!(std::fs::metadata(diff.join("b")).unwrap().nlink(), 2);
}

#[test]
fn old_and_odd_entries_are_understood() {
    let fixture = Fixture::new();
    let tar = Tar::new()
        .header(&Header { name: b"olddir/", flag: 0, mode: 0o755, ..Header::default() }, 0, b"")
        .header(&Header { name: b"olddir/oldfile", flag: 0, ..Header::default() }, 3, b"abc")
        .header(&Header { name: b"contiguous", flag: b'7', ..Header::default() }, 1, b"c")
        .header(&Header { name: b"label", flag: b'V', ..Header::default() }, 0, b"")
        .header(&Header { name: b"pax_global_header", flag: b'g', ..Header::default() }, 9, b"9 path=x\n")
        .pax(&[("path", b"long/name"), ("uid", b"3000000"), ("mtime", b"-1.25"), ("unknown.key", b"x")])
        .file("short", b"pax")
        .end();
    let chain = fixture.apply(None, &tar).unwrap();
    let diff = fixture.diff(&chain);
    assert!(diff.join("olddir").is_dir());
    assert_eq!(std::fs::read(diff.join("olddir/oldfile")).unwrap(), b"abc");
    assert_eq!(std::fs::read(diff.join("contiguous")).unwrap(), b"c");
    let meta = std::fs::metadata(diff.join("long/name")).unwrap();
    assert_eq!((meta.uid(), meta.mtime(), meta.mtime_nsec()), (3_000_000, -2, 750_000_000));
    assert!(!diff.join("label").exists());
}

#[test]
fn an_archive_may_end_without_its_mark() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", b"a").cut();
    fixture.apply(None, &tar).unwrap();
}

#[test]
fn a_hard_link_into_the_layers_below_brings_its_target_along() {
    let fixture = Fixture::new();
    let header = Header { name: b"bin/tool", mode: 0o4755, owner: (3, 4), mtime: 1_234_567_890, ..Header::default() };
    let base = Tar::new().dir("bin/", 0o751).header(&header, 4, b"tool").end();
    let base = fixture.apply(None, &base).unwrap();
    let next = fixture.apply(Some(&base), &Tar::new().hard_link("usr/tool2", "bin/tool").end()).unwrap();
    let mounted = fixture.mount(Some(&next), "c");
    let meta = |name: &str| std::fs::metadata(mounted.path(name)).unwrap();
    assert_eq!(mounted.read("usr/tool2"), "tool");
    assert_eq!(meta("bin/tool").ino(), meta("usr/tool2").ino());
    assert_eq!((meta("usr/tool2").mode() & 0o7777, meta("usr/tool2").uid(), meta("usr/tool2").gid()), (0o4755, 3, 4));
    assert_eq!(meta("usr/tool2").mtime(), 1_234_567_890);
    assert_eq!(meta("bin").mode() & 0o7777, 0o751, "the folder keeps the looks of the one below");
    for target in ["bin/none", "bin", "../../etc/passwd"] {
        let tar = Tar::new().hard_link("x", target).end();
        assert!(fixture.apply(Some(&base), &tar).unwrap_err().is_bad_content(), "{target}");
    }
}

#[test]
fn folders_that_are_only_implied_keep_their_looks() {
    let fixture = Fixture::new();
    let base = fixture.apply(None, &Tar::new().dir("tmp/", 0o1777).dir("a/", 0o700).dir("a/b/", 0o2755).end()).unwrap();
    let next = fixture.apply(Some(&base), &Tar::new().file("tmp/x", b"").file("a/b/c/d", b"").end()).unwrap();
    let mounted = fixture.mount(Some(&next), "c");
    let mode = |name: &str| std::fs::metadata(mounted.path(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("a"), mode("a/b"), mode("a/b/c")), (0o1777, 0o700, 0o2755, 0o755));
}

#[test]
fn folders_that_are_only_implied_do_not_replace_links() {
    let fixture = Fixture::new();
    let base = Tar::new()
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o751)
        .file("usr/lib/old", b"old")
        .symlink("lib", "usr/lib")
        .symlink("lib64", "/lib")
        .symlink("explicit", "usr/lib")
        .symlink("dangling", "nowhere")
        .end();
    let base = fixture.apply(None, &base).unwrap();
    let next = Tar::new()
        .file("lib/new", b"new")
        .dir("lib/sub/", 0o700)
        .file("lib/sub/x", b"x")
        .file("lib64/sub/y", b"y")
        .dir("explicit/", 0o755)
        .file("explicit/own", b"")
        .file("dangling/own", b"")
        .end();
    let next = fixture.apply(Some(&base), &next).unwrap();
    let mounted = fixture.mount(Some(&next), "c");
    assert_eq!(mounted.names("usr/lib"), ["new", "old", "sub"]);
    assert_eq!(mounted.names("usr/lib/sub"), ["x", "y"]);
    for link in ["lib", "lib64"] {
        assert!(std::fs::symlink_metadata(mounted.path(link)).unwrap().is_symlink(), "{link}");
    }
    assert_eq!(mounted.names("explicit"), ["own"], "a folder that is said to be one is one");
    assert_eq!(mounted.names("dangling"), ["own"]);
    let meta = |name: &str| std::fs::metadata(mounted.path(name)).unwrap();
    assert_eq!((meta("usr/lib").mode() & 0o7777, meta("usr/lib/sub").mode() & 0o7777), (0o751, 0o700));
    assert_eq!(meta("usr/lib/sub").mtime(), 1_600_000_000);
}

#[test]
fn a_layer_waits_for_those_below_that_were_announced() {
    let fixture = Fixture::new();
    let low = Tar::new().dir("bin/", 0o700).file("bin/tool", &vec![1; 1 << 20]).end();
    let middle = Tar::new().file("middle", b"").end();
    let top = Tar::new().hard_link("tool", "bin/tool").file("bin/own", b"").end();
    let low_id = ChainId(diff_id(&low).0);
    let middle_id = ChainId::child(Some(&low_id), &diff_id(&middle));
    let store = &fixture.store;
    let expected = [store.expect_layer(&low_id), store.expect_layer(&middle_id)];
    std::thread::scope(|scope| {
        let top = scope.spawn(|| fixture.apply(Some(&middle_id), &top));
        fixture.apply(Some(&low_id), &middle).unwrap();
        fixture.apply(None, &low).unwrap();
        let chain = top.join().unwrap().unwrap();
        let mounted = fixture.mount(Some(&chain), "c");
        assert_eq!(std::fs::metadata(mounted.path("tool")).unwrap().nlink(), 2);
        assert_eq!(std::fs::metadata(mounted.path("bin")).unwrap().mode() & 0o7777, 0o700);
    });
    drop(expected);
    // One that is given up is not waited for.
    let other = ChainId(diff_id(b"other").0);
    let expected = store.expect_layer(&other);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.apply(Some(&other), &top));
        drop(expected);
        assert!(waiting.join().unwrap().unwrap_err().is_bad_content());
    });
}

/// Counts how often it is read to its end.
struct Counting<'a> {
    rest: &'a [u8],
    ends: &'a AtomicUsize,
}

impl std::io::Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = std::io::Read::read(&mut self.rest, buffer)?;
        if read > 0 && self.rest.is_empty() {
            self.ends.fetch_add(1, Ordering::SeqCst);
        }
        Ok(read)
    }
}

#[test]
fn a_layer_that_many_want_is_unpacked_once() {
    let fixture = Fixture::new();
    let data = vec![7; 1 << 20];
    let tar = (0..20).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), &data)).end();
    let ends = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let reader = Counting { rest: &tar, ends: &ends };
                fixture.store.apply_layer(None, &diff_id(&tar), "", reader).unwrap();
            });
        }
    });
    assert_eq!(ends.load(Ordering::SeqCst), 1);
    assert!(fixture.left_overs().is_empty());
}

#[test]
fn one_that_fails_leaves_the_work_to_those_that_wait() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", &vec![1; 1 << 20]).end();
    let results: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                let bytes = if n % 2 == 0 { &tar[..] } else { &tar[..5000] };
                let (store, tar) = (&fixture.store, &tar);
                scope.spawn(move || store.apply_layer(None, &diff_id(tar), "", bytes).is_ok())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().step_by(2).all(|fine| *fine), "whole ones never fail: {results:?}");
    assert!(fixture.store.has_layer(&ChainId(diff_id(&tar).0)));
}

#[test]
fn a_chain_may_come_in_any_order() {
    let fixture = Fixture::new();
    let (low, high) = (Tar::new().file("low", b"l").end(), Tar::new().file("high", b"h").end());
    let low_id = ChainId(diff_id(&low).0);
    let top = fixture.apply(Some(&low_id), &high).unwrap();
    assert!(!fixture.store.has_layer(&top), "its parent is missing");
    assert!(matches!(fixture.store.layer_chain(&top), Err(Error::LayerNotFound(_))));
    fixture.apply(None, &low).unwrap();
    assert!(fixture.store.has_layer(&top));
    let chain = fixture.store.layer_chain(&top).unwrap();
    assert_eq!(chain.iter().map(|layer| layer.size_bytes).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(chain[0].parent.as_ref(), Some(&low_id));
}

#[test]
fn a_start_sweeps_and_mends() {
    let fixture = Fixture::new();
    let a = fixture.apply(None, &Tar::new().file("a", b"a").end()).unwrap();
    let b = fixture.apply(Some(&a), &Tar::new().file("b", b"b").end()).unwrap();
    let c = fixture.apply(None, &Tar::new().file("c", b"c").end()).unwrap();
    let layers = fixture.data().join("layers");
    // A kill while unpacking, one while removing, a lost link, a stale link, a damaged record.
    std::fs::create_dir_all(layers.join(".new-1/diff/etc")).unwrap();
    std::fs::create_dir_all(layers.join(".old-1/diff/etc")).unwrap();
    let link = std::fs::read_dir(layers.join("l")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../none/diff", layers.join("l/zzzz")).unwrap();
    std::fs::write(layers.join(c.hex()).join("layer.json"), b"{").unwrap();
    let store = Store::open(&fixture.data()).unwrap();
    assert!(store.has_layer(&b));
    assert!(!store.has_layer(&c) && !layers.join(c.hex()).exists());
    assert!(fixture.left_overs().is_empty());
    assert_eq!(std::fs::read_dir(layers.join("l")).unwrap().count(), 2);
    assert_eq!(fixture.mount(Some(&b), "c").names(""), ["a", "b"]);
}
