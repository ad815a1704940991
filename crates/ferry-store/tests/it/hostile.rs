//! Archives that mean harm. Beside every data root lies a canary that must come out as it went in; every table has a harmless twin
//! that must be unpacked.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_store::{Limits, Store};

use crate::support::{Fixture, Header, Tar, apply, assert_one_passed, describe, diff_id, gzip};

struct Canary {
    dir: PathBuf,
    before: String,
}

impl Canary {
    fn new(fixture: &Fixture) -> Self {
        let dir = fixture.dir.path().join("canary");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("file"), b"canary").unwrap();
        std::fs::write(dir.join("sub/file"), b"canary").unwrap();
        let before = describe(&dir);
        Self { dir, before }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn check(&self, case: &str) {
        assert_eq!(describe(&self.dir), self.before, "{case}");
    }
}

#[test]
fn nothing_leads_out_of_a_layer() {
    let fixture = Fixture::new();
    let canary = Canary::new(&fixture);
    let out = canary.path("");
    let out = out.trim_end_matches('/');
    // From layers/.new-x/diff up to the folder that has the canary.
    let up = "../../../../canary";
    let long = format!("{}{up}/file", "a/../".repeat(10));
    let pax = |key: &str, value: &str, flag: u8| {
        let header = Header { name: b"x", flag, link: b"x", ..Header::default() };
        Tar::new().pax(&[(key, value.as_bytes())]).header(&header, 0, b"")
    };
    let cases: Vec<(&str, Tar)> = vec![
        ("dots", Tar::new().file(&format!("{up}/file"), b"bad")),
        ("dots later", Tar::new().file(&long, b"bad")),
        ("absolute", Tar::new().file(&canary.path("file"), b"bad")),
        ("dots by pax", pax("path", &format!("{up}/file"), b'0')),
        ("absolute by pax", pax("path", &canary.path("file"), b'0')),
        ("dots by long name", {
            let header = Header { name: b"././@LongLink", flag: b'L', ..Header::default() };
            let name = format!("{up}/file\0");
            Tar::new().header(&header, name.len() as u64, name.as_bytes()).file("x", b"bad")
        }),
        ("through absolute link", Tar::new().symlink("l", out).file("l/file", b"bad")),
        ("through relative link", Tar::new().symlink("l", up).file("l/file", b"bad")),
        ("through two links", Tar::new().symlink("a", "b").symlink("b", up).file("a/file", b"bad")),
        ("through a link to the root", Tar::new().symlink("r", "/").file(&format!("r{out}/file"), b"bad")),
        ("through proc", Tar::new().symlink("p", "/proc/self/cwd").file("p/file", b"bad")),
        ("over a link", Tar::new().symlink("f", &canary.path("file")).file("f", b"bad")),
        ("folder over a link", Tar::new().symlink("d", out).dir("d/", 0o777).file("d/file", b"bad")),
        ("folder looks through a link", Tar::new().symlink("d", out).dir("d/sub/", 0o777)),
        ("hard link out", Tar::new().hard_link("h", &canary.path("file")).file("h", b"bad")),
        ("hard link by dots", Tar::new().hard_link("h", &format!("{up}/file")).file("h", b"bad")),
        ("hard link by link", Tar::new().symlink("l", out).hard_link("h", "l/file").file("h", b"bad")),
        ("hard link to a link", Tar::new().symlink("l", &canary.path("file")).hard_link("h", "l").file("h", b"bad")),
        ("hard link as a link", Tar::new().symlink("l", out).hard_link("l/new", "l")),
        ("whiteout by dots", Tar::new().file(&format!("{up}/.wh.file"), b"")),
        ("whiteout by link", Tar::new().symlink("l", out).file("l/.wh.file", b"")),
        ("whiteout of dot", Tar::new().file(".wh..", b"")),
        ("whiteout of dot dot", Tar::new().file(".wh...", b"")),
        ("whiteout of nothing", Tar::new().file("d/.wh.", b"")),
        ("whiteout as folder", Tar::new().dir(".wh.d/", 0o755).file(".wh.d/x", b"")),
        ("opaque by link", Tar::new().symlink("l", out).file("l/.wh..wh..opq", b"")),
        ("opaque by dots", Tar::new().file(&format!("{up}/.wh..wh..opq"), b"")),
        ("fifo over a link", {
            let header = Header { name: b"l/fifo", flag: b'6', ..Header::default() };
            Tar::new().symlink("l", out).header(&header, 0, b"")
        }),
        ("device by link", {
            let header = Header { name: b"l/dev", flag: b'b', device: (254, 0), ..Header::default() };
            Tar::new().symlink("l", out).header(&Header { flag: b'4', ..header }, 0, b"")
        }),
        ("owner through a link", {
            let header = Header { name: b"l", flag: b'2', link: canary_link(out), owner: (1, 1), ..Header::default() };
            Tar::new().header(&header, 0, b"")
        }),
        ("root as a link", Tar::new().symlink("./", out).file("file", b"bad")),
        ("root as a file", Tar::new().file("/", b"bad")),
        (
            "folder then link in its place",
            Tar::new().dir("d/", 0o755).file("d/a", b"").symlink("d", out).file("d/file", b"bad"),
        ),
        ("folder times through a link", Tar::new().dir("sub/", 0o755).symlink("sub", &canary.path("sub"))),
    ];
    for (case, tar) in cases {
        let tar = tar.end();
        let result = fixture.apply(None, &tar);
        canary.check(case);
        if let Err(error) = result {
            assert!(error.is_bad_content(), "{case}: {error:?}");
        }
        assert!(fixture.left_overs().is_empty(), "{case}");
    }
    // The detector fires, and a harmless link works.
    let harmless = Tar::new().dir("d/", 0o755).symlink("l", "d").file("l/file", b"good").end();
    let chain = fixture.apply(None, &harmless).unwrap();
    assert_eq!(std::fs::read(fixture.diff(&chain).join("d/file")).unwrap(), b"good");
    std::fs::write(canary.dir.join("file"), b"changed").unwrap();
    assert_ne!(describe(&canary.dir), canary.before);
}

fn canary_link(out: &str) -> &[u8] {
    out.as_bytes()
}

#[test]
fn escaping_names_are_refused_by_name() {
    let fixture = Fixture::new();
    for name in ["../x", "a/../../x", "/../x", ".wh..", ".wh...", "a/.wh."] {
        let error = fixture.apply(None, &Tar::new().file(name, b"").end()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("entry "), "{name}: {source}");
    }
}

#[test]
fn attributes_that_the_engine_uses_are_dropped() {
    let fixture = Fixture::new();
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"system_u"),
            ("SCHILY.xattr.trusted.other", b"y"),
            ("SCHILY.xattr.user.kept", b"yes\0binary"),
        ])
        .dir("d/", 0o755)
        .end();
    let chain = fixture.apply(None, &tar).unwrap();
    let args = ["--absolute-names", "-d", "-m", "-", "d"];
    let shown = String::from_utf8(crate::support::run("getfattr", &args, &fixture.diff(&chain))).unwrap();
    assert!(shown.contains("user.kept=") && shown.lines().count() == 3, "{shown}");
}

#[test]
fn devices_are_kept_but_none_that_hides() {
    let fixture = Fixture::new();
    let device = |device, flag| {
        let header = Header { name: b"dev/x", flag, mode: 0o666, device, ..Header::default() };
        Tar::new().header(&header, 0, b"").end()
    };
    assert!(fixture.apply(None, &device((0, 0), b'3')).unwrap_err().is_bad_content());
    let chain = fixture.apply(None, &device((254, 0), b'4')).unwrap();
    let meta = std::fs::symlink_metadata(fixture.diff(&chain).join("dev/x")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&meta), (254 << 8));
}

#[test]
fn malformed_headers_are_refused() {
    let fixture = Fixture::new();
    let x = Header { name: b"PaxHeaders/x", flag: b'x', ..Header::default() };
    let pax = |data: &[u8]| Tar::new().header(&x, data.len() as u64, data).file("a", b"").end();
    let unknown = Header { name: b"a", flag: b'?', ..Header::default() };
    let lone_zero = Tar::new().raw(&[0; 512]).file("a", b"").end();
    let mut garbage = Tar::new().file("a", b"").end();
    garbage[..512].fill(0xff);
    for (case, tar) in [
        ("no length", pax(b"path=x\n")),
        ("length too long", pax(b"99 path=x\n")),
        ("length too short", pax(b"3 path=x\n")),
        ("length zero", pax(b"0 path=x\n")),
        ("length huge", pax(b"99999999999999999999999 path=x\n")),
        ("no newline", pax(b"9 path=xy")),
        ("no equals", pax(b"9 pathxy\n")),
        ("nul in path", pax(b"11 path=a\0\n")),
        ("bad time", pax(b"17 mtime=1.2.345\n")),
        ("bad size", pax(b"11 size=-1\n")),
        ("owner out of range", pax(b"18 uid=4294967295\n")),
        ("unknown type", Tar::new().header(&unknown, 0, b"").end()),
        ("lone zero block", lone_zero),
        ("garbage", garbage),
        ("empty link", Tar::new().symlink("l", "").end()),
        ("below a file", Tar::new().file("f", b"").file("f/x", b"").end()),
        ("below a dangling link", Tar::new().symlink("l", "nowhere").file("l/x", b"").end()),
        ("link loop", Tar::new().symlink("l", "l").file("l/x", b"").end()),
        ("name too long", Tar::new().pax(&[("path", &[b'a'; 300])]).file("a", b"").end()),
        ("nothing but noise", vec![b'x'; 2000]),
    ] {
        match fixture.apply(None, &tar) {
            Ok(_) => panic!("{case} was unpacked"),
            // The kernel's own refusals count as well.
            Err(error) => assert!(error.is_bad_content() || format!("{error:?}").contains("Io"), "{case}: {error:?}"),
        }
        assert!(fixture.left_overs().is_empty(), "{case}");
    }
    fixture.apply(None, &pax(b"11 path=ab\n")).unwrap();
}

/// Zeros without end.
struct Zeros(u64);

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(buffer.len());
        buffer[..count].fill(0);
        self.0 -= count as u64;
        Ok(count)
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn limited(dir: &Path) -> Store {
    let limits =
        Limits { unpacked_bytes: 64 << 20, entries: 1000, ratio_from_bytes: 8 << 20, ratio: 100, ..Limits::default() };
    Store::open_with(&dir.join("limited"), limits).unwrap()
}

#[test]
fn limits_end_in_an_error_and_leave_nothing() {
    let fixture = Fixture::new();
    let store = limited(fixture.dir.path());
    let what = |error: ferry_store::Error| {
        assert!(error.is_bad_content(), "{error:?}");
        std::error::Error::source(&error).unwrap().to_string()
    };
    // A gigabyte of zeros, compressed as it is read: a file as large as one may be, and padding.
    let gib = 1u64 << 30;
    let bomb = {
        let head = Tar::new().header(&Header { name: b"zeros", ..Header::default() }, 64 << 20, b"").cut();
        let mut encoder = flate2::read::GzEncoder::new(head.chain(Zeros(gib)), flate2::Compression::default());
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let many = (0..2000).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b"")).end();
    let sparse = {
        let size = (1u64 << 62).to_string();
        let pairs: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ];
        let mut map = b"0\n".to_vec();
        map.resize(512, 0);
        Tar::new().pax(&pairs).file("s", &map).end()
    };
    let deep = Tar::new().pax(&[("path", "a/".repeat(1500).as_bytes())]).dir("a/", 0o755).end();
    let pax = Tar::new().pax(&[("comment", &vec![b'x'; 1 << 20])]).file("a", b"").end();
    let cases = [
        ("bomb", &bomb, "for each compressed byte"),
        ("entries", &many, "entries"),
        ("sparse", &sparse, "bytes of one file"),
        ("deep", &deep, "folders above a file"),
        ("pax", &pax, "extended header"),
    ];
    for (case, bytes, text) in cases {
        let said = what(store.apply_layer(None, &diff_id(bytes), "", &bytes[..]).unwrap_err());
        assert!(said.contains(text), "{case}: {said}");
        let layers = fixture.dir.path().join("limited/layers");
        let names: Vec<_> = std::fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{case}: {names:?}");
    }
    let plain = Header { name: b"zeros", ..Header::default() };
    let head = Tar::new().header(&plain, 1 << 60, b"").cut();
    let endless = head.chain(Zeros(1 << 60));
    let said = what(store.apply_layer(None, &diff_id(b""), "", endless).unwrap_err());
    assert!(said.contains("bytes of one file"), "{said}");
    let head = Tar::new().end();
    let endless = head.chain(Zeros(1 << 60));
    let said = what(store.apply_layer(None, &diff_id(b""), "", endless).unwrap_err());
    assert!(said.contains("unpacked bytes"), "{said}");
    apply(&store, None, &Tar::new().file("a", &vec![0; 1 << 20]).end()).unwrap();
}

const ALONE: &str = "FERRY_TEST_ALONE";

/// Runs `test` again in a process of its own and returns true there.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert_one_passed(&output);
    false
}

#[test]
fn memory_is_bounded_whatever_comes() {
    if !alone("hostile::memory_is_bounded_whatever_comes") {
        return;
    }
    let fixture = Fixture::new();
    let before = resident_bytes();
    // A gigabyte and more of zeros in a few kilobytes, and one header after the other.
    let head = Tar::new().end();
    let zeros = zstd::stream::read::Encoder::new(head.chain(Zeros(1 << 30)), 1).unwrap();
    let error = fixture.store.apply_layer(None, &diff_id(b""), "", zeros).unwrap_err();
    assert!(error.is_bad_content(), "{error:?}");
    let header = Tar::new().pax(&[("comment", &vec![b'x'; 1_000_000])]).cut();
    let headers = (0..200).fold(Box::new(std::io::empty()) as Box<dyn Read>, |all, _| Box::new(all.chain(&header[..])));
    let error = fixture.store.apply_layer(None, &diff_id(b""), "", headers).unwrap_err();
    assert!(error.is_bad_content(), "{error:?}");
    let grown = resident_bytes() - before;
    assert!(resident_bytes() < 150 << 20, "{grown} bytes more, {} in all", resident_bytes());
}

#[test]
fn two_hundred_thousand_entries_are_no_harm() {
    let fixture = Fixture::new();
    let mut tar = Tar::new();
    for n in 0..200_000 {
        tar = tar.hard_link("same", "same");
        if n == 0 {
            tar = tar.file("same", b"");
        }
    }
    let tar = tar.end();
    let zipped = gzip(&tar);
    // The first links to itself before it is there; that is nothing.
    fixture.store.apply_layer(None, &diff_id(&tar), "", &zipped[..]).unwrap();
}
