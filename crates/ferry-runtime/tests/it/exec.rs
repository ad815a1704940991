//! A second program is as confined as the first.

use std::collections::BTreeMap;

use crate::bundle::{Bundle, ready, runtimes, text};

const STATUS: &str = "cat /proc/self/status; for n in cgroup ipc mnt net pid uts; do echo ns-$n: $(readlink /proc/self/ns/$n); done; \
                      echo cgroup: $(cat /proc/self/cgroup | tr '\\n' ' '); echo oom: $(cat /proc/self/oom_score_adj); \
                      echo limits: $(cat /proc/self/limits | tr -s ' ' | tr '\\n' ' '); echo cwd: $(pwd)";

fn fields(status: &str) -> BTreeMap<String, String> {
    const DIFFERENT: [&str; 17] = [
        "Pid",
        "Tgid",
        "PPid",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "VmPeak",
        "VmSize",
        "VmHWM",
        "VmRSS",
        "RssAnon",
        "VmData",
        "VmStk",
        "voluntary_ctxt_switches",
        "nonvoluntary_ctxt_switches",
        "RssFile",
    ];
    // Whatever belongs to memory or to a certain moment is not confinement.
    let differs = |name: &str| {
        DIFFERENT.contains(&name) || name.starts_with("Vm") || name == "SigQ" || name == "Cpus_allowed_list"
    };
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| !differs(name)).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn exec_has_the_confinement_of_init() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, &format!("{STATUS}; echo done; sleep 1000"));
        bundle.process().user.uid = 33;
        bundle.process().user.gid = 34;
        bundle.process().user.additional_gids = vec![29, 44];
        bundle.process().no_new_privileges = true;
        bundle.process().oom_score_adj = Some(250);
        bundle.process().rlimits.push(ferry_spec::runtime::Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            hard: 512,
            soft: 256,
            lower_to_allowed: false,
        });
        bundle.start();
        let out = bundle.beside("out");
        let init = wait_for(&out, "done\n");
        let exec = bundle.succeed(&["exec", &bundle.id, "/bin/sh", "-c", STATUS]);
        let (mut init, mut exec) = (fields(&init), fields(&exec));
        for name in ["Seccomp", "CapEff", "CapBnd", "Groups", "NoNewPrivs", "ns-pid", "cgroup", "oom", "Uid", "limits"]
        {
            assert!(init.contains_key(name), "{name}: {init:?}");
        }
        if !bundle.is_ferry() {
            // runc's exec leaves the score of the caller, and Go has its own mind about the number of files.
            for name in ["oom", "limits"] {
                init.remove(name);
                exec.remove(name);
            }
        }
        assert_eq!(init, exec, "{runtime:?}");
        bundle.succeed(&["kill", &bundle.id, "KILL"]);
    }
}

/// Waits until a file holds a text, and returns all of it.
pub(crate) fn wait_for(path: &std::path::Path, wanted: &str) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        if content.contains(wanted) {
            return content;
        }
        assert!(std::time::Instant::now() < deadline, "{path:?} has no {wanted:?}: {content}");
        std::thread::yield_now();
    }
}

#[test]
fn exec_reports_codes_and_failures() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "sleep 1000");
        bundle.start();
        assert_eq!(bundle.call(&["exec", &bundle.id, "/bin/sh", "-c", "exit 9"]).status.code(), Some(9));
        let output = bundle.call(&["exec", &bundle.id, "foo"]);
        let expected = r#"unable to start container process: exec: "foo": executable file not found in $PATH"#;
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        let output = bundle.call(&["exec", "--cwd", "/nope", &bundle.id, "/bin/true"]);
        let expected = r#"chdir to cwd ("/nope") set in config.json failed: no such file or directory"#;
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        bundle.succeed(&["kill", &bundle.id, "KILL"]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while bundle.status() != "stopped" {
            assert!(std::time::Instant::now() < deadline);
        }
        let output = bundle.call(&["exec", &bundle.id, "/bin/true"]);
        assert!(text(&output.stderr).contains("stopped"), "{}", text(&output.stderr));
    }
}

#[test]
fn exec_into_a_paused_container_does_not_hang() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&crate::bundle::ferry(), "sleep 1000");
    bundle.start();
    bundle.succeed(&["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    let output = bundle.call(&["exec", &bundle.id, "/bin/true"]);
    assert!(text(&output.stderr).contains("paused"), "{}", text(&output.stderr));
    bundle.succeed(&["resume", &bundle.id]);
    bundle.succeed(&["exec", &bundle.id, "/bin/true"]);
}

#[test]
fn exec_works_under_filters_that_forbid_its_own_steps() {
    if !ready() {
        return;
    }
    // What the runtime itself would like to do after the filter, one at a time: it then has to do it before.
    for forbidden in ["clone", "setsid", "close_range"] {
        let mut bundle = Bundle::new(&crate::bundle::ferry(), "");
        bundle.process().args = vec!["/bin/sleep".into(), "1000".into()];
        for rule in &mut bundle.linux().seccomp.as_mut().unwrap().syscalls {
            rule.names.retain(|name| name != forbidden);
        }
        bundle.start();
        let status = bundle.succeed(&["exec", &bundle.id, "/bin/cat", "/proc/self/status"]);
        let status = fields(&status);
        assert_eq!((status["Seccomp"].as_str(), status["CapEff"].as_str()), ("2", "00000000a80425fb"), "{forbidden}");
    }
}
