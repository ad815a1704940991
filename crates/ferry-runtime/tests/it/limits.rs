//! Resource limits, kernel parameters, names and namespaces.

use ferry_spec::runtime::{LinuxMemory, LinuxNamespaceKind, LinuxPids, Rlimit};

use crate::bundle::{Bundle, ferry, has_controller, ready, runtimes, text};

#[test]
fn cgroup_limits_hold() {
    if !ready() || !has_controller("pids") || !has_controller("memory") {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "i=0; while [ $i -lt 20 ]; do sleep 1 & i=$((i+1)); done; echo all");
        bundle.linux().resources.as_mut().unwrap().pids = Some(LinuxPids { limit: 8 });
        let output = bundle.run();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains("fork"), "{runtime:?}: {said}");
        let mut bundle = Bundle::new(&runtime, "head -c 64m /dev/zero | tail | wc -c");
        bundle.linux().resources.as_mut().unwrap().memory =
            Some(LinuxMemory { limit: Some(16 << 20), ..LinuxMemory::default() });
        let said = text(&bundle.run().stdout);
        assert_ne!(said.trim(), (64 << 20).to_string(), "{runtime:?}: the memory limit did not hold");
    }
}

#[test]
fn cgroups_inside_are_its_own_and_cannot_be_written() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let said = Bundle::new(
            &runtime,
            "cat /proc/self/cgroup; find=; for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do \
             [ -e $f ] && (echo x > $f) 2>/dev/null && echo written $f; done; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null && echo made; true",
        )
        .said();
        assert!(!said.contains("written") && !said.contains("made"), "{runtime:?}: {said}");
        for line in said.lines().filter(|line| line.contains(':')) {
            assert!(line.ends_with(":/"), "{runtime:?}: {line}");
        }
    }
}

#[test]
fn cgroups_are_seen_without_a_namespace_of_ones_own() {
    if !ready() || !has_controller("pids") {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "cat /proc/self/cgroup; (echo 1 > /sys/fs/cgroup/pids/pids.max) 2>&1; cat /sys/fs/cgroup/pids/pids.max",
        );
        bundle.linux().namespaces.retain(|one| one.kind != LinuxNamespaceKind::Cgroup);
        bundle.linux().resources.as_mut().unwrap().pids = Some(LinuxPids { limit: 77 });
        let said = bundle.said();
        let id = &bundle.id;
        assert!(
            said.contains(&format!(":pids:/{id}\n")) || said.contains(&format!("0::/{id}\n")),
            "{runtime:?}: {said}"
        );
        if said.contains(":pids:") {
            assert!(said.contains("Read-only") && said.ends_with("77\n"), "{runtime:?}: {said}");
        }
    }
}

#[test]
fn rlimits_are_set_or_refused_by_name() {
    if !ready() {
        return;
    }
    let limit =
        |hard: u64, lower_to_allowed: bool| Rlimit { kind: "RLIMIT_NOFILE".into(), hard, soft: 100, lower_to_allowed };
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "ulimit -Sn; ulimit -Hn");
        bundle.process().rlimits = vec![limit(200, false)];
        assert_eq!(bundle.said(), "100\n200\n");
    }
    // The kernel's own ceiling cannot be passed by anybody.
    let beyond: u64 = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse::<u64>().unwrap() + 1;
    let mut bundle = Bundle::new(&ferry(), "ulimit -Sn");
    bundle.process().rlimits = vec![limit(beyond, false)];
    let output = bundle.run();
    assert!(
        text(&output.stderr).contains(&format!("RLIMIT_NOFILE to 100:{beyond}: operation not permitted")),
        "{}",
        text(&output.stderr)
    );
    assert!(!bundle.leaves_something());
    let mut bundle = Bundle::new(&ferry(), "ulimit -Sn");
    bundle.process().rlimits = vec![limit(beyond, true)];
    assert_eq!(bundle.said(), "100\n");
}

#[test]
fn names_and_parameters_are_the_containers() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "hostname; cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward; ls /sys/class/net",
        );
        bundle.linux().sysctl.insert("kernel.shmmni".into(), "77".into());
        bundle.linux().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
        let said = bundle.said();
        assert!(said.starts_with("inside\n77\n1\n") && said.contains("lo"), "{runtime:?}: {said}");
    }
    let mut bundle = Bundle::new(&ferry(), "true");
    bundle.linux().sysctl.insert("vm.swappiness".into(), "1".into());
    assert!(text(&bundle.run().stderr).contains("not in a separate kernel namespace"));
}

#[test]
fn namespaces_of_others_are_joined() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let first = Bundle::new(&runtime, "echo up; sleep 1000");
        first.start();
        crate::exec::wait_for(&first.beside("out"), "up\n");
        let state: serde_json::Value = serde_json::from_str(&first.succeed(&["state", &first.id])).unwrap();
        let pid = state["pid"].as_u64().unwrap();
        let mut second = Bundle::new(
            &runtime,
            "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid; echo $$; tr '\\0' ' ' < /proc/1/cmdline",
        );
        for (kind, name) in
            [(LinuxNamespaceKind::Network, "net"), (LinuxNamespaceKind::Ipc, "ipc"), (LinuxNamespaceKind::Pid, "pid")]
        {
            let namespaces = &mut second.linux().namespaces;
            let namespace = namespaces.iter_mut().find(|namespace| namespace.kind == kind).unwrap();
            namespace.path = Some(format!("/proc/{pid}/ns/{name}"));
        }
        let said = second.said();
        for (line, name) in said.lines().zip(["net", "ipc", "pid"]) {
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(line, theirs.to_str().unwrap(), "{runtime:?}");
        }
        assert_ne!(said.lines().nth(3), Some("1"));
        // Its /proc shows the namespace it is in, not the one it was made from.
        assert!(said.lines().nth(4).is_some_and(|line| line.starts_with("sleep 1000")), "{runtime:?}: {said}");
        first.succeed(&["kill", &first.id, "KILL"]);
    }
}

#[test]
fn host_namespaces_are_kept_when_none_is_listed() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "readlink /proc/self/ns/net; readlink /proc/self/ns/uts");
        bundle.spec.hostname = None;
        // A new sysfs needs a network namespace of one's own; Docker's engine binds the host's.
        bundle
            .linux()
            .namespaces
            .retain(|one| !matches!(one.kind, LinuxNamespaceKind::Network | LinuxNamespaceKind::Uts));
        let own =
            |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned();
        assert_eq!(bundle.said(), format!("{}\n{}\n", own("net"), own("uts")));
    }
}
