//! A root process in the container lies in wait for the runtime.

use std::os::unix::fs::MetadataExt as _;
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
    host: u64,
    rights: u64,
    looked_into: u64,
}

fn watch(capabilities: &[&str], mut visit: impl FnMut(&Bundle)) -> Seen {
    let mut bundle = Bundle::new(&ferry(), "");
    std::fs::copy(watcher(), bundle.rootfs().join("bin/watcher")).unwrap();
    let root = std::fs::metadata("/").unwrap();
    bundle.process().args = vec!["/bin/watcher".into(), format!("{}:{}", root.dev(), root.ino())];
    let sets = bundle.process().capabilities.as_mut().unwrap();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(capabilities.iter().map(|&name| name.into()));
    }
    bundle.start();
    wait_for(&bundle.beside("out"), "watching\n");
    visit(&bundle);
    // The watcher ends at the sight of the file, and its namespace with it: the one who touched it may not live to tell.
    bundle.call(&["exec", &bundle.id, "/bin/touch", "/stop"]);
    let said = wait_for(&bundle.beside("out"), "end\n");
    let count = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    Seen {
        processes: count("processes"),
        writable: count("writable"),
        directories: count("directories"),
        foreign: count("foreign"),
        host: count("host"),
        rights: count("rights"),
        looked_into: count("looked into"),
    }
}

fn assert_nothing(seen: &Seen, visits: u64, what: &str) {
    assert!(seen.processes > visits / 4, "{what}: the detector saw {} processes only", seen.processes);
    // The control: what runs there is looked into, so a leak would have been.
    assert!(seen.looked_into > 0, "{what}: the detector could not look into anything");
    assert_eq!((seen.writable, seen.directories, seen.foreign, seen.host, seen.rights), (0, 0, 0, 0, 0), "{what}");
}

#[test]
fn nothing_of_the_host_is_seen_in_an_exec() {
    if !ready() {
        return;
    }
    for capabilities in [&[][..], &["CAP_SYS_PTRACE"][..]] {
        let seen = watch(capabilities, |bundle| {
            for _ in 0..100 {
                bundle.succeed(&["exec", &bundle.id, "/bin/sh", "-c", ":"]);
            }
        });
        assert_nothing(&seen, 100, &format!("exec with {capabilities:?}"));
    }
}

/// A container in the pid namespace of another.
fn joined(first: &Bundle, program: &[&str]) -> Bundle {
    let state: serde_json::Value = serde_json::from_str(&first.succeed(&["state", &first.id])).unwrap();
    let mut joined = Bundle::new(&ferry(), "");
    joined.process().args = program.iter().map(|&word| word.into()).collect();
    for namespace in &mut joined.linux().namespaces {
        if namespace.kind == ferry_spec::runtime::LinuxNamespaceKind::Pid {
            namespace.path = Some(format!("/proc/{}/ns/pid", state["pid"]));
        }
    }
    joined
}

#[test]
fn nothing_of_the_host_is_seen_in_a_container_that_joins() {
    if !ready() {
        return;
    }
    let seen = watch(&["CAP_SYS_PTRACE"], |bundle| {
        for _ in 0..30 {
            assert_eq!(joined(bundle, &["/bin/true"]).run().status.code(), Some(0));
        }
    });
    // Its root is another than the detector's, so only the host's own counts.
    assert!(seen.looked_into > 0);
    assert_eq!((seen.writable, seen.host, seen.rights), (0, 0, 0));
}

#[test]
fn detector_sees_what_is_planted() {
    if !ready() {
        return;
    }
    let seen = watch(&["CAP_SYS_PTRACE"], |bundle| {
        let leaking = joined(bundle, &["/bin/sleep", "0.3"]);
        let command = leaking.command(&["run", "--preserve-fds", "1", &leaking.id]);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "exec 3</; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
        assert!(shell.current_dir(leaking.beside("")).status().unwrap().success());
    });
    assert!(seen.host > 0 && seen.directories > 0);
}
