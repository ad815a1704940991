//! Plugins beside the daemon, and managed ones: volumes, logs, authorization.

use std::path::Path;
use std::time::{Duration, Instant};

use ferry_testkit::image::Layer;
use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::plugin::Plugin;
use ferry_testkit::registry::{Auth, Registry, Storage};
use ferry_testkit::{Daemon, Sandbox, api, programs};
use serde_json::json;

use crate::until;

/// What a verb may take that must not wait for a plugin; ten times what is promised.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn volumes_of_a_plugin_are_made_used_and_removed() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = Plugin::in_sandbox(daemon.sandbox(), "sample").unwrap();
    plugin.set_scope("GLOBAL");
    let _ = daemon.run(&["volume", "create", "-d", "sample", "-o", "a=b", "--label", "k=v", "kept"]).ok();
    assert_eq!(plugin.calls("VolumeDriver.Create"), [json!({ "Name": "kept", "Opts": { "a": "b" } })]);
    let shown =
        daemon.run(&["volume", "inspect", "-f", "{{.Driver}} {{.Scope}} {{.Labels}} {{.Options}} {{.Status}}", "kept"]);
    assert_eq!(shown.ok(), "sample global map[k:v] map[a:b] map[opts:map[a:b]]");
    // A container writes where the plugin said, and the plugin is told of its coming and going.
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["run", "--rm", "--name", "box", "-v", "kept:/x", "busybox", "sh", "-c", "echo in >/x/f"]).ok();
    let file = daemon.sandbox().dir().join("plugin-sample/kept/f");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in\n");
    until("the volume to be unmounted", || !plugin.calls("VolumeDriver.Unmount").is_empty());
    let ids = |method: &str| plugin.calls(method).iter().map(|call| call["ID"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("VolumeDriver.Mount"), ids("VolumeDriver.Unmount"));
    watch.end().unwrap();
    // A volume that a container brings along, with a driver.
    let mount = "type=volume,source=new,target=/y,volume-driver=sample,volume-opt=c=d";
    let _ = daemon.run(&["create", "--name", "user", "--mount", mount, "busybox"]).ok();
    assert_eq!(daemon.inspect("user", "{{range .Mounts}}{{.Driver}} {{.Name}}{{end}}"), "sample new");
    let used = daemon.run(&["volume", "rm", "new"]);
    assert!(used.fails_with(1).contains("volume is in use - ["), "{used}");
    // What only the plugin knows is found, and listed with the others.
    assert_eq!(daemon.run(&["volume", "ls", "-q", "--filter", "driver=sample"]).ok(), "kept\nnew");
    let taken = daemon.run(&["volume", "create", "kept"]);
    let text = "create kept: driver 'sample' already has volume 'kept': volume name must be unique";
    assert!(taken.fails_with(1).contains(text), "{taken}");
    let refused = daemon.run(&["volume", "create", "-d", "sample", "-o", "refuse=yes", "other"]);
    assert!(refused.fails_with(1).contains("create other: refused by option"), "{refused}");
    // A daemon that was killed knows them again, but for one that it was about to forget: its plugin has removed it already.
    let _ = daemon.run(&["volume", "create", "-d", "sample", "going"]).ok();
    daemon.kill().unwrap();
    plugin.lose("going");
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "kept\nnew");
    assert!(!daemon.data_root().join("volumes/going").exists());
    let _ = daemon.run(&["rm", "user"]).ok();
    let _ = daemon.run(&["volume", "rm", "new", "kept"]).ok();
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "");
    assert!(!file.exists());
    let missing = daemon.run(&["volume", "create", "-d", "nobody", "x"]);
    let text = "create x: error looking up volume plugin nobody: plugin \"nobody\" not found";
    assert!(missing.fails_with(1).contains(text), "{missing}");
}

#[test]
fn a_plugin_that_hangs_holds_nobody_else_up() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = Plugin::in_sandbox(daemon.sandbox(), "sample").unwrap();
    let _ = daemon.run(&["volume", "create", "-d", "sample", "stuck"]).ok();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["create", "--name", "box", "-v", "stuck:/x", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "runs", "-v", "stuck:/x", "busybox", "sleep", "1000"]).ok();
    for method in ["Mount", "Unmount", "Get", "List", "Remove", "Path"] {
        plugin.hang(&format!("VolumeDriver.{method}"));
    }
    let mounts = plugin.calls("VolumeDriver.Mount").len();
    let starting = daemon.spawn(&["start", "box"]);
    until("the plugin to be asked", || plugin.calls("VolumeDriver.Mount").len() > mounts);
    let begun = Instant::now();
    assert!(daemon.run(&["ps", "-a"]).ok().contains("box"));
    let _ = daemon.run(&["inspect", "box", "runs"]).ok();
    let listed = daemon.run(&["volume", "ls", "-q"]);
    assert_eq!(listed.out(), "stuck\n", "{listed}");
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
    let _ = daemon.run(&["rm", "-f", "runs"]).ok();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_ne!(starting.finish(PATIENCE).unwrap().code, 0);
    plugin.relent();
    watch.end().unwrap();
    let _ = daemon.run(&["volume", "rm", "stuck"]).ok();
}

#[test]
fn lines_go_to_a_log_plugin_and_come_back() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = Plugin::in_sandbox(daemon.sandbox(), "lines").unwrap();
    let watch = Watch::daemon(&daemon);
    let options = ["--log-driver", "lines", "--log-opt", "any=thing"];
    let run = |name: &str| {
        let script = "echo out; echo err >&2";
        daemon.run(&[
            "run", "--name", name, options[0], options[1], options[2], options[3], "busybox", "sh", "-c", script,
        ])
    };
    let _ = run("one").ok();
    let id = daemon.inspect("one", "{{.Id}}");
    until("the plugin to be told of the end", || plugin.calls("LogDriver.StopLogging").len() == 1);
    let log = plugin.log(&id);
    let has = |word: &[u8]| log.windows(word.len()).any(|part| part == word);
    assert!(has(b"\x0a\x06stdout") && has(b"\x1a\x03out") && has(b"\x0a\x06stderr") && has(b"\x1a\x03err"), "{log:?}");
    let started = &plugin.calls("LogDriver.StartLogging")[0];
    assert_eq!(started["Info"]["Config"], json!({ "any": "thing" }));
    assert_eq!(
        (started["Info"]["ContainerName"].as_str(), started["Info"]["ContainerID"].as_str()),
        (Some("/one"), Some(id.as_str()))
    );
    assert_eq!(started["File"], json!(format!("/run/docker/logging/{id}")));
    // One that gives nothing back is read from the copy, one that does is asked.
    let both = daemon.run(&["logs", "one"]);
    assert_eq!((both.out().as_str(), both.err().as_str()), ("out\n", "err\n"), "{both}");
    plugin.give_logs_back();
    let _ = run("two").ok();
    until("the plugin to be told of the end", || plugin.calls("LogDriver.StopLogging").len() == 2);
    let asked = daemon.run(&["logs", "--tail", "5", "two"]);
    assert!(asked.out().contains("out") && asked.err().contains("err"), "{asked}");
    assert_eq!(plugin.calls("LogDriver.ReadLogs")[0]["Config"]["Tail"], json!(5));
    let _ = daemon.run(&["rm", "one", "two"]).ok();
    // A daemon that is killed meanwhile tells the end when it is back.
    let _ = daemon.run(&["run", "-d", "--name", "long", options[0], options[1], "busybox", "sleep", "1000"]).ok();
    daemon.kill().unwrap();
    daemon.start().unwrap();
    let _ = daemon.run(&["rm", "-f", "long"]).ok();
    until("the plugin to be told of the end", || plugin.calls("LogDriver.StopLogging").len() == 3);
    watch.end().unwrap();
    let unknown = daemon.run(&["create", "--log-driver", "nobody", "busybox"]);
    assert!(
        unknown.fails_with(1).contains("error looking up logging plugin nobody: plugin \"nobody\" not found"),
        "{unknown}"
    );
}

#[test]
fn a_plugin_decides_who_may_do_what() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let plugin = Plugin::in_sandbox(&sandbox, "judge").unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--authorization-plugin", "judge"]);
    daemon.start().unwrap();
    plugin.refuse("/volumes/create");
    let refused = daemon.run(&["volume", "create", "data"]);
    assert!(refused.fails_with(1).contains("authorization denied by plugin judge: not today"), "{refused}");
    // However the path is written.
    let sneaky = daemon.api("POST", "//v1.44//volumes%2Fcreate", Some(&json!({ "Name": "data" })));
    assert_eq!(sneaky.status, 403);
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "");
    plugin.refuse("");
    let made = daemon.api("POST", "/v1.44/volumes/create", Some(&json!({ "Name": "data" })));
    assert_eq!(made.status, 201);
    let request = plugin.calls("AuthZPlugin.AuthZReq").pop().unwrap();
    assert_eq!(
        (request["RequestMethod"].as_str(), request["RequestUri"].as_str()),
        (Some("POST"), Some("/v1.44/volumes/create"))
    );
    assert_eq!(request["RequestBody"], json!("eyJOYW1lIjoiZGF0YSJ9"), "the body, in base64");
    let answer = plugin.calls("AuthZPlugin.AuthZRes").pop().unwrap();
    assert_eq!(answer["ResponseStatusCode"], json!(201));
    assert!(answer["ResponseBody"].as_str().is_some_and(|body| body.len() > 20), "{answer}");
    // More than a plugin is shown is refused, not cut.
    let large = daemon.sandbox().dir().join("large.env");
    let lines: Vec<String> = (0..80).map(|at| format!("A{at}={}\n", "x".repeat(60_000))).collect();
    std::fs::write(&large, lines.concat()).unwrap();
    let refused = daemon.run(&["create", "--env-file", &large.display().to_string(), "busybox"]);
    assert!(refused.fails_with(1).contains("request body too large for authorization plugin"), "{refused}");
    daemon.stop().unwrap();
    let missing = Daemon::ferry(&sandbox, "b").args(&["--authorization-plugin", "nobody"]);
    // It may be connected to before it fails.
    let _ = missing.start();
    let text = "failed to validate authorization plugin: plugin \"nobody\" not found";
    until("the daemon to refuse", || missing.log().contains(text));
}

/// The folder of a managed plugin: its program and configuration.
fn data_dir(sandbox: &Sandbox) -> std::path::PathBuf {
    let folder = sandbox.dir().join("plugin-data");
    std::fs::create_dir_all(folder.join("rootfs/volumes")).unwrap();
    std::fs::copy(programs::binary("sample-plugin").unwrap(), folder.join("rootfs/sample-plugin")).unwrap();
    let config = json!({
        "Description": "A plugin of the tests",
        "Entrypoint": ["/sample-plugin", "/run/docker/plugins/sample.sock", "/volumes"],
        "Env": [
            { "Name": "IMPLEMENTS", "Value": "VolumeDriver,LogDriver" },
            { "Name": "MOOD", "Settable": ["value"], "Value": "calm" },
        ],
        "Interface": { "Types": ["docker.volumedriver/1.0", "docker.logdriver/1.0"], "Socket": "sample.sock" },
        "Linux": { "Capabilities": ["CAP_SYS_ADMIN"] },
        "Network": { "Type": "host" },
        "PropagatedMount": "/volumes",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn a_managed_plugin_is_made_run_pushed_and_installed() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let storage = Storage::new(&sandbox.dir().join("registry"));
    let _registry = Registry::writable(&sandbox, &storage, Auth::None).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a");
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let watch = Watch::daemon(&daemon);
    let (folder, name) = (data_dir(&sandbox), "127.0.0.1:5000/sample:latest");
    let made = daemon.run(&["plugin", "create", "127.0.0.1:5000/sample", &folder.display().to_string()]);
    assert_eq!(made.ok(), "127.0.0.1:5000/sample");
    assert_eq!(daemon.run(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]).ok(), format!("{name} false"));
    let early = daemon.run(&["volume", "create", "-d", name, "data"]);
    assert!(early.fails_with(1).contains(&format!("plugin {name} found but disabled")), "{early}");
    let _ = daemon.run(&["plugin", "push", name]).ok();
    let other = "127.0.0.1:5000/sample:other";
    let _ = daemon.run(&["plugin", "create", other, &folder.display().to_string()]).ok();
    let _ = daemon.run(&["plugin", "push", other]).ok();
    let _ = daemon.run(&["plugin", "rm", name, other]).ok();
    let aliased = ["plugin", "install", "--grant-all-permissions", "--disable", "--alias", "mine", name];
    let _ = daemon.run(&aliased).ok();
    assert_eq!(daemon.run(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]).ok(), "mine:latest false");
    let asked = daemon.run_with_input(&["plugin", "upgrade", "--grant-all-permissions", "mine", other], b"n\n");
    assert!(asked.fails_with(1).contains("plugin upgrade has been cancelled"), "{asked}");
    let upgrade = ["plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", "mine", other];
    assert!(daemon.run(&upgrade).ok().contains("Upgraded plugin mine:latest to 127.0.0.1:5000/sample:other"));
    assert_eq!(daemon.run(&["plugin", "inspect", "-f", "{{.PluginReference}}", "mine"]).ok(), other);
    let _ = daemon.run(&["plugin", "rm", "mine"]).ok();
    // Installed again, with a setting; what it wants has to be granted.
    let no = daemon.run_with_input(&["plugin", "install", name], b"n\n");
    assert!(no.fails_with(1).contains("permission denied while installing plugin"), "{no}");
    assert!(no.out().contains(" - network: [host]\n - capabilities: [CAP_SYS_ADMIN]\n"), "{no}");
    let installed = daemon.run(&["plugin", "install", "--grant-all-permissions", name, "MOOD=wild"]);
    assert!(installed.ok().contains(&format!("Installed plugin {name}")), "{installed}");
    until("the plugin's words to be told", || daemon.log().contains("mood wild"));
    let inspected =
        daemon.run(&["plugin", "inspect", "-f", "{{.Enabled}} {{.PluginReference}} {{.Settings.Env}}", name]);
    assert_eq!(inspected.ok(), format!("true {name} [IMPLEMENTS=VolumeDriver,LogDriver MOOD=wild]"));
    let active = daemon.run(&["plugin", "set", name, "MOOD=sad"]);
    assert!(active.fails_with(1).contains("cannot set on an active plugin"), "{active}");
    // Its volumes are the host's, by way of what it propagates.
    let _ = daemon.run(&["volume", "create", "-d", "127.0.0.1:5000/sample", "data"]).ok();
    let line =
        ["run", "--rm", "--log-driver", name, "-v", "data:/x", "busybox", "sh", "-c", "echo kept >/x/f; cat /x/f"];
    assert_eq!(daemon.run(&line).ok(), "kept");
    // It outlives a daemon that is killed, and comes back when it is killed itself.
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "data:/x", "busybox", "cat", "/x/f"]).ok(), "kept");
    let used = daemon.run(&["plugin", "disable", name]);
    assert!(used.fails_with(1).contains(&format!("plugin {name} is in use")), "{used}");
    let _ = daemon.run(&["plugin", "disable", "-f", name]).ok();
    let _ = daemon.run(&["plugin", "enable", name]).ok();
    let _ = daemon.run(&["volume", "rm", "data"]).ok();
    let running = daemon.run(&["plugin", "rm", name]);
    assert!(running.fails_with(1).contains(&format!("plugin {name} is enabled")), "{running}");
    let _ = daemon.run(&["plugin", "disable", name]).ok();
    let upgraded = daemon.run(&["plugin", "upgrade", "--grant-all-permissions", name]);
    assert!(upgraded.ok().contains(&format!("Upgraded plugin {name}")), "{upgraded}");
    let _ = daemon.run(&["plugin", "enable", "--timeout", "5", name]).ok();
    let _ = daemon.run(&["plugin", "rm", "-f", name]).ok();
    assert_eq!(daemon.run(&["plugin", "ls", "-q"]).ok(), "");
    watch.end().unwrap();
    assert!(Path::new(&folder).exists());
}

#[test]
fn the_api_installs_runs_and_removes_a_plugin() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let storage = Storage::new(&sandbox.dir().join("registry"));
    let _registry = Registry::writable(&sandbox, &storage, Auth::None).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a");
    daemon.start().unwrap();
    let (folder, name) = (data_dir(&sandbox), "127.0.0.1:5000/sample:latest");
    let _ = daemon.run(&["plugin", "create", name, &folder.display().to_string()]).ok();
    let ask =
        |method: &str, path: &str, body: Option<&serde_json::Value>| daemon.api(method, &format!("/v1.44{path}"), body);
    assert_eq!(ask("POST", &format!("/plugins/{name}/push"), None).status, 200);
    let privileges = json!([
        { "Name": "network", "Description": "", "Value": ["host"] },
        { "Name": "capabilities", "Description": "", "Value": ["CAP_SYS_ADMIN"] },
    ]);
    let pulled = ask("POST", &format!("/plugins/pull?remote={name}&name=api"), Some(&privileges));
    assert_eq!(pulled.status, 200);
    let few = ask("POST", &format!("/plugins/pull?remote={name}&name=few"), Some(&json!([])));
    // Where there is no registry, that is told at once.
    let nowhere = daemon.run(&["plugin", "install", "--grant-all-permissions", "127.0.0.1:9/no/registry"]);
    assert!(nowhere.fails_with(1).contains("127.0.0.1:9"), "{nowhere}");
    assert!(few.text().contains("incorrect privileges"), "{}", few.text());
    let shown = ask("GET", "/plugins/api/json", None);
    assert_eq!(shown.json()["Name"], json!("api:latest"));
    assert_eq!(ask("POST", "/plugins/api/set", Some(&json!(["MOOD=odd"]))).status, 204);
    assert_eq!(ask("POST", "/plugins/api/enable?timeout=5", None).status, 200);
    assert_eq!(ask("POST", "/volumes/create", Some(&json!({ "Name": "data", "Driver": "api" }))).status, 201);
    assert_eq!(ask("POST", "/plugins/api/disable?force=1", None).status, 200);
    let upgraded = ask("POST", &format!("/plugins/api/upgrade?remote={name}"), Some(&privileges));
    assert_eq!(upgraded.status, 200);
    assert!(!upgraded.text().contains("error"), "{}", upgraded.text());
    assert_eq!(ask("POST", "/plugins/api/enable?timeout=5", None).status, 200);
    assert_eq!(ask("DELETE", "/plugins/api?force=1", None).status, 200);
    assert_eq!(ask("GET", "/plugins/api/json", None).status, 404);
    assert_eq!(ask("DELETE", "/volumes/data?force=1", None).status, 204);
}

#[test]
fn a_plugin_is_made_by_request() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let config = r#"{"Description":"asked for","Entrypoint":["/none"],"Interface":{"Types":["docker.volumedriver/1.0"],"Socket":"x.sock"}}"#;
    let tar = Layer::default().file("config.json", 0o644, config.as_bytes()).dir("rootfs/", 0o755).into_tar();
    let path = "/plugins/create?name=sample/asked";
    let answer = api::send(&daemon.socket(), "POST", path, "application/x-tar", &tar).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let shown = daemon.api("GET", "/plugins/sample/asked:latest/json", None).json();
    assert_eq!(shown["Config"]["Description"], "asked for", "{shown}");
}

#[test]
fn networks_and_addresses_of_a_plugin_are_used_like_others() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = Plugin::of_networks(daemon.sandbox(), "wires").unwrap();
    let watch = Watch::daemon(&daemon);
    let links = || daemon.sandbox().sh("ip -o link").ok();
    let create = ["network", "create", "-d", "wires", "-o", "a=b", "--subnet", "10.77.0.0/24", "far"];
    let id = daemon.run(&create).ok();
    let call = &plugin.calls("NetworkDriver.CreateNetwork")[0];
    assert_eq!(call["NetworkID"], json!(id));
    assert_eq!(call["Options"]["com.docker.network.generic"], json!({ "a": "b" }));
    assert_eq!(
        call["IPv4Data"],
        json!([{ "AddressSpace": "LocalDefault", "Gateway": "10.77.0.1/24", "Pool": "10.77.0.0/24" }])
    );
    assert_eq!(
        daemon.run(&["network", "ls", "-f", "driver=wires", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).ok(),
        "far wires local"
    );

    let _ = daemon
        .run(&["run", "-d", "--name", "box", "--network", "far", "-p", "8080:80", "busybox", "sleep", "1000"])
        .ok();
    let shown = "{{with .NetworkSettings.Networks.far}}{{.IPAddress}} {{.Gateway}} {{.MacAddress}}{{end}}";
    assert_eq!(daemon.inspect("box", shown), "10.77.0.2 10.77.0.1 02:00:00:00:0a:01");
    let inside = daemon.run(&["exec", "box", "sh", "-c", "ip -o link; ip -o addr; ip route"]).ok();
    for word in ["plug0", "02:00:00:00:0a:01", "10.77.0.2/24", "default via 10.77.0.1", "192.0.2.0/24 via 10.77.0.1"] {
        assert!(inside.contains(word), "{word} is not in {inside}");
    }
    let _ = daemon.run(&["exec", "box", "ping", "-c1", "-w5", "10.77.0.1"]).ok();
    let joined = &plugin.calls("NetworkDriver.Join")[0];
    assert_eq!(joined["Options"]["com.docker.network.portmap"][0]["HostPort"], json!(8080));
    assert!(joined["SandboxKey"].as_str().is_some_and(|key| key.starts_with('/')), "{joined}");
    assert_eq!(plugin.calls("NetworkDriver.ProgramExternalConnectivity").len(), 1);
    let used = daemon.run(&["network", "rm", "far"]).fails_with(1);
    assert!(used.contains("has active endpoints"), "{used}");

    // Joined and left while it runs, with addresses of the plugin's on a bridge of the engine's own.
    let _ = daemon.run(&["network", "create", "--ipam-driver", "wires", "near"]).ok();
    assert_eq!(
        daemon.run(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}", "near"]).ok(),
        "10.123.1.0/24 10.123.1.1"
    );
    let _ = daemon.run(&["network", "connect", "near", "box"]).ok();
    let near = "{{with .NetworkSettings.Networks.near}}{{.IPAddress}} {{.IPAMConfig}}{{end}}";
    assert_eq!(daemon.inspect("box", near), "10.123.1.41 <nil>");
    let _ = daemon.run(&["network", "disconnect", "near", "box"]).ok();
    assert_eq!(plugin.calls("IpamDriver.ReleaseAddress").last().unwrap()["Address"], json!("10.123.1.41"));
    let _ = daemon.run(&["network", "create", "plain"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "other", "--network", "plain", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["network", "connect", "far", "other"]).ok();
    let _ = daemon.run(&["exec", "other", "ping", "-c1", "-w5", "10.77.0.2"]).ok();
    let _ = daemon.run(&["network", "disconnect", "far", "other"]).ok();
    assert!(!daemon.run(&["exec", "other", "ip", "-o", "link"]).ok().contains("plug"));

    // A daemon that was killed knows them again; what ends is told, also when it ended meanwhile.
    let ended = |method: &str| plugin.calls(&format!("NetworkDriver.{method}")).len();
    let _ = daemon.run(&["run", "-d", "--name", "brief", "--network", "far", "busybox", "sleep", "1000"]).ok();
    let pid = daemon.inspect("brief", "{{.State.Pid}}");
    let _ = daemon.run(&["network", "connect", "near", "box"]).ok();
    daemon.kill().unwrap();
    let _ = daemon.sandbox().sh(&format!("kill -9 {pid}")).ok();
    daemon.start().unwrap();
    until("the plugin to be told of what ended meanwhile", || ended("DeleteEndpoint") == 2);
    // It is asked again for what it gave, since it said that it does not remember.
    let asked = || plugin.calls("IpamDriver.RequestAddress");
    until("the plugin to be asked again", || {
        asked().iter().filter(|call| call["Address"] == "10.123.1.42").count() == 1
    });
    let again = asked().into_iter().find(|call| call["Address"] == "10.123.1.1").expect("its gateway");
    assert_eq!(again["Options"]["RequestAddressType"], json!("com.docker.network.gateway"));
    assert_eq!(plugin.calls("IpamDriver.RequestPool")[1]["Pool"], json!("10.123.1.0/24"));
    let info = daemon.api("GET", "/info", None).json();
    assert_eq!(info["Plugins"]["Network"], json!(["bridge", "host", "ipvlan", "macvlan", "null", "wires"]));
    let _ = daemon.run(&["rm", "-f", "box", "other", "brief"]).ok();
    until("the plugin to be told of the end", || ended("DeleteEndpoint") == 3);
    assert_eq!(ended("Leave"), 3);
    let _ = daemon.run(&["network", "rm", "far", "near", "plain"]).ok();
    assert_eq!((ended("DeleteNetwork"), plugin.calls("IpamDriver.ReleasePool").len()), (1, 1));
    assert!(!links().contains(": pb"), "{}", links());

    // One that hangs keeps nobody waiting but who wants it.
    plugin.hang("NetworkDriver.CreateNetwork");
    let hanging = daemon.spawn(&["network", "create", "-d", "wires", "slow"]);
    let asked = plugin.calls("NetworkDriver.CreateNetwork").len();
    until("the plugin to be asked", || plugin.calls("NetworkDriver.CreateNetwork").len() >= asked.max(2));
    let begun = Instant::now();
    let _ = daemon.run(&["network", "create", "quick"]).ok();
    let _ = daemon.run(&["network", "rm", "quick"]).ok();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    plugin.relent();
    assert_eq!(hanging.finish(PATIENCE).unwrap().code, 0);
    let _ = daemon.run(&["network", "rm", "slow"]).ok();

    let refused = daemon.run(&["network", "create", "-d", "wires", "-o", "refuse=yes", "x"]);
    assert!(refused.fails_with(1).contains("remote: refused by option"), "{refused}");
    for options in [["-d", "nobody"], ["--ipam-driver", "nobody"]] {
        let missing = daemon.run(&["network", "create", options[0], options[1], "x"]);
        assert!(missing.fails_with(1).contains("plugin \"nobody\" not found"), "{missing}");
    }
    watch.end().unwrap();
}

#[test]
fn who_has_just_ended_is_changed_like_one_that_does_not_run() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let judge = Plugin::in_sandbox(&sandbox, "judge").unwrap();
    let wires = Plugin::of_networks(&sandbox, "wires").unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--authorization-plugin", "judge"]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let _ = daemon.run(&["network", "create", "--ipam-driver", "wires", "far"]).ok();
    let _ = daemon.run(&["network", "create", "near"]).ok();
    let asked = |path: &str| {
        let is_it = |call: &serde_json::Value| call["RequestUri"].as_str().is_some_and(|uri| uri.ends_with(path));
        until(path, || judge.calls("AuthZPlugin.AuthZReq").iter().any(is_it));
    };
    // One change waits for the plugin, and the next ones for it. The end can be noted only after them.
    for (name, change, path) in [
        ("left", vec!["network", "disconnect", "bridge", "left"], "/networks/bridge/disconnect"),
        ("joined", vec!["network", "connect", "near", "joined"], "/networks/near/connect"),
        ("shaped", vec!["update", "--net-out", "1mbit", "shaped"], "/update"),
        ("restricted", vec!["update", "--egress", "lan", "restricted"], "/update"),
    ] {
        let _ = daemon.run(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]).ok();
        let pid = daemon.inspect(name, "{{.State.Pid}}");
        wires.hang("IpamDriver.RequestAddress");
        let requests = wires.calls("IpamDriver.RequestAddress").len();
        let joining = daemon.spawn(&["network", "connect", "far", name]);
        until("the plugin to be asked", || wires.calls("IpamDriver.RequestAddress").len() > requests);
        let changing = daemon.spawn(&change);
        asked(path);
        let _ = sandbox.sh(&format!("kill -9 {pid}; while [ -d /proc/{pid} ]; do sleep 0.01; done")).ok();
        wires.relent();
        let _ = joining.finish(PATIENCE).unwrap();
        let changed = changing.finish(PATIENCE).unwrap();
        assert_eq!((changed.code, changed.err().as_str()), (0, ""), "{name}");
        let _ = daemon.run(&["wait", name]).ok();
    }
    let networks =
        |name: &str| daemon.inspect(name, "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}");
    assert!(!networks("left").contains("bridge"), "{}", networks("left"));
    assert!(networks("joined").contains("near"), "{}", networks("joined"));
    assert_eq!(daemon.inspect("shaped", "{{json .HostConfig.NetOut}}"), "1000000");
}
