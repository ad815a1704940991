//! Options of `create` and `run` that no other module has: devices, modes of namespaces, and values that do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferry_testkit::bad_values::{self, Answer, Answers};
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, Sandbox, programs};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/bad-values")
}

/// Rows where ferry means to answer otherwise: what it says, and why.
fn meant() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(folder().join("differs.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parts = lines.map(|line| line.splitn(3, " | ").map(|part| part.trim().to_owned()).collect::<Vec<_>>());
    parts.map(|mut parts| (parts.remove(0), (parts.remove(0), parts.remove(0)))).collect()
}

#[test]
fn bad_values_get_dockers_answer_and_make_nothing() {
    if !programs::need_root() {
        return;
    }
    let recorded: Answers = serde_json::from_slice(&std::fs::read(folder().join("newest.json")).unwrap()).unwrap();
    let meant = meant();
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let (mut wrong, mut rows) = (Vec::new(), 0);
    for row in bad_values::read(&folder()).unwrap() {
        let answer = bad_values::ask(&daemon, "1.55", &row);
        let docker = &recorded[&row.name];
        rows += 1;
        match meant.get(&row.name) {
            Some((message, _)) if answer.message.contains(message.as_str()) && !same(&answer, docker) => {}
            Some(_) if same(&answer, docker) => wrong.push(format!("{}: agrees now: take it off the list", row.name)),
            None if same(&answer, docker) => {}
            _ => wrong.push(format!("{}\n    docker: {docker:?}\n    ferry:  {answer:?}", row.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} differ:\n{}", wrong.len(), wrong.join("\n"));
    watch.end().unwrap();
}

/// The same words; a failure that Docker has at start may come earlier, with nothing made, and then has a status of its own.
fn same(ferry: &Answer, docker: &Answer) -> bool {
    let words = |text: &str| {
        let text =
            text.strip_prefix("failed to create task for container: failed to create shim task: ").unwrap_or(text);
        let text = text.strip_prefix("OCI runtime create failed: runc create failed: ").unwrap_or(text);
        text.trim_start_matches("unable to start container process: ")
            .trim_start_matches("error during container init: ")
            .to_owned()
    };
    if words(&ferry.message) != words(&docker.message) {
        return false;
    }
    let earlier = ferry.start.is_none() && docker.start.is_some() && ferry.create >= 400;
    earlier || (ferry.create, ferry.start) == (docker.create, docker.start)
}

#[test]
fn devices_of_a_driver_come_from_its_specification() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let folder = sandbox.dir().join("cdi");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "cdiVersion: 0.6.0
kind: vendor.com/thing
devices:
  - name: one
    containerEdits:
      env: [THING=1]
      deviceNodes:
        - {path: /dev/thing, hostPath: /dev/full, permissions: rw, fileMode: 0666}
      mounts:
        - {hostPath: /etc/hostname, containerPath: /thing/name, options: [ro, bind]}
";
    std::fs::write(folder.join("thing.yaml"), text).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--cdi-spec-dir", &folder.display().to_string()]);
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    let script = "echo $THING; ls /thing; stat -c %t:%T /dev/thing; echo x >/dev/thing";
    let outcome = daemon.run(&["run", "--rm", "--device", "vendor.com/thing=one", "busybox", "sh", "-c", script]);
    assert_eq!(outcome.out(), "1\nname\n1:7\n", "{outcome}");
    assert!(outcome.err().contains("No space left on device"), "the device is allowed: {outcome}");
    let missing = daemon.run(&["run", "--rm", "--device", "vendor.com/thing=two", "busybox", "true"]);
    let text = "CDI device injection failed: unresolvable CDI devices vendor.com/thing=two";
    assert!(missing.fails_with(125).contains(text), "{missing}");
    let context = sandbox.dir().join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN --device=vendor.com/thing echo $THING >/told\n")
        .unwrap();
    let build = |right: &str| daemon.run(&["build", "-t", "thing", "--allow", right, context.to_str().unwrap()]);
    let refused = build("network.host");
    let text = "device vendor.com/thing=one is requested by the build but not allowed";
    assert!(refused.fails_with(1).contains(text), "{refused}");
    let _ = build("device=vendor.com/thing=one").ok();
    assert_eq!(daemon.run(&["run", "--rm", "thing", "cat", "/told"]).ok(), "1");
    let info = daemon.api("GET", "/v1.55/info", None).json();
    assert_eq!(info["CDISpecDirs"], serde_json::json!([folder.display().to_string()]));
    assert_eq!(info["DiscoveredDevices"], serde_json::json!([{"Source": "cdi", "ID": "vendor.com/thing=one"}]));
    let gpus = daemon.run(&["run", "--rm", "--gpus", "all", "busybox", "true"]);
    assert!(gpus.fails_with(125).contains("no known GPU vendor found"), "{gpus}");
    let vendor = text_of_gpu();
    std::fs::write(folder.join("gpu.json"), vendor).unwrap();
    assert_eq!(daemon.run(&["run", "--rm", "--gpus", "all", "busybox", "sh", "-c", "echo $GPU"]).ok(), "all");
    assert_eq!(daemon.run(&["run", "--rm", "--gpus", "1", "busybox", "sh", "-c", "echo $GPU"]).ok(), "0");
}

fn text_of_gpu() -> &'static str {
    r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": "0", "containerEdits": {"env": ["GPU=0"]}}, {"name": "all", "containerEdits": {"env": ["GPU=all"]}}]}"#
}

#[test]
fn namespaces_are_shared_as_asked() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let _ = daemon
        .run(&["run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m", "busybox", "sleep", "1000"])
        .ok();
    let _ = daemon.run(&["exec", "donor", "sh", "-c", "echo shared >/dev/shm/f; mkdir /seen"]).ok();
    let joined = ["run", "--rm", "--ipc", "container:donor", "busybox"];
    assert_eq!(daemon.run(&[&joined[..], &["cat", "/dev/shm/f"]].concat()).ok(), "shared");
    let namespace = |flags: &[&str], kind: &str| {
        let path = format!("/proc/self/ns/{kind}");
        daemon.run(&[&["run", "--rm"], flags, &["busybox", "readlink", &path]].concat()).ok()
    };
    let of = |kind: &str| daemon.run(&["exec", "donor", "readlink", &format!("/proc/self/ns/{kind}")]).ok();
    assert_eq!(namespace(&["--ipc", "container:donor"], "ipc"), of("ipc"));
    assert_eq!(namespace(&["--pid", "container:donor"], "pid"), of("pid"));
    assert_eq!(namespace(&["--network", "container:donor"], "net"), of("net"));
    let host = |kind: &str| daemon.sandbox().sh(&format!("readlink /proc/self/ns/{kind}")).ok();
    for (flag, kind) in [("--ipc", "ipc"), ("--uts", "uts"), ("--pid", "pid"), ("--cgroupns", "cgroup")] {
        assert_eq!(namespace(&[flag, "host"], kind), host(kind), "{flag}");
        assert_ne!(namespace(&[], kind), host(kind), "{kind} is the container's own");
    }
    let none = daemon.run(&["run", "--rm", "--ipc", "none", "busybox", "ls", "/dev/shm"]);
    assert!(none.err().contains("No such file"), "{none}");
    let init = daemon.run(&["run", "--rm", "--init", "--pid", "container:donor", "busybox", "true"]);
    assert_eq!(init.code, 0, "{init}");
    let _ = daemon.run(&["run", "-d", "--name", "alone", "busybox", "sleep", "1000"]).ok();
    let refused = daemon.run(&["run", "--rm", "--ipc", "container:alone", "busybox", "true"]);
    let hint = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
    assert!(refused.fails_with(125).contains(hint), "{refused}");
    let _ = daemon.run(&["stop", "-t", "0", "alone"]).ok();
    let stopped = daemon.run(&["run", "--rm", "--pid", "container:alone", "busybox", "true"]);
    assert!(stopped.fails_with(125).contains("failed to join PID namespace: container "), "{stopped}");
    let _ = daemon.run(&["rm", "-f", "donor", "alone"]).ok();
    watch.end().unwrap();
}

#[test]
fn settings_of_a_process_reach_it() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run = |flags: &[&str], script: &str| {
        daemon.run(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat()).ok()
    };
    assert_eq!(run(&["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(run(&["--sysctl", "kernel.msgmax=9000"], "cat /proc/sys/kernel/msgmax"), "9000");
    let refused =
        daemon.run(&["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true"]);
    assert!(refused.fails_with(125).contains("not allowed in host network namespace"), "{refused}");
    assert_eq!(run(&["--shm-size", "2m"], "df -k /dev/shm | tail -n 1 | awk '{print $2}'"), "2048");
    assert_eq!(run(&["--group-add", "44", "--group-add", "99"], "id -G"), "0 44 99");
    assert_eq!(
        run(&["-h", "here", "--domainname", "example.org"], "hostname; cat /proc/sys/kernel/domainname"),
        "here\nexample.org"
    );
    assert_eq!(run(&["--device-cgroup-rule", "c 1:7 rw"], "mknod /d c 1 7 && echo x >/d; echo done"), "done");
    assert_eq!(run(&["--device", "/dev/full:/dev/other:r"], "dd if=/dev/other bs=1 count=1 2>/dev/null | wc -c"), "1");
    assert_eq!(run(&["--mac-address", "02:42:0a:0b:0c:0d"], "cat /sys/class/net/eth0/address"), "02:42:0a:0b:0c:0d");
    assert_eq!(run(&["--init", "--pid", "host"], "tr '\\0' ' ' </proc/self/cmdline | cut -d' ' -f1"), "tr");
}

#[test]
fn a_dry_run_shows_what_would_be_and_makes_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    daemon.load(&ferry_testkit::material::Material::get().full());
    let watch = Watch::daemon(&daemon);
    let flags = ["--name", "web", "-m", "64m", "-v", "new:/x", "-v", "/anonymous", "-e", "A=b", "full", "arg"];
    let shown = daemon.run(&[&["run", "--dry-run"], &flags[..]].concat()).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let container = &shown[0];
    assert_eq!((&container["Name"], &container["State"]["Status"]), (&"/web".into(), &"created".into()));
    assert_eq!(container["HostConfig"]["MemorySwap"], 128 << 20, "defaults are filled in");
    assert_eq!(container["Args"], serde_json::json!(["arg"]), "with the image's entrypoint before it: {container}");
    let bad = daemon.run(&["create", "--dry-run", "--volumes-from", "nobody", "busybox"]);
    assert!(bad.fails_with(1).contains("No such container: nobody"), "{bad}");
    watch.end().unwrap();
    let _ = daemon.run(&[&["create"], &flags[..]].concat()).ok();
    let made: serde_json::Value = serde_json::from_str(&daemon.run(&["inspect", "web"]).ok()).unwrap();
    let mut planned = container["HostConfig"].clone();
    planned["ConsoleSize"] = made[0]["HostConfig"]["ConsoleSize"].clone();
    assert_eq!(planned, made[0]["HostConfig"], "what was shown is what was made");
}

#[test]
fn a_container_can_be_made_again_from_its_inspection() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    daemon.load(&ferry_testkit::material::Material::get().full());
    let bound = daemon.sandbox().dir().join("bound");
    std::fs::create_dir(&bound).unwrap();
    let bind = format!("{}:/b:ro", bound.display());
    let mount = format!("type=bind,source={},target=/m,readonly,bind-recursive=disabled", bound.display());
    let lines: [&[&str]; 4] = [
        &["full"],
        &["--entrypoint", "", "full", "sleep", "it's 1"],
        &[
            "-it",
            "-h",
            "here",
            "--rm",
            "--network",
            "none",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "busybox",
        ],
        &[
            "-e",
            "A=b c",
            "-e",
            "B=$x",
            "-l",
            "k=v",
            "-u",
            "1000:1000",
            "-w",
            "/tmp",
            "--tmpfs",
            "/t:size=1m",
            "-v",
            &bind,
            "-v",
            "vol:/v",
            "--mount",
            &mount,
            "--mount",
            "type=volume,source=vol2,target=/v2,volume-nocopy",
            "-p",
            "127.0.0.1:8080:80",
            "-p",
            "81/udp",
            "--expose",
            "90",
            "--dns",
            "1.1.1.1",
            "--add-host",
            "a:1.2.3.4",
            "-m",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--ulimit",
            "nofile=100:200",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "--shm-size",
            "1m",
            "--restart",
            "on-failure:3",
            "--stop-signal",
            "USR1",
            "--stop-timeout",
            "3",
            "--init",
            "--read-only",
            "--ipc",
            "shareable",
            "--device",
            "/dev/null:/dev/n:r",
            "--device-cgroup-rule",
            "c 1:3 r",
            "--log-opt",
            "max-size=1m",
            "--annotation",
            "x.y=z",
            "--group-add",
            "44",
            "--privileged",
            "--oom-score-adj",
            "100",
            "busybox",
            "sh",
            "-c",
            "echo $A; sleep 1",
        ],
    ];
    for (number, line) in lines.iter().enumerate() {
        let name = format!("c{number}");
        let _ = daemon.run(&[&["create", "--name", &name], *line].concat()).ok();
        let settings = || {
            let text = daemon.run(&["inspect", &name]).ok();
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut settings = serde_json::json!({});
            for key in ["Path", "Args", "Image", "Name", "HostConfig", "Config", "Mounts", "Platform"] {
                settings[key] = document[0][key].clone();
            }
            for mount in settings["Mounts"].as_array_mut().unwrap() {
                // A volume without a name is a new one each time.
                if mount["Name"].as_str().is_some_and(|name| name.len() == 64) {
                    mount["Name"] = "".into();
                    mount["Source"] = "".into();
                }
            }
            let id = document[0]["Id"].as_str().unwrap()[..12].to_owned();
            serde_json::from_str::<serde_json::Value>(&settings.to_string().replace(&id, "<id>")).unwrap()
        };
        let before = settings();
        let again = daemon.run(&["inspect", "--as", "run", &name]).ok();
        assert!(again.starts_with("ferry run "), "{again}");
        let compose = daemon.run(&["container", "inspect", "--as", "compose", &name]).ok();
        assert!(compose.starts_with(&format!("services:\n  {name}:\n    image: ")), "{compose}");
        let _ = daemon.run(&["rm", &name]).ok();
        // Made, not started: what it was made with is what counts.
        let _ = daemon.sh(&again.replacen("ferry run", "ferry create", 1).replace(" --detach ", " ")).ok();
        assert_eq!(settings(), before, "{again}");
    }
    let bad = daemon.run(&["inspect", "--as", "nope", "c0"]);
    assert!(bad.fails_with(1).contains("must be run or compose"), "{bad}");
}

#[test]
fn links_give_names_on_the_default_bridge() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").env("DOCKER_KEEP_DEPRECATED_LEGACY_LINKS_ENV_VARS", "1");
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    let _ = daemon.run(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"]).ok();
    let _ = daemon
        .run(&[
            "run", "-d", "--name", "db", "-h", "dbhost", "-e", "SAID=x", "--expose", "5432", "busybox", "sleep", "1000",
        ])
        .ok();
    let created = daemon.run(&["run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000"]);
    assert!(created.err().contains("Links on the default bridge network are deprecated"), "{created}");
    let address = |name: &str| daemon.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let line = |name: &str| daemon.run(&["exec", name, "grep", "store", "/etc/hosts"]).ok();
    assert_eq!(line("web"), format!("{}\tstore dbhost db", address("db")));
    let variables = daemon.run(&["exec", "web", "env"]).ok();
    let port = format!("STORE_PORT=tcp://{}:5432", address("db"));
    for variable in [port.as_str(), "STORE_NAME=/web/store", "STORE_ENV_SAID=x", "STORE_PORT_5432_TCP_PROTO=tcp"] {
        assert!(variables.lines().any(|line| line == variable), "{variable} is not in {variables}");
    }
    assert_eq!(daemon.inspect("web", "{{.HostConfig.Links}}"), "[/db:/web/store]");
    let names = daemon.run(&["ps", "--no-trunc", "--format", "{{.Names}}", "--filter", "name=db"]).ok();
    assert_eq!(names, "db,web/store");
    // With another address the file tells the other one.
    let _ = daemon.run(&["stop", "-t", "0", "first", "db"]).ok();
    let _ = daemon.run(&["start", "db"]).ok();
    assert_eq!(line("web"), format!("{}\tstore dbhost db", address("db")));
    let _ = daemon.run(&["stop", "-t", "0", "web", "db"]).ok();
    let stopped = daemon.run(&["start", "web"]);
    assert!(stopped.err().contains("Cannot link to a non running container: /db AS /web/store"), "{stopped}");
    let _ = daemon.run(&["rm", "--link", "web/store"]).ok();
    let _ = daemon.run(&["start", "web"]).ok();
    assert_eq!(daemon.inspect("web", "{{.HostConfig.Links}}"), "[]");
    let missing = daemon.run(&["create", "--link", "nobody:x", "busybox"]);
    assert!(
        missing.fails_with(1).contains("could not get container for nobody: No such container: nobody"),
        "{missing}"
    );
}
