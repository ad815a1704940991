//! Hooks: where and when each runs, with what, and what its failure does.

use ferry_spec::runtime::{Hook, Hooks};

use crate::bundle::{Bundle, ferry, ready, runtimes, text};

fn hook(script: &str) -> Hook {
    Hook { path: "/bin/sh".into(), args: vec!["sh".into(), "-c".into(), script.into()], ..Hook::default() }
}

/// A hook that appends a line to a file of the bundle: its moment, and the status that it is told.
fn noting(bundle: &Bundle, moment: &str) -> Vec<Hook> {
    let log = bundle.beside("moments").display().to_string();
    vec![hook(&format!(
        r#"read state; status=${{state##*\"status\":\"}}; status=${{status%%\"*}}; echo "{moment} $status" >>{log}"#
    ))]
}

#[test]
fn hooks_run_in_their_order_with_the_state() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "echo program >>/moments");
        let hooks = Hooks {
            prestart: noting(&bundle, "prestart"),
            create_runtime: noting(&bundle, "createRuntime"),
            create_container: noting(&bundle, "createContainer"),
            start_container: vec![hook("cat >/state; echo startContainer >>/moments; hostname >>/moments")],
            poststart: noting(&bundle, "poststart"),
            poststop: noting(&bundle, "poststop"),
        };
        bundle.spec.hooks = Some(hooks);
        bundle.said();
        let moments = std::fs::read_to_string(bundle.beside("moments")).unwrap();
        let expected = ["prestart creating", "createRuntime creating", "createContainer creating", "poststop stopped"];
        // When a program that short is running, only its runtime knows.
        let seen: Vec<&str> = moments.lines().filter(|line| !line.starts_with("poststart")).collect();
        assert_eq!(seen, expected, "{runtime:?}");
        assert!(moments.contains("poststart "), "{runtime:?}: {moments}");
        let inside = std::fs::read_to_string(bundle.rootfs().join("moments")).unwrap();
        assert_eq!(inside, "startContainer\ninside\nprogram\n", "{runtime:?}");
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(bundle.rootfs().join("state")).unwrap()).unwrap();
        assert_eq!(state["id"], bundle.id.as_str());
        assert_eq!(state["bundle"], bundle.beside("").display().to_string().trim_end_matches('/'));
    }
}

#[test]
fn a_hook_outside_can_reach_the_namespaces_of_the_container() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "readlink /proc/self/ns/net; hostname");
        let seen = bundle.beside("net").display().to_string();
        let script = format!(
            r#"read state; pid=${{state##*\"pid\":}}; pid=${{pid%%[,\}}]*}}; readlink /proc/$pid/ns/net >{seen}"#
        );
        bundle.spec.hooks = Some(Hooks { prestart: vec![hook(&script)], ..Hooks::default() });
        let said = bundle.said();
        assert_eq!(said.lines().next(), std::fs::read_to_string(&seen).unwrap().lines().next(), "{runtime:?}");
    }
}

#[test]
fn a_hook_can_mount_into_the_root_by_its_name() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "cat /tmp/given");
        let (source, target) = (bundle.beside("given"), bundle.rootfs().join("tmp"));
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("given"), "by a hook\n").unwrap();
        let script = format!("mount --bind {} {}", source.display(), target.display());
        bundle.spec.hooks = Some(Hooks { create_container: vec![hook(&script)], ..Hooks::default() });
        assert_eq!(bundle.said(), "by a hook\n", "{runtime:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&target.display().to_string()), "{runtime:?}: it is mounted on the host");
    }
}

#[test]
fn a_failing_hook_ends_the_container_and_leaves_nothing() {
    if !ready() {
        return;
    }
    type Put = fn(&mut Hooks, Vec<Hook>);
    let moments: [(&str, Put); 5] = [
        ("prestart", |hooks, list| hooks.prestart = list),
        ("createRuntime", |hooks, list| hooks.create_runtime = list),
        ("createContainer", |hooks, list| hooks.create_container = list),
        ("startContainer", |hooks, list| hooks.start_container = list),
        ("poststart", |hooks, list| hooks.poststart = list),
    ];
    for (moment, put) in moments {
        let mut bundle = Bundle::new(&ferry(), "sleep 1000");
        let mut hooks = Hooks::default();
        put(&mut hooks, vec![hook("exit 0"), hook("echo why >&2; exit 9")]);
        bundle.spec.hooks = Some(hooks);
        let output = bundle.run();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{moment}");
        assert!(
            said.contains(&format!("error running {moment} hook #1: exit status 9, stdout: , stderr: why")),
            "{moment}: {said}"
        );
        assert!(!bundle.leaves_something(), "{moment}");
    }
}

#[test]
fn a_hook_has_its_time_and_no_more() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "true");
        let slow = Hook { timeout: Some(1), ..hook("exec sleep 1000") };
        bundle.spec.hooks = Some(Hooks { create_runtime: vec![slow], ..Hooks::default() });
        let output = bundle.run();
        assert!(!output.status.success(), "{runtime:?}");
        assert!(
            text(&output.stderr).contains("hook ran past specified timeout of 1.0s"),
            "{runtime:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn hooks_in_the_container_have_no_more_rights_than_its_program() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(&ferry(), "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; ulimit -n");
    let script = "{ grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; ulimit -n; } >/tmp/hook";
    bundle.spec.hooks = Some(Hooks { start_container: vec![hook(script)], ..Hooks::default() });
    let program = bundle.said();
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("tmp/hook")).unwrap(), program);
    assert!(program.contains("Seccomp:\t2"));
}
