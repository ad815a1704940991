//! Others who change the files under our hands while a container is made.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use ferry_spec::runtime::Mount;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::bundle::{Bundle, ferry, ready, text};

const ROUNDS: usize = 20;

/// Swaps two names as fast as it can until it is dropped.
struct Racer {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    fn start(one: PathBuf, other: PathBuf) -> Racer {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Racer { stop, swaps, thread: Some(thread) }
    }

    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn bind(bundle: &mut Bundle, source: &Path, destination: &str) {
    let below =
        |mount: &Mount| mount.destination == destination || mount.destination.starts_with(&format!("{destination}/"));
    bundle.spec.mounts.retain(|mount| !below(mount));
    bundle.spec.mounts.push(Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.display().to_string()),
        options: vec!["rbind".into()],
        ..Mount::default()
    });
}

/// The masked files as null devices, and what can be written of the kernel's parameters.
const LOOK: &str = "for f in /proc/keys /proc/timer_list /proc/kcore; do [ -e $f ] && stat -L -c '%n %t:%T' $f; done; \
    for f in /proc/sys/kernel/domainname /proc/sysrq-trigger; do (echo x >$f) 2>/dev/null && echo written $f; done; true";

fn is_masked(said: &str) -> bool {
    said.contains("/proc/keys") && shows_nothing(said)
}

fn shows_nothing(said: &str) -> bool {
    !said.contains("written") && said.lines().all(|line| line.ends_with(" 1:3"))
}

#[test]
fn masks_hold_while_others_swap_the_devices_of_a_shared_volume() {
    if !ready() {
        return;
    }
    // Seen to fire: without masks the same look finds something.
    let mut control = Bundle::new(&ferry(), LOOK);
    control.linux().masked_paths.clear();
    control.linux().readonly_paths.clear();
    assert!(!is_masked(&control.said()));

    let shared = tempfile::tempdir().unwrap();
    let (null, fake) = (shared.path().join("null"), shared.path().join("fake"));
    std::fs::write(&null, "").unwrap();
    symlink("/proc/sys/kernel/domainname", &fake).unwrap();
    std::fs::create_dir(shared.path().join("pts")).unwrap();
    let racer = Racer::start(null, fake);
    for round in 0..ROUNDS {
        let mut bundle = Bundle::new(&ferry(), LOOK);
        bind(&mut bundle, shared.path(), "/dev");
        let output = bundle.run();
        let said = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(is_masked(&said), "round {round}: {said}");
    }
    assert!(racer.swaps() > ROUNDS as u64, "the racer did not run");
}

#[test]
fn a_root_whose_system_folders_are_swapped_for_links_leads_nowhere() {
    if !ready() {
        return;
    }
    let mut begun = 0;
    for folder in ["dev", "proc", "sys"] {
        let outside = tempfile::tempdir().unwrap();
        for name in ["pts", "shm", "mqueue", "sys", "fs"] {
            std::fs::create_dir(outside.path().join(name)).unwrap();
        }
        let mut bundle = Bundle::new(&ferry(), LOOK);
        bind(&mut bundle, outside.path(), "/volume");
        let (real, link) = (bundle.rootfs().join(folder), bundle.rootfs().join("link"));
        symlink(outside.path(), &link).unwrap();
        let racer = Racer::start(real, link);
        for round in 0..ROUNDS {
            let output = bundle.run();
            if output.status.success() {
                begun += 1;
                // A folder that is moved away afterwards shows nothing at all.
                assert!(shows_nothing(&text(&output.stdout)), "{folder}, round {round}: {}", text(&output.stdout));
            }
            let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left.len(), 5, "{folder}, round {round}: {left:?}");
            for path in left {
                assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{folder}, round {round}: {path:?}");
            }
        }
        assert!(racer.swaps() > ROUNDS as u64, "the racer did not run");
    }
    assert!(begun > 0, "no container ever began, so nothing was tried");
}

#[test]
fn kernel_parameters_land_in_the_kernel_whatever_lies_over_proc() {
    if !ready() {
        return;
    }
    let shared = tempfile::tempdir().unwrap();
    let fake = |name: &str| {
        let path = shared.path().join(name).join("net/ipv4");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("ip_forward"), "fake\n").unwrap();
        std::fs::create_dir_all(shared.path().join("thread-self/attr/apparmor")).unwrap();
        path.join("ip_forward")
    };
    let (one, other) = (fake("sys"), fake("other"));
    let racer = Racer::start(shared.path().join("sys"), shared.path().join("other"));
    for round in 0..ROUNDS {
        let mut bundle = Bundle::new(&ferry(), "sleep 1000");
        bundle.spec.mounts.retain(|mount| mount.destination != "/sys/fs/cgroup");
        bind(&mut bundle, shared.path(), "/proc");
        bundle.linux().masked_paths.clear();
        bundle.linux().readonly_paths.clear();
        bundle.linux().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
        let out = std::fs::File::create(bundle.beside("out")).unwrap();
        let mut create = bundle.command(&["create", "--pid-file", "pid", &bundle.id]);
        let made = create.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        if made.success() {
            let pid = std::fs::read_to_string(bundle.beside("pid")).unwrap();
            let asked = std::process::Command::new("nsenter")
                .args(["--target", &pid, "--net", "cat", "/proc/sys/net/ipv4/ip_forward"])
                .output()
                .unwrap();
            assert_eq!(text(&asked.stdout), "1\n", "round {round}: the parameter did not land");
        }
        for path in [&one, &other] {
            assert_eq!(
                std::fs::read_to_string(path).unwrap(),
                "fake\n",
                "round {round}: a file of the volume was written"
            );
        }
    }
    assert!(racer.swaps() > ROUNDS as u64, "the racer did not run");
}

#[test]
fn release_agents_stay_out_of_reach_of_namespaces_of_ones_own() {
    if !ready() {
        return;
    }
    let script = "mkdir /tmp/c; for kind in memory pids rdma devices systemd; do \
        if mount -t cgroup -o $kind cgroup /tmp/c 2>/dev/null || mount -t cgroup -o none,name=$kind cgroup /tmp/c 2>/dev/null; then \
        echo mounted $kind; (echo /evil >/tmp/c/release_agent) 2>/dev/null && echo written $kind; umount /tmp/c; fi; done; echo looked";
    let unshared = format!("unshare -U -r -m -C sh -c '{}'", script.replace('\'', "'\\''"));
    let mut bundle = Bundle::new(&ferry(), &format!("({unshared}) 2>&1; true"));
    // Without the filter, which forbids the whole attempt.
    bundle.linux().seccomp = None;
    let said = bundle.said();
    assert!(!said.contains("written"), "{said}");
    // The attempt is one: in the namespaces the script ran to its end, or the kernel did not give them.
    assert!(said.contains("looked") || said.contains("unshare"), "{said}");
    assert!(
        !Bundle::new(&ferry(), &format!("({unshared}) 2>&1; true")).said().contains("looked"),
        "the filter forbids it"
    );
}
