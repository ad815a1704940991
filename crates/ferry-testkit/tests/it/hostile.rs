//! Archives that mean harm, by every way in: loaded, pulled, imported and copied into a container.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ferry_testkit::hostile::{self, Fate, HostileImage, HostileLayer, Spoiled};
use ferry_testkit::material::Material;
use ferry_testkit::registry::{ADDRESS, Registry, Storage};
use ferry_testkit::{Daemon, Outcome, Sandbox, programs};

/// The most that the daemon may ever have had in memory, in kilobytes.
const MEMORY_KB: u64 = 150 << 10;

/// Everything that can be told of a tree without changing it.
fn look(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let m = std::fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = if m.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let facts = (m.mode(), m.uid(), m.gid(), m.nlink(), m.size(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        seen.insert(path, format!("{facts:?} {content:?}"));
    }
    seen
}

/// What the store holds, by name alone.
fn stored(daemon: &Daemon) -> Vec<PathBuf> {
    let root = daemon.data_root();
    let list = |below: &str| -> Vec<PathBuf> {
        std::fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let folders = ["content/blobs/sha256", "content/blobs/sha512", "content/ingest", "layers", "layers/l", "images"];
    let mut all: Vec<PathBuf> = folders.iter().flat_map(|folder| list(folder)).collect();
    all.sort();
    all
}

/// One way in.
struct Way<'a> {
    name: &'static str,
    daemon: &'a Daemon,
    problems: &'a Mutex<Vec<String>>,
}

impl Way<'_> {
    fn judge(&self, case: &str, fate: Fate, outcome: &Outcome) {
        let said = outcome.err();
        let fits = match fate {
            Fate::Taken => outcome.code == 0,
            Fate::Refused(says) => outcome.code == 1 && said.contains(says) && said.len() < 2000,
        };
        // What strangers write is never sent to a terminal as it is.
        if !fits || said.contains('\u{1b}') {
            self.problems.lock().unwrap().push(format!("{} {case}: expected {fate:?}: {outcome}", self.name));
        }
    }

    fn forget(&self, image: &str) {
        let _ = self.daemon.run(&["rmi", "-f", image]);
    }
}

fn load(way: &Way<'_>, dir: &Path, layers: &[HostileLayer], images: &[HostileImage]) {
    let file = dir.join("load.tar");
    let load = |archive: &[u8]| {
        std::fs::write(&file, archive).unwrap();
        way.daemon.run(&["load", "-q", "-i", file.to_str().unwrap()])
    };
    for layer in layers {
        let name = format!("hostile/{}:load", layer.name);
        let archive = hostile::image_of(&layer.tar).archive(&[&name]);
        // A bomb goes off in the archive's own compression as well.
        let archive = if layer.bounded { hostile::gzip(&archive) } else { archive };
        way.judge(layer.name, layer.fate, &load(&archive));
        way.forget(&name);
    }
    for image in images {
        if let Some(archive) = &image.archive {
            way.judge(image.name, Fate::Refused(image.says), &load(archive));
        }
    }
}

fn pull(way: &Way<'_>, layers: &[HostileLayer], images: &[HostileImage]) {
    for (name, fate) in layers
        .iter()
        .map(|layer| (layer.name, layer.fate))
        .chain(images.iter().filter(|one| one.image.is_some()).map(|one| (one.name, Fate::Refused(one.says))))
    {
        let reference = format!("{ADDRESS}/hostile/{name}:1");
        way.judge(name, fate, &way.daemon.run(&["pull", "-q", &reference]));
        way.forget(&reference);
    }
}

fn import(way: &Way<'_>, dir: &Path, layers: &[HostileLayer]) {
    let file = dir.join("import.tar");
    for layer in layers {
        let name = format!("hostile/{}:import", layer.name);
        let bytes = if layer.bounded { hostile::gzip(&layer.tar) } else { layer.tar.clone() };
        std::fs::write(&file, bytes).unwrap();
        way.judge(layer.name, layer.fate, &way.daemon.run(&["import", file.to_str().unwrap(), &name]));
        way.forget(&name);
    }
}

/// A copy goes by other rules than a layer; it may take what a layer may not. That nothing lies outside afterwards holds for both.
fn copy(way: &Way<'_>, layers: &[HostileLayer]) {
    let script =
        "for d in /in/disk /in/sda /in/mem; do [ -e $d ] && cat $d >/dev/null 2>&1 && echo opened $d; done; echo ran";
    for name in ["target", "opens"] {
        let _ = way.daemon.run(&["create", "--name", name, "-v", "/in/volume", "busybox", "sh", "-c", script]).ok();
    }
    for layer in layers.iter().filter(|layer| !layer.bounded) {
        let outcome = way.daemon.run_with_input(&["cp", "-", "target:/"], &layer.tar);
        let fate = if outcome.code == 0 { Fate::Taken } else { Fate::Refused("") };
        way.judge(layer.name, fate, &outcome);
    }
    let harmless = ferry_testkit::image::Layer::default().dir("in/", 0o755).file("in/here", 0o644, b"x").into_tar();
    let _ = way.daemon.run_with_input(&["cp", "-", "opens:/"], &harmless).ok();
    let devices = &layers.iter().find(|layer| layer.name == "devices").unwrap().tar;
    let _ = way.daemon.run_with_input(&["cp", "-", "opens:/in"], devices);
    let ran = way.daemon.run(&["start", "-a", "opens"]);
    if ran.out() != "ran\n" {
        way.problems.lock().unwrap().push(format!("devices can be opened: {ran}"));
    }
    let _ = way.daemon.run(&["rm", "-fv", "target", "opens"]).ok();
}

fn fill(storage: &Storage, layers: &[HostileLayer], images: &[HostileImage]) {
    for layer in layers {
        let image = hostile::image_of(&layer.tar);
        storage.put_image(&format!("hostile/{}", layer.name), Some("1"), &image).unwrap();
    }
    for one in images {
        let Some((image, _)) = &one.image else { continue };
        storage.put_image(&format!("hostile/{}", one.name), Some("1"), image).unwrap();
    }
    // Some share their other blobs, so those are spoiled last.
    for (_, spoiled) in images.iter().filter_map(|one| one.image.as_ref()) {
        match spoiled {
            Spoiled::Nothing => {}
            Spoiled::Missing(digest) => drop(std::fs::remove_file(storage.blob_path(digest))),
            Spoiled::Changed(digest) => {
                let path = storage.blob_path(digest);
                let mut bytes = std::fs::read(&path).unwrap();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
}

#[test]
fn hostile_archives_reach_nothing_and_leave_nothing() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let dir = sandbox.dir().to_owned();
    let canary = dir.join("canary");
    std::fs::create_dir_all(canary.join("folder")).unwrap();
    std::fs::write(canary.join("file"), "alive").unwrap();
    let (layers, images) = (hostile::layers(canary.to_str().unwrap()), hostile::images());
    assert!(layers.iter().filter(|layer| !layer.bounded).count() >= 20, "each goes in by every way");
    let storage = Storage::new(&dir.join("registry"));
    fill(&storage, &layers, &images);
    let good = hostile::image_of(&ferry_testkit::image::Layer::default().file("f", 0o644, b"x").into_tar());
    storage.put_image("hostile/none", Some("1"), &good).unwrap();
    let _registry = Registry::start(&sandbox, &storage).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(hostile::LIMITS);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());

    // What does no harm goes in by every way under these limits, and the detector sees a change.
    let none = format!("{ADDRESS}/hostile/none:1");
    let _ = daemon.run(&["pull", "-q", &none]).ok();
    let _ = daemon.run(&["rmi", &none]).ok();
    let _ = daemon.run(&["import", Material::get().rootfs().to_str().unwrap(), "control:1"]).ok();
    let _ = daemon.run(&["rmi", "control:1"]).ok();
    let before = look(&canary);
    std::fs::write(canary.join("file"), "alive").unwrap();
    assert_ne!(look(&canary), before, "writing the same bytes again is seen");
    let (before, stored_before) = (look(&canary), stored(&daemon));

    let problems = Mutex::new(Vec::new());
    let way = |name| Way { name, daemon: &daemon, problems: &problems };
    std::thread::scope(|scope| {
        scope.spawn(|| load(&way("load"), &dir, &layers, &images));
        scope.spawn(|| pull(&way("pull"), &layers, &images));
        scope.spawn(|| import(&way("import"), &dir, &layers));
        scope.spawn(|| copy(&way("cp"), &layers));
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(look(&canary), before);
    crate::until("the store to hold what it held before", || stored(&daemon) == stored_before);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    assert!(peak.is_some_and(|peak: u64| peak < MEMORY_KB), "the daemon had {peak:?} kB");
}
