//! Cgroups against folders that only look like them, and against the host's where this is root.

use ferry_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, defaults};

use super::*;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let path = std::env::temp_dir().join(format!("ferry-cgroup-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Tree(path)
    }

    fn file(&self, path: &str, content: &str) -> &Tree {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn limited() -> LinuxResources {
    LinuxResources {
        memory: Some(LinuxMemory { limit: Some(1 << 20), swap: Some(1 << 20), ..LinuxMemory::default() }),
        cpu: Some(LinuxCpu { quota: Some(50_000), period: Some(100_000), ..LinuxCpu::default() }),
        pids: Some(LinuxPids { limit: 10 }),
        ..LinuxResources::default()
    }
}

#[test]
fn paths_have_one_form() {
    assert_eq!(normalise("/a//b/./c/").unwrap(), "a/b/c");
    for path in ["", "/", "a/../b", "..", "a\0b"] {
        assert!(normalise(path).is_err(), "{path:?}");
    }
}

#[test]
fn v2_limits_go_to_their_files() {
    let tree = Tree::new("v2");
    tree.file("cgroup.subtree_control", "memory\n").file("ferry/cgroup.subtree_control", "");
    for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
        tree.file(&format!("ferry/x/{file}"), "");
    }
    let cgroup = Cgroup::in_tree("/ferry/x", vec![Hierarchy::fake_v2(&tree.0, &["memory", "cpu", "pids"])]);
    cgroup.make_folders().unwrap();
    assert_eq!(tree.read("cgroup.subtree_control"), "+cpu +pids", "only what is missing is enabled");
    assert_eq!(tree.read("ferry/cgroup.subtree_control"), "+memory +cpu +pids");
    limits::apply(&limited(), "ferry/x", |name| cgroup.hierarchies.iter().find(|one| one.has(name)), cgroup.v2())
        .unwrap();
    assert_eq!(tree.read("ferry/x/memory.max"), "1048576");
    assert_eq!(tree.read("ferry/x/memory.swap.max"), "0");
    assert_eq!(tree.read("ferry/x/cpu.max"), "50000 100000");
    assert_eq!(tree.read("ferry/x/pids.max"), "10");
}

#[test]
fn v2_is_read() {
    let tree = Tree::new("v2-read");
    tree.file("x/cgroup.procs", "12\n7\n").file("x/sub/cgroup.procs", "99\n");
    tree.file("x/memory.events", "low 0\nmax 3\noom 1\noom_kill 2\n");
    tree.file("x/memory.current", "4096\n").file("x/memory.max", "max\n").file("x/memory.stat", "anon 1\nfile 2\n");
    tree.file("x/cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n");
    tree.file("x/pids.current", "2\n").file("x/pids.max", "10\n").file("x/io.stat", "8:0 rbytes=1\n");
    tree.file("x/cgroup.freeze", "1\n");
    let cgroup = Cgroup::in_tree("x", vec![Hierarchy::fake_v2(&tree.0, &["memory", "cpu", "pids", "io"])]);
    assert_eq!(cgroup.pids().unwrap(), [7, 12, 99]);
    assert_eq!(cgroup.oom_kill_count().unwrap(), 2);
    assert!(cgroup.is_frozen().unwrap());
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.usage, stats.memory.limit, stats.memory.fail_count), (4096, u64::MAX, 3));
    assert_eq!((stats.cpu.total_ns, stats.pids.limit, stats.io.len()), (5000, 10, 1));
}

#[test]
fn limit_without_its_controller_is_named() {
    let tree = Tree::new("missing");
    let cgroup = Cgroup::in_tree("x", vec![Hierarchy::fake_v1(&tree.0, "memory")]);
    let pids = LinuxResources { pids: Some(LinuxPids { limit: 1 }), ..LinuxResources::default() };
    let error = cgroup.update(&pids).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("pids"), "{error}");
}

fn host_cgroup(name: &str) -> Option<Cgroup> {
    if !rustix::process::geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: needs root and a writable cgroup tree");
        }
        return None;
    }
    Some(Cgroup::prepare(&format!("/ferry-test-{name}-{}", std::process::id())).unwrap())
}

#[test]
fn host_cgroup_lives_and_goes() {
    let Some(cgroup) = host_cgroup("life") else { return };
    let resources = LinuxResources { devices: defaults::device_rules(), ..limited() };
    cgroup.make(&resources).unwrap();
    let into = cgroup.clone();
    let child = ferry_sys::process::clone_child(ferry_sys::namespace::Namespaces::empty(), None, move || {
        into.join().unwrap();
        loop {
            rustix::event::pause();
        }
    })
    .unwrap();
    let deadline = Instant::now() + PATIENCE;
    // It joins one hierarchy after the other.
    while cgroup.pids().unwrap() != [child.pid] || cgroup.stats().unwrap().pids.current != 1 {
        assert!(Instant::now() < deadline, "the child did not join");
        std::thread::yield_now();
    }
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.current, stats.pids.limit), (1 << 20, 1, 10));
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.update(&LinuxResources { pids: Some(LinuxPids { limit: 20 }), ..LinuxResources::default() }).unwrap();
    assert_eq!(cgroup.stats().unwrap().pids.limit, 20);
    cgroup.oom_event_fd().unwrap();
    cgroup.signal_all(libc::SIGKILL).unwrap();
    assert_eq!(libc::WTERMSIG(child.wait().unwrap()), libc::SIGKILL);
    cgroup.remove().unwrap();
    assert!(!cgroup.exists());
    cgroup.remove().unwrap();
}

#[test]
fn failed_limit_leaves_no_cgroup() {
    let Some(cgroup) = host_cgroup("fail") else { return };
    let wrong = LinuxCpu { cpus: Some("9999".into()), ..LinuxCpu::default() };
    cgroup.make(&LinuxResources { cpu: Some(wrong), ..LinuxResources::default() }).unwrap_err();
    assert!(!cgroup.exists());
}

#[test]
fn device_program_of_v2_is_enforced() {
    let Some(cgroup) = host_cgroup("bpf") else { return };
    // Where v1 has the devices, v2 has programs all the same: a hierarchy without controllers will do.
    let Some(v2) = cgroup.v2().cloned() else { return };
    let cgroup = Cgroup { hierarchies: vec![v2], ..cgroup };
    cgroup.make_folders().unwrap();
    cgroup.set_devices(&LinuxResources { devices: defaults::device_rules(), ..LinuxResources::default() }).unwrap();
    // A second time in place of the first.
    cgroup.set_devices(&LinuxResources { devices: defaults::device_rules(), ..LinuxResources::default() }).unwrap();
    let into = cgroup.clone();
    let child = ferry_sys::process::clone_child(ferry_sys::namespace::Namespaces::empty(), None, move || {
        let kmsg = || std::fs::File::open("/dev/kmsg");
        if kmsg().is_err() {
            return 2;
        }
        into.join().unwrap();
        let denied = kmsg().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
        i32::from(!(denied && std::fs::File::open("/dev/null").is_ok()))
    })
    .unwrap();
    assert_eq!(libc::WEXITSTATUS(child.wait().unwrap()), 0);
    cgroup.remove().unwrap();
}
