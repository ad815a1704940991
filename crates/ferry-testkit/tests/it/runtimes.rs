//! Foreign engines with ferry's runtime, and ferry with foreign runtimes.

use std::path::PathBuf;

use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, Outcome, Sandbox, programs};

use crate::until;

fn need(name: &'static str) -> Option<PathBuf> {
    let path = programs::on_path(name);
    programs::need(name, path.is_some()).then_some(path).flatten()
}

#[test]
fn dockerd_runs_containers_with_ferry() {
    if !programs::need_root() || !programs::need_docker_cli() {
        return;
    }
    let (Some(dockerd), Some(_)) = (need("dockerd"), need("containerd-shim-runc-v2")) else { return };
    let runtime = programs::binary("ferry-runtime").unwrap();
    let sandbox = Sandbox::new().unwrap();
    let register = format!("ferry={}", runtime.display());
    let daemon = Daemon::new(&sandbox, "d", dockerd).args(&["--add-runtime", &register, "--default-runtime", "ferry"]);
    daemon.start().unwrap();
    let docker = |words: &[&str]| daemon.docker(words);
    let _ = docker(&["load", "-q", "-i", &Material::get().busybox().display().to_string()]).ok();

    let said = docker(&[
        "run",
        "--rm",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "ip -4 -o addr show eth0; grep Seccomp: /proc/self/status",
    ]);
    assert!(said.ok().contains("172.17."), "its network is made by a hook: {said}");
    assert!(said.out().contains("Seccomp:\t2"), "{said}");
    assert_eq!(docker(&["run", "--rm", "busybox", "sh", "-c", "exit 7"]).code, 7);
    let missing = docker(&["run", "--rm", "busybox", "nope"]);
    assert_eq!(missing.code, 127);
    assert!(missing.err().contains(r#"exec: "nope": executable file not found in $PATH"#), "{missing}");
    let fed = ["run", "-i", "--rm", "busybox", "wc", "-c"];
    assert_eq!(docker(&fed).ok(), "0", "its input is closed");

    let _ =
        docker(&["run", "-d", "--name", "box", "--ipc", "shareable", "--pids-limit", "40", "busybox", "sleep", "1000"])
            .ok();
    assert_eq!(
        docker(&["exec", "-u", "33:34", "-w", "/tmp", "-e", "A=b", "box", "sh", "-c", "id -u; pwd; echo $A"]).ok(),
        "33\n/tmp\nb"
    );
    let missing = docker(&["exec", "box", "nope"]);
    assert_eq!(missing.code, 126, "as with runc");
    assert!(missing.to_string().contains("executable file not found"), "{missing}");
    let _ = docker(&["pause", "box"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "paused");
    let _ = docker(&["unpause", "box"]).ok();
    let _ = docker(&["update", "--pids-limit", "50", "box"]).ok();
    let limit = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
    assert_eq!(docker(&["exec", "box", "sh", "-c", limit]).ok(), "50");
    let shared = [
        "run",
        "--rm",
        "--pid",
        "container:box",
        "--network",
        "container:box",
        "--ipc",
        "container:box",
        "busybox",
        "ps",
    ];
    assert!(docker(&shared).ok().contains("sleep 1000"));
    assert!(docker(&["top", "box"]).ok().contains("sleep 1000"));
    let _ = docker(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Runtime}}", "box"]).ok(), "137 ferry");
    let _ = docker(&["rm", "box"]).ok();
    assert_eq!(daemon.stop().unwrap(), 0);
}

#[test]
fn podman_runs_containers_with_ferry() {
    if !programs::need_root() {
        return;
    }
    // Not among what a run promises: Debian's podman brings a container host's whole configuration with it.
    let (Some(podman), Some(_)) = (programs::on_path("podman"), programs::on_path("conmon")) else { return };
    let runtime = programs::binary("ferry-runtime").unwrap();
    let sandbox = Sandbox::new().unwrap();
    let (root, run_root) = (sandbox.dir().join("root"), sandbox.dir().join("run"));
    let podman = |words: &[&str]| -> Outcome {
        let mut command = sandbox.command(&podman);
        command.arg("--root").arg(&root).arg("--runroot").arg(&run_root).arg("--runtime").arg(&runtime);
        // Docker's client of these tests has a folder that podman would read.
        command.env_remove("DOCKER_CONFIG");
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]).args(words);
        ferry_testkit::command::run(command).unwrap()
    };
    let _ = podman(&["load", "-q", "-i", &Material::get().busybox().display().to_string()]).ok();
    assert_eq!(podman(&["run", "--rm", "--network", "none", "busybox", "echo", "hello"]).ok(), "hello");
    assert_eq!(podman(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 9"]).code, 9);
    let _ = podman(&["run", "-d", "--name", "x", "--network", "none", "busybox", "sleep", "1000"]).ok();
    assert_eq!(podman(&["exec", "x", "sh", "-c", "echo exec; cat /proc/1/comm"]).ok(), "exec\nsleep");
    let _ = podman(&["pause", "x"]).ok();
    let _ = podman(&["unpause", "x"]).ok();
    let _ = podman(&["kill", "x"]).ok();
    until("the container to end", || podman(&["inspect", "-f", "{{.State.Status}}", "x"]).ok() == "exited");
    let _ = podman(&["rm", "x"]).ok();
}

#[test]
fn ferry_runs_containers_with_foreign_runtimes() {
    if !programs::need_root() {
        return;
    }
    let Some(runc) = need("runc") else { return };
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.dir().join("daemon.json");
    let mut runtimes = serde_json::json!({"other": {"path": runc, "runtimeArgs": ["--debug"]}});
    // crun refuses hosts that mount both versions of cgroups.
    let crun = programs::on_path("crun").filter(|_| !std::path::Path::new("/sys/fs/cgroup/unified").exists());
    if let Some(crun) = &crun {
        runtimes["crun"] = serde_json::json!({"path": crun});
    }
    std::fs::write(&file, serde_json::json!({"runtimes": runtimes}).to_string()).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--config-file", &file.display().to_string()]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let watch = Watch::daemon(&daemon);
    for name in ["other", "crun"].into_iter().filter(|name| *name != "crun" || crun.is_some()) {
        let run = |words: &[&str]| daemon.run(&[&["run", "--rm", "--runtime", name], words].concat());
        assert!(run(&["busybox", "sh", "-c", "ip -4 -o addr show eth0"]).ok().contains("172."), "{name}");
        let outcome = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((outcome.code, outcome.out(), outcome.err()), (3, "out\n".into(), "err\n".into()), "{name}");
        assert_eq!(run(&["busybox", "nope"]).code, 127, "{name}");
        let status = run(&[
            "--security-opt",
            "no-new-privileges",
            "busybox",
            "grep",
            "-E",
            "Seccomp:|NoNewPrivs|CapEff",
            "/proc/self/status",
        ]);
        assert_eq!(status.ok(), "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2", "{name}");
        assert_eq!(run(&["-t", "busybox", "tty"]).ok(), "/dev/pts/0", "{name}");
        let _ = daemon
            .run(&[
                "run",
                "-d",
                "--name",
                "box",
                "--runtime",
                name,
                "-m",
                "64m",
                "-v",
                "vol:/v",
                "busybox",
                "sleep",
                "1000",
            ])
            .ok();
        assert_eq!(daemon.inspect("box", "{{.HostConfig.Runtime}}"), name);
        assert_eq!(daemon.run(&["exec", "-w", "/v", "box", "sh", "-c", "pwd; echo x >y; exit 0"]).ok(), "/v", "{name}");
        assert_eq!(daemon.run(&["exec", "-u", "33:34", "box", "id", "-u"]).ok(), "33", "{name}");
        assert_eq!(daemon.run(&["exec", "box", "sh", "-c", "exit 5"]).code, 5, "{name}");
        assert_eq!(daemon.run(&["exec", "box", "nope"]).code, 127, "{name}");
        let _ = daemon.run(&["pause", "box"]).ok();
        let _ = daemon.run(&["unpause", "box"]).ok();
        let _ = daemon.run(&["stop", "-t", "0", "box"]).ok();
        assert_eq!(daemon.inspect("box", "{{.State.ExitCode}}"), "137", "{name}");
        let _ = daemon.run(&["start", "box"]).ok();
        let _ = daemon.run(&["rm", "-f", "box"]).ok();
        let _ = daemon.run(&["volume", "rm", "vol"]).ok();
    }
    let info = daemon.api("GET", "/info", None).json();
    assert_eq!(info["Runtimes"]["other"]["path"], runc.display().to_string());
    assert_eq!(info["Runtimes"]["other"]["runtimeArgs"][0], "--debug");
    assert_eq!(info["DefaultRuntime"], "ferry");
    let unknown = daemon.run(&["run", "--rm", "--runtime", "nope", "busybox", "true"]);
    assert_eq!(unknown.code, 125);
    assert!(unknown.err().contains("unknown or invalid runtime name: nope"), "{unknown}");
    watch.end().unwrap();
}

#[test]
fn a_container_of_a_foreign_runtime_outlives_the_daemon() {
    if !programs::need_root() {
        return;
    }
    let Some(runc) = need("runc") else { return };
    let sandbox = Sandbox::new().unwrap();
    let register = format!("other={}", runc.display());
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--add-runtime", &register]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let script = "while [ ! -e /go ]; do sleep 0.05; done; exit 6";
    let _ = daemon.run(&["run", "-d", "--name", "box", "--runtime", "other", "busybox", "sh", "-c", script]).ok();
    let pid = daemon.inspect("box", "{{.State.Pid}}");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.inspect("box", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    // The container may end before the program that lets it.
    let _ = daemon.run(&["exec", "box", "touch", "/go"]);
    assert_eq!(daemon.run(&["wait", "box"]).ok(), "6");
    let _ = daemon.run(&["rm", "box"]).ok();
}
