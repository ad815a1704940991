//! What is done with images beside running them: manifest lists, comparing, exploring, removing what was not used for long.

use std::collections::BTreeSet;

use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::registry::{ADDRESS, Auth, Registry, Storage};
use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, Sandbox, programs};
use serde_json::json;

use crate::Mirrored;

#[test]
fn manifest_lists_over_plain_http_have_to_be_asked_for() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--insecure-registry", "10.99.0.1:5001"]);
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    let dir = sandbox.dir().display().to_string();
    let yml = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {dir}/reg}}}}\nhttp: {{addr: '10.99.0.1:5001'}}\n"
    );
    std::fs::write(sandbox.dir().join("r.yml"), yml).unwrap();
    let _ = daemon.sh("ip addr add 10.99.0.1/32 dev lo").ok();
    let _ = daemon.sh(&format!("(docker-registry serve {dir}/r.yml >/dev/null 2>&1 &)")).ok();
    crate::until("the registry to listen", || sandbox.connect("10.99.0.1:5001").is_ok());
    let (one, list) = ("10.99.0.1:5001/plain/one:1", "10.99.0.1:5001/plain/list:1");
    let _ = daemon.run(&["tag", "busybox", one]).ok();
    let _ = daemon.run(&["push", "-q", one]).ok();
    let missing = format!("no such manifest: {one}");
    assert_eq!(daemon.run(&["manifest", "create", list, one]).fails_with(1), missing);
    assert_eq!(daemon.run(&["manifest", "inspect", one]).fails_with(1), missing);
    let created = daemon.run(&["manifest", "create", "--insecure", list, one]).ok();
    assert_eq!(created, format!("Created manifest list {list}"));
    let refused = daemon.run(&["manifest", "push", list]);
    assert!(refused.fails_with(1).ends_with("http: server gave HTTP response to HTTPS client"), "{refused}");
    let pushed = daemon.run(&["manifest", "push", "--insecure", list]).ok();
    let (parts, digest) = pushed.split_once('\n').unwrap();
    assert!(parts.starts_with("Pushed ref 10.99.0.1:5001/plain/list@sha256:"), "{parts}");
    let shown = daemon.run(&["manifest", "inspect", "--insecure", one]).ok();
    assert!(shown.contains("\"mediaType\": \"application/vnd.docker.distribution.manifest.v2+json\""), "{shown}");
    let _ = daemon.run(&["rmi", "busybox", one]).ok();
    let _ = daemon.run(&["pull", "-q", list]).ok();
    assert_eq!(daemon.run(&["run", "--rm", list, "echo", "by list"]).ok(), "by list");
    assert_eq!(daemon.inspect(list, "{{.Id}}"), digest);
}

#[test]
fn a_registry_is_searched() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a");
    daemon.start().unwrap();
    let dir = sandbox.dir().join("www/v1");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("_ping"), "{\"version\":\"0.6\",\"standalone\":true}").unwrap();
    let long = "words ".repeat(20);
    let results = json!({"num_results": 2, "query": "box", "results": [
        {"name": "busybox", "description": long.trim(), "star_count": 7, "is_official": true},
        {"name": "me/box", "description": "mine", "star_count": 1, "is_official": false},
    ]});
    std::fs::write(dir.join("search"), results.to_string()).unwrap();
    let serve = format!(
        "cd {}/www && (python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &)",
        sandbox.dir().display()
    );
    let _ = daemon.sh(&serve).ok();
    crate::until("the server to listen", || sandbox.connect("127.0.0.1:8000").is_ok());
    let asked = daemon.api("GET", "/v1.52/images/search?term=127.0.0.1:8000/box", None);
    assert_eq!(asked.json().as_array().map(Vec::len), Some(2), "{asked:?}");
    let table = daemon.run(&["search", "127.0.0.1:8000/box"]).ok();
    assert!(table.starts_with("NAME      DESCRIPTION"), "{table}");
    assert!(table.contains('…') && table.contains("[OK]"), "{table}");
    let whole = daemon.run(&["search", "--no-trunc", "127.0.0.1:8000/box"]).ok();
    assert!(whole.contains(long.trim()), "{whole}");
    let names = daemon.run(&["search", "--format", "{{.Name}} {{.StarCount}}", "127.0.0.1:8000/box"]).ok();
    assert_eq!(names, "busybox 7\nme/box 1");
    let filtered = daemon.run(&["search", "--filter", "stars=5", "--format", "{{.Name}}", "127.0.0.1:8000/box"]).ok();
    assert_eq!(filtered, "busybox");
}

fn built(name: &str, tars: Vec<Vec<u8>>, run: &serde_json::Value) -> Vec<u8> {
    Image::build("amd64", run, tars, Compression::Gzip, Dialect::Oci).unwrap().archive(&[name])
}

fn base() -> Vec<u8> {
    std::fs::read(ferry_testkit::material::Material::get().rootfs()).unwrap()
}

/// An rpm database with one package, as python's SQLite writes it.
const RPM: &str = "import sqlite3,struct,sys
def header(**tags):
    ids={'name':1000,'version':1001,'release':1002}
    data=b''; index=b''
    for key,value in tags.items():
        index+=struct.pack('>IIII',ids[key],6,len(data),1); data+=value.encode()+b'\\0'
    return struct.pack('>II',len(tags),len(data))+index+data
db=sqlite3.connect(sys.argv[1]); db.execute('pragma page_size=4096')
db.execute('create table Packages(hnum integer primary key autoincrement, blob blob not null)')
for number in range(200):
    db.execute('insert into Packages(blob) values(?)',(header(name='p%d'%number,version=sys.argv[2],release='1'+'x'*(number*50)),))
db.commit(); db.close()
";

#[test]
fn images_and_containers_are_compared() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let dir = daemon.sandbox().dir().to_owned();
    std::fs::write(dir.join("rpm.py"), RPM).unwrap();
    let rpm = |version: &str| {
        let file = dir.join(format!("{version}.sqlite"));
        let _ = daemon.sh(&format!("python3 {}/rpm.py {} {version}", dir.display(), file.display())).ok();
        std::fs::read(file).unwrap()
    };
    let status = |version: &str| {
        format!("Package: libc6\nStatus: install ok installed\nVersion: {version}\n\nPackage: same\nVersion: 1\n")
    };
    let layer = |version: &str, more: Layer| {
        more.file("var/lib/dpkg/status", 0o644, status(version).as_bytes())
            .file("lib/apk/db/installed", 0o644, format!("P:musl\nV:{version}\n\n").as_bytes())
            .file("var/lib/rpm/rpmdb.sqlite", 0o644, &rpm(version))
            .file("same", 0o644, b"same")
            .into_tar()
    };
    let one = layer("1", Layer::default().file("only-one", 0o644, b"x").file("mode", 0o644, b"m").symlink("l", "a"));
    let two = layer(
        "2",
        Layer::default()
            .file("only-two", 0o644, b"xy")
            .file("mode", 0o755, b"m")
            .symlink("l", "b")
            .whiteout("etc/group"),
    );
    for (name, tar, env) in [("cmp:1", one, "A=1"), ("cmp:2", two, "A=2")] {
        let archive = built(name, vec![base(), tar], &json!({"Env": [env], "Cmd": ["sh"]}));
        let _ = daemon.run_with_input(&["load", "-q"], &archive).ok();
    }
    let json = daemon.run(&["diff", "--format", "json", "cmp:1", "cmp:2"]).ok();
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["CommonLayers"], 1);
    assert_eq!(found["Config"], json!([{"Field": "Env.A", "From": "1", "To": "2"}]));
    let packages = found["Packages"].as_array().unwrap();
    assert_eq!(packages[0], json!({"Kind": "apk", "Name": "musl", "From": "1", "To": "2"}));
    assert_eq!(packages[1], json!({"Kind": "dpkg", "Name": "libc6", "From": "1", "To": "2"}));
    assert_eq!(packages.iter().filter(|one| one["Kind"] == "rpm").count(), 200);
    let files: Vec<String> = found["Files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one["Change"].as_str().unwrap(), one["Path"].as_str().unwrap(), one["What"]))
        .filter(|line| !line.contains("/lib"))
        .collect();
    let expected = [
        "removed /etc/group null",
        "changed /l [\"link\"]",
        "changed /mode [\"mode\"]",
        "removed /only-one null",
        "added /only-two null",
    ];
    assert_eq!(files, expected);

    let words = daemon.run(&["diff", "cmp:1", "cmp:2"]).ok();
    assert!(words.contains("\nPACKAGES\n  ~ apk musl 1 -> 2\n  ~ dpkg libc6 1 -> 2\n"), "{words}");
    let _ =
        daemon.run(&["run", "--name", "box", "cmp:1", "sh", "-c", "echo new >/new; rm /same; chmod 600 /mode"]).ok();
    let changed = daemon.run(&["diff", "cmp:1", "box"]).ok();
    for line in ["  D /same (4B)", "  A /new (4B)", "  C /mode (mode)"] {
        assert!(changed.lines().any(|one| one == line), "{line}\n{changed}");
    }
    assert!(!changed.contains("PACKAGES") && changed.contains("LAYERS  2 in common\n  + container"), "{changed}");
    let alone = daemon.run(&["diff", "box"]).ok();
    assert!(alone.contains("D /same") && alone.contains("A /new"), "Docker's diff stays what it is: {alone}");

    // One that is not here is fetched, and does not stay.
    let before = daemon.run(&["images", "-aq"]).ok();
    let remote = daemon.run(&["diff", "--format", "json", "busybox", "multi"]).ok();
    let remote: serde_json::Value = serde_json::from_str(&remote).unwrap();
    assert_eq!((&remote["From"]["Fetched"], &remote["Files"]), (&json!(true), &json!([])));
    assert_eq!(daemon.run(&["images", "-aq"]).ok(), before);
    let nothing = daemon.run(&["diff", "cmp:1", "nosuch/image"]);
    assert!(nothing.fails_with(1).contains("No such image or container: nosuch/image"), "{nothing}");
}

#[test]
fn layers_are_explored_and_waste_fails_a_check() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let one = Layer::default().file("big", 0o644, &[b'x'; 3000]).dir("d/", 0o755).file("d/f", 0o644, &[b'y'; 500]);
    let two = Layer::default().file("big", 0o644, &[b'z'; 2000]).whiteout("d");
    let archive = built("waste:1", vec![one.into_tar(), two.into_tar()], &json!({"Cmd": ["sh"]}));
    let _ = daemon.run_with_input(&["load", "-q"], &archive).ok();
    let json = daemon.run(&["image", "explore", "--format", "json", "waste:1"]).ok();
    let layers: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&layers["Size"], &layers["Wasted"]), (&json!(5500), &json!(3500)));
    assert_eq!(layers["Waste"][0], json!({"Path": "/big", "Size": 3000, "Times": 1}));
    assert_eq!(layers["Layers"][1]["Files"][1], json!({"Path": "/d", "Change": "removed"}));
    let plain = daemon.run(&["image", "explore", "waste:1"]).ok();
    assert!(plain.contains("wasted   3.5kB (63.6%)"), "{plain}");
    let failed = daemon.run(&["image", "explore", "--fail-waste", "50%", "waste:1"]);
    assert!(failed.fails_with(1).ends_with("wastes 3.5kB (63.6%), more than the 50% allowed"), "{failed}");
    let _ = daemon.run(&["image", "explore", "--fail-waste", "4kB", "waste:1"]).ok();
    assert!(daemon.run(&["image", "explore", "--fail-waste", "x", "waste:1"]).code == 1);

    let mut ferry = daemon.client(programs::binary("ferry").unwrap());
    ferry.args(["image", "explore", "waste:1"]);
    let mut terminal = Terminal::start(&ferry).unwrap();
    terminal.expect("layer 0").unwrap();
    terminal.keys("\t").unwrap();
    terminal.keys("\r").unwrap();
    terminal.expect("3kB").unwrap();
    terminal.keys("q").unwrap();
    assert_eq!(terminal.finish().unwrap(), 0);
}

/// The names of images that are here.
fn names(daemon: &Daemon) -> BTreeSet<String> {
    daemon.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn what_was_not_used_for_long_goes() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let shared = Layer::default().file("shared", 0o644, &[b's'; 100_000]).into_tar();
    for number in 1..=4 {
        let own = Layer::default().file("own", 0o644, format!("{number}").repeat(50_000).as_bytes()).into_tar();
        let archive = built(
            &format!("old:{number}"),
            vec![shared.clone(), own],
            &json!({"Cmd": ["x"], "Env": [number.to_string()]}),
        );
        let _ = daemon.run_with_input(&["load", "-q"], &archive).ok();
    }
    let _ = daemon.run(&["create", "--name", "user", "old:1"]).ok();
    let refused = daemon.run(&["prune", "-f"]);
    assert!(refused.fails_with(1).starts_with("nothing is chosen"), "{refused}");
    let young = daemon.run(&["prune", "-f", "--unused-for", "14d"]).ok();
    assert_eq!(young, "Total reclaimed space: 0B");

    let dry = daemon.run(&["prune", "--dry-run", "--unused-for", "0s", "--keep-last", "1", "--format", "json"]).ok();
    let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
    let chosen: Vec<&str> =
        dry["Images"].as_array().unwrap().iter().map(|one| one["Names"][0].as_str().unwrap()).collect();
    assert_eq!(
        chosen,
        ["old:2", "old:3", "old:4"],
        "the one that was used last stays, and busybox is the only one of its name"
    );
    assert_eq!(names(&daemon).len(), 5, "nothing went");
    assert!(
        daemon.run_with_input(&["prune", "--unused-for", "0s"], b"n\n").ok().contains("Remove these images? [y/N]")
    );
    assert_eq!(names(&daemon).len(), 5);

    // A budget takes what was not used for longest: the use by a container counts until it is removed.
    let _ = daemon.run(&["rm", "user"]).ok();
    let total = daemon.api("GET", "/v1.52/system/df?type=image&verbose=1", None).json()["ImageUsage"]["TotalSize"]
        .as_u64()
        .unwrap();
    let budget = (total - 60_000).to_string();
    let freed = daemon.run(&["prune", "-f", "--budget", &budget, "--format", "json"]).ok();
    let freed: serde_json::Value = serde_json::from_str(&freed).unwrap();
    let gone: Vec<&str> =
        freed["Images"].as_array().unwrap().iter().filter_map(|one| one["Names"][0].as_str()).collect();
    assert!(gone.contains(&"busybox:latest") && !gone.contains(&"old:1"), "{freed}");
    let usage = daemon.api("GET", "/v1.52/system/df?type=image&verbose=1", None).json();
    let after = usage["ImageUsage"]["TotalSize"].as_u64().unwrap();
    assert_eq!(freed["SpaceReclaimed"].as_u64().unwrap(), total - after, "what is told is what the disk says");
    assert_eq!(usage["ImageUsage"]["Reclaimable"], after, "no container keeps anything");
    let _ = daemon.run(&["system", "prune", "-af"]).ok();
    let empty = daemon.api("GET", "/v1.52/system/df?type=image", None).json();
    assert_eq!(empty["ImageUsage"]["TotalSize"].as_u64().unwrap_or_default(), 0);
}

#[test]
fn a_budget_is_kept_by_the_daemon_and_stamps_outlive_it() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["tag", "busybox", "second:1"]).ok();
    let _ = daemon.run(&["create", "--name", "user", "busybox"]).ok();
    let last_used = || {
        let dry = daemon.run(&["prune", "--dry-run", "--budget", "1", "--format", "json"]).ok();
        let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
        dry["Images"][0]["LastUsed"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(last_used(), "", "what a container uses is not chosen");
    let _ = daemon.run(&["rm", "user"]).ok();
    let stamp = last_used();
    assert!(stamp.starts_with("20"), "{stamp}");
    assert_eq!(daemon.stop().unwrap(), 0);
    daemon.start().unwrap();
    assert_eq!(last_used(), stamp, "the stamp is on disk");
    let _ = daemon.stop().unwrap();
    let small = daemon.args(&["--disk-budget", "1k"]);
    small.start().unwrap();
    let tar = Layer::default().file("f", 0o644, b"content").into_tar();
    let _ = small.run_with_input(&["load", "-q"], &built("fresh:1", vec![tar], &json!({"Cmd": ["x"]}))).ok();
    assert!(names(&small).contains("fresh:1"), "what just came is not taken");
}

#[test]
fn compressed_layers_go_where_they_are_not_to_be_kept() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let storage = Storage::new(&sandbox.dir().join("registry"));
    let _registry = Registry::writable(&sandbox, &storage, Auth::None).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--keep-blobs=false"]);
    daemon.start().unwrap();
    let more = Layer::default()
        .file("new", 0o640, b"new")
        .symlink("link", "new")
        .dir("sticky/", 0o1777)
        .whiteout("etc/group")
        .file("bin/.wh..wh..opq", 0o644, b"")
        .file("bin/cat", 0o755, &std::fs::read(programs::on_path("busybox").unwrap()).unwrap())
        .into_tar();
    let _ = daemon
        .run_with_input(&["load", "-q"], &built("slim:1", vec![base(), more], &json!({"Cmd": ["cat", "/new"]})))
        .ok();
    let blobs = |daemon: &Daemon| std::fs::read_dir(daemon.data_root().join("content/blobs/sha256")).unwrap().count();
    crate::until("the layers' blobs to go", || blobs(&daemon) == 2);
    assert_eq!(daemon.run(&["run", "--rm", "slim:1"]).ok(), "new");
    let id = daemon.inspect("slim:1", "{{.Id}}");
    let name = format!("{ADDRESS}/slim:1");
    let _ = daemon.run(&["tag", "slim:1", &name]).ok();
    let pushed = daemon.run(&["push", &name]).ok();
    assert!(pushed.contains(&format!("its digest changes from {id} to sha256:")), "{pushed}");
    let archive = sandbox.dir().join("slim.tar");
    let _ = daemon.run(&["save", "-o", archive.to_str().unwrap(), "slim:1"]).ok();

    let other = Daemon::ferry(&sandbox, "b").args(&["--bridge", "none", "--iptables=false"]);
    other.start().unwrap();
    let _ = other.run(&["pull", "-q", &name]).ok();
    let _ = other.run(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    assert_eq!(
        other.inspect(&name, "{{.Id}}"),
        other.inspect("slim:1", "{{.Id}}"),
        "made again, it is the same each time"
    );
    let differs = daemon.run(&["diff", "--format", "json", "slim:1", &name]).ok();
    let differs: serde_json::Value = serde_json::from_str(&differs).unwrap();
    assert_eq!(differs["Files"], json!([]));
    // What was sent holds the same files.
    let _ = daemon.run(&["rmi", "-f", "slim:1", &name]).ok();
    let _ = daemon.run_with_input(&["load", "-q"], &built("slim:1", vec![base()], &json!({"Cmd": ["x"]}))).ok();
    let sent: serde_json::Value =
        serde_json::from_str(&daemon.run(&["diff", "--format", "json", "slim:1", &name]).ok()).unwrap();
    let changed: Vec<&str> = sent["Files"].as_array().unwrap().iter().filter_map(|one| one["Path"].as_str()).collect();
    for path in ["/etc/group", "/link", "/new", "/sticky", "/bin/ls"] {
        assert!(changed.contains(&path), "{path}: {changed:?}");
    }
}
