//! A root process in the container lies in wait for the runtime.

use std::path::PathBuf;

use crate::bundle::{Bundle, ferry, ready};
use crate::exec::wait_for;

/// The program of `examples/lie_in_wait.rs`, built along with the tests.
fn watcher() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/lie_in_wait");
    assert!(
        path.exists(),
        "{} is built by `cargo test` without a selection of targets, or with --examples",
        path.display()
    );
    path
}

struct Seen {
    processes: u64,
    writable: u64,
    directories: u64,
    foreign: u64,
    looked_into: u64,
}

fn watch(capabilities: &[&str], execs: usize) -> Seen {
    let mut bundle = Bundle::new(&ferry(), "");
    std::fs::copy(watcher(), bundle.rootfs().join("bin/watcher")).unwrap();
    bundle.process().args = vec!["/bin/watcher".into()];
    let sets = bundle.process().capabilities.as_mut().unwrap();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(capabilities.iter().map(|&name| name.into()));
    }
    bundle.start();
    wait_for(&bundle.beside("out"), "watching\n");
    for _ in 0..execs {
        bundle.succeed(&["exec", &bundle.id, "/bin/sh", "-c", ":"]);
    }
    bundle.succeed(&["exec", &bundle.id, "/bin/touch", "/stop"]);
    let said = wait_for(&bundle.beside("out"), "end\n");
    let count = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    Seen {
        processes: count("processes"),
        writable: count("writable"),
        directories: count("directories"),
        foreign: count("foreign"),
        looked_into: count("looked into"),
    }
}

#[test]
fn nothing_of_the_host_is_seen_in_an_exec() {
    if !ready() {
        return;
    }
    for (capabilities, execs) in [(&[][..], 100), (&["CAP_SYS_PTRACE"][..], 100)] {
        let seen = watch(capabilities, execs);
        assert!(seen.processes > execs as u64 / 4, "the detector saw {} processes only", seen.processes);
        // The control: what runs there is looked into, so a leak would have been.
        assert!(seen.looked_into > 0, "the detector could not look into anything");
        assert_eq!((seen.writable, seen.directories, seen.foreign), (0, 0, 0), "with {capabilities:?}");
    }
}
