//! Power cuts: the data root on a file system of its own, which is shut down without its log being written, then mounted again.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferry_spec::digest::Digest;
use ferry_spec::reference::Reference;
use ferry_store::{Live, Store, Syncer, record};

use crate::collection::{assert_whole, layers, make_image};
use crate::support::{apply, assert_one_passed, describe, diff_id, need_root, run};

const PLACE: &str = "FERRY_TEST_POWER";
const WORKER: &str = "FERRY_TEST_POWER_WORKER";
const NAME: &str = "power::a_power_cut_leaves_only_whole_things";

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn reference(number: u64) -> Reference {
    Reference::parse(&format!("image:{number}")).unwrap()
}

/// A file that no cut reaches.
struct Told(File);

impl Told {
    /// One write, because the kill may come between two: what is told is a whole line or nothing.
    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.0.write_all(format!("{what}\n").as_bytes()).unwrap();
    }
}

/// Names, removes and counts, and tells of each step in a file that no cut reaches, until it is killed.
fn work(data: &Path, told: &Path) -> ! {
    let store = Store::open(data).unwrap();
    let syncer = Syncer::start().unwrap();
    let counter = data.join("counter.json");
    let first = record::read::<u64>(&counter).unwrap().unwrap_or(0);
    let mut told = Told(File::options().append(true).create(true).open(told).unwrap());
    for round in first + 1.. {
        syncer.write(&counter, &round).unwrap();
        told.say(format_args!("counted {round} {}", now_ms()));
        let lease = store.lease();
        let own = format!("own-{}", round % 5);
        let (target, _) = make_image(&store, &layers(&["base", &own]));
        told.say(format_args!("begin {} {}", round % 3, target.digest));
        store.set_image(&reference(round % 3), &target, 0).unwrap();
        told.say(format_args!("done {} {}", round % 3, target.digest));
        drop(lease);
        if round % 4 == 0 {
            told.say(format_args!("begin {} none", round % 3));
            store.remove_image(&reference(round % 3)).unwrap();
            told.say(format_args!("done {} none", round % 3));
            told.say(format_args!("collecting"));
            store.collect(&Live::default()).unwrap();
        }
        let blob = store.put_blob(&round.to_le_bytes().repeat(5000)).unwrap();
        told.say(format_args!("stored {blob}"));
    }
    unreachable!("the rounds do not end")
}

fn mount(place: &Path) {
    run("mount", &["-o", "loop", "disk", "mounted"], place);
}

/// Kills the worker after `life`, then cuts the power.
fn cut(place: &Path, life: Duration) -> u128 {
    let mut worker =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", NAME]).env(WORKER, "1").spawn().unwrap();
    // Not to wait for anything: to hit some moment.
    std::thread::sleep(life);
    worker.kill().unwrap();
    worker.wait().unwrap();
    std::fs::write(place.join("mounted/unsynced"), b"control").unwrap();
    // EXT4_IOC_SHUTDOWN without writing the log.
    let script =
        r#"open(my $f, "<", "mounted/unsynced") or die; my $how = pack("I", 2); ioctl($f, 0x8004587d, $how) or die $!"#;
    run("perl", &["-e", script], place);
    let time = now_ms();
    run("umount", &["mounted"], place);
    mount(place);
    assert!(!place.join("mounted/unsynced").exists(), "the cut was none: an unsynced file survived it");
    time
}

fn check(place: &Path, cut_ms: u128) -> usize {
    let told = std::fs::read_to_string(place.join("told")).unwrap();
    let store = Store::open(&place.join("mounted/data")).unwrap();
    let mut counted = 0;
    let mut stored: Vec<Digest> = Vec::new();
    let mut names: HashMap<u64, (bool, String)> = HashMap::new();
    for line in told.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["counted", number, time] if time.parse::<u128>().unwrap() + 1000 < cut_ms => {
                counted = number.parse().unwrap()
            }
            ["begin" | "done", name, target] => {
                names.insert(name.parse().unwrap(), (words[0] == "done", target.to_owned()));
            }
            ["stored", digest] => stored.push(digest.parse().unwrap()),
            ["collecting"] => stored.clear(),
            _ => {}
        }
    }
    for digest in stored {
        assert!(store.has_blob(&digest), "{digest} was acknowledged");
    }
    let counter = record::read::<u64>(&place.join("mounted/data/counter.json")).unwrap().unwrap_or(0);
    assert!(counter >= counted, "{counter} on disk, {counted} acknowledged a second before");
    let looks = |name: &str| {
        let plain = place.join("plain");
        let chain = apply(&Store::open(&plain).unwrap(), None, &layers(&[name])[0]).unwrap();
        (diff_id(&layers(&[name])[0]), describe(&plain.join("layers").join(chain.hex()).join("diff")))
    };
    let looks: HashMap<_, _> = ["base", "own-0", "own-1", "own-2", "own-3", "own-4"].map(looks).into();
    for layer in store.layers() {
        let folder = place.join("mounted/data/layers").join(layer.chain_id.hex()).join("diff");
        assert_eq!(describe(&folder), looks[&layer.diff_id]);
    }
    for (digest, size) in store.blobs().unwrap() {
        store.read_blob(&digest, size).unwrap();
    }
    let images = store.images().unwrap();
    for image in &images {
        for chain in store.reachable(&image.target).chains {
            assert_whole(&store, &image.target, &chain);
        }
    }
    for (name, (done, target)) in names {
        let found = images.iter().find(|image| image.reference == reference(name));
        let expected = Digest::parse(&target).ok();
        if done {
            assert_eq!(found.map(|image| image.target.digest.clone()), expected, "image:{name} was acknowledged");
        }
    }
    images.len()
}

#[test]
fn a_power_cut_leaves_only_whole_things() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        need_root();
        let dir = tempfile::tempdir().unwrap();
        let script = r#"cd "$0" && mkdir mounted && truncate -s 64M disk && mke2fs -q -t ext4 disk &&
            FERRY_TEST_POWER="$0" exec "$1" --exact "$2" --nocapture"#;
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .output()
            .unwrap();
        assert_one_passed(&output);
        return;
    };
    if std::env::var_os(WORKER).is_some() {
        work(&place.join("mounted/data"), &place.join("told"));
    }
    mount(&place);
    let mut seen = 0;
    for life_ms in [300, 1500, 700, 2200, 450, 900] {
        let cut_ms = cut(&place, Duration::from_millis(life_ms));
        seen += check(&place, cut_ms);
        // The next worker begins with what this one told behind it.
        std::fs::remove_file(place.join("told")).unwrap();
    }
    run("umount", &["mounted"], &place);
    assert!(seen > 0, "the cuts came too early to show anything");
}
