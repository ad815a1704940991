//! What has to hold however often it is done, side by side. A sample runs every time; `FERRY_TEST_TORTURE` says how many rounds instead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::material::Material;
use ferry_testkit::registry::{ADDRESS, Auth, Registry, Storage};
use ferry_testkit::{Daemon, Outcome, Sandbox, programs};
use serde_json::json;

/// Clients side by side.
const CLIENTS: usize = 8;
/// Rounds of a sample, over all clients.
const SAMPLE: usize = 40;
/// Images that share layers in every way.
const IMAGES: usize = 4;

fn rounds() -> usize {
    std::env::var("FERRY_TEST_TORTURE").ok().and_then(|text| text.parse().ok()).unwrap_or(SAMPLE)
}

/// Every file of the store with its length.
fn stored(daemon: &Daemon) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut todo: Vec<PathBuf> =
        ["content", "layers", "images"].iter().map(|name| daemon.data_root().join(name)).collect();
    while let Some(path) = todo.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            files.insert(path, metadata.len());
        }
    }
    files
}

fn name(number: usize) -> String {
    format!("{ADDRESS}/torture/i{number}:1")
}

fn fill(storage: &Storage) {
    let base = std::fs::read(Material::get().rootfs()).unwrap();
    let layer = |name: &str| Layer::default().file(name, 0o644, name.repeat(1000).as_bytes()).into_tar();
    for number in 0..IMAGES {
        // Neighbours share one layer, all share the lowest.
        let tars = vec![base.clone(), layer(&format!("shared{}", number / 2)), layer(&format!("own{number}"))];
        let run = json!({"Cmd": ["cat", format!("/own{number}")]});
        let image = Image::build("amd64", &run, tars, Compression::Gzip, Dialect::Oci).unwrap();
        storage.put_image(&format!("torture/i{number}"), Some("1"), &image).unwrap();
    }
}

/// Whether a command may end so while others remove what it works with.
fn is_fair(outcome: &Outcome) -> bool {
    let said = outcome.err();
    outcome.code == 0
        || ["No such image", "conflict: unable to", "image is being used", "not found: No such"]
            .iter()
            .any(|fair| said.contains(fair))
}

struct Client<'a> {
    daemon: &'a Daemon,
    problems: &'a Mutex<Vec<String>>,
}

impl Client<'_> {
    fn round(&self, number: usize) {
        let image = name(number * 7 % IMAGES);
        let own = number * 7 % IMAGES;
        let outcome = match number % 5 {
            0 => self.daemon.run(&["pull", "-q", &image]),
            1 => self.daemon.run(&["rmi", "-f", &image]),
            2 => self.daemon.run(&["image", "prune", "-af"]),
            _ => {
                let outcome = self.daemon.run(&["run", "--rm", "--network", "none", &image]);
                let expected = format!("own{own}").repeat(1000);
                if outcome.code == 0 && outcome.out() != expected {
                    self.complain(number, &outcome);
                }
                outcome
            }
        };
        if !is_fair(&outcome) {
            self.complain(number, &outcome);
        }
    }

    fn complain(&self, number: usize, outcome: &Outcome) {
        self.problems.lock().unwrap().push(format!("round {number}: {outcome}"));
    }
}

#[test]
fn prunes_and_removals_never_take_what_a_pull_or_a_run_needs() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let storage = Storage::new(&sandbox.dir().join("registry"));
    fill(&storage);
    let _registry = Registry::writable(&sandbox, &storage, Auth::None).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--bridge", "none", "--iptables=false"]);
    daemon.start().unwrap();
    let limit = ferry_testkit::command::LIMIT;
    // The daemon looks, once it answers, what the file system can do.
    let before = ferry_testkit::wait::until("the trial of the file system to end", limit, || {
        let files = stored(&daemon);
        files.keys().all(|path| !path.to_string_lossy().contains("/.new-")).then_some(files)
    })
    .unwrap();
    let (problems, next) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client = Client { daemon: &daemon, problems: &problems };
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds() {
                        return;
                    }
                    client.round(number);
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} of {} rounds:\n{}", problems.len(), rounds(), problems.join("\n"));
    // All of it is whole, goes, and leaves what there was.
    for number in 0..IMAGES {
        let out = daemon.run(&["run", "--rm", "--network", "none", &name(number)]);
        assert_eq!(out.ok(), format!("own{number}").repeat(1000));
    }
    let _ = daemon.run(&["image", "prune", "-af"]).ok();
    let same = ferry_testkit::wait::until("the store to hold what it held before", limit, || {
        (stored(&daemon) == before).then_some(())
    });
    assert!(same.is_ok(), "the store held {before:#?} and now holds {:#?}", stored(&daemon));
}
