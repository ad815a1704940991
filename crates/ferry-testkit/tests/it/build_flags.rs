//! Flags of builds and parameters of `/build`: each is seen to do what it says.

use ferry_testkit::image::Layer;
use ferry_testkit::material::Material;
use ferry_testkit::registry::ADDRESS;
use ferry_testkit::{api, programs};

use crate::place::Place;
use crate::until;

/// Asks for a build of a Dockerfile alone, by the API, and returns what was said.
fn ask(place: &Place, query: &str, dockerfile: &str) -> String {
    let tar = Layer::default().file("Dockerfile", 0o644, dockerfile.as_bytes()).into_tar();
    let path = api::encode(&format!("/build?{query}"));
    let answer = api::send(&place.daemon.socket(), "POST", &path, "application/x-tar", &tar).unwrap();
    answer.text()
}

/// The registry's image of this name is another than the one that is here.
fn base_that_changed(place: &Place) -> String {
    let base = format!("{ADDRESS}/base:1");
    place.daemon.load(&Material::get().full());
    let _ = place.daemon.run(&["tag", "full", &base]).ok();
    let _ = place.daemon.run(&["push", "-q", &base]).ok();
    let _ = place.daemon.run(&["tag", "busybox", &base]).ok();
    base
}

#[test]
fn what_is_said_of_a_build_is_in_its_image() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("extra/g", "extra");
    place.write("secret", "told");
    place.write(
        "context/sub/Other",
        "FROM busybox AS one\nARG WHO=nobody\nENV WHO=$WHO\nCOPY --from=extra g /g\n\
         RUN --mount=type=secret,id=t,target=/t cat /t >/secret; ulimit -n >/limit; cat /etc/hosts >/hosts; \
         df -k /dev/shm | tail -n 1 >/shm; ls /sys/class/net >/net\n\
         FROM one AS two\nRUN exit 1\n",
    );
    let (extra, secret) = (format!("extra={}", place.path("extra")), format!("id=t,src={}", place.path("secret")));
    let (file, iid, metadata) = (place.path("context/sub/Other"), place.path("iid"), place.path("metadata"));
    let id = place.build(&[
        "--file",
        &file,
        "--target",
        "one",
        "--tag",
        "said:1",
        "--label",
        "k=v",
        "--build-arg",
        "WHO=me",
        "--build-context",
        &extra,
        "--secret",
        &secret,
        "--add-host",
        "far:192.0.2.9",
        "--ulimit",
        "nofile=77",
        "--shm-size",
        "16m",
        "--network",
        "none",
        "--iidfile",
        &iid,
        "--metadata-file",
        &metadata,
    ]);
    assert!(id.starts_with("sha256:") && id.lines().count() == 1, "{id}");
    let shown = place.daemon.inspect("said:1", "{{.Id}} {{json .Config.Labels}} {{json .Config.Env}}");
    assert!(shown.starts_with(&format!(r#"{id} {{"k":"v"}} "#)) && shown.contains(r#""WHO=me""#), "{shown}");
    for (name, content) in [("/g", "extra"), ("/secret", "told"), ("/limit", "77")] {
        assert_eq!(place.read("said:1", name), content, "{name}");
    }
    assert!(place.read("said:1", "/hosts").contains("192.0.2.9\tfar"));
    assert!(place.read("said:1", "/shm").contains(" 16384 "));
    assert!(!place.read("said:1", "/net").contains("eth0"));
    assert_eq!(std::fs::read_to_string(&iid).unwrap(), id);
    let metadata = std::fs::read_to_string(&metadata).unwrap();
    assert!(metadata.contains(r#""image.name": "docker.io/library/said:1""#), "{metadata}");
}

#[test]
fn how_an_image_is_built_is_as_asked() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let id = "cat /proc/sys/kernel/random/uuid";
    place.write("context/Dockerfile", &format!("FROM busybox AS a\nRUN {id} >/r\nFROM a AS b\nRUN {id} >/s\n"));
    let first = place.build(&[]);
    assert_eq!(place.build(&[]), first);
    let second = place.build(&["--no-cache-filter", "b"]);
    assert_eq!(place.read(&first, "/r"), place.read(&second, "/r"));
    assert_ne!(place.read(&first, "/s"), place.read(&second, "/s"));
    let third = place.build(&["--no-cache"]);
    assert_ne!(place.read(&second, "/r"), place.read(&third, "/r"));

    let labels = |image: &str| place.daemon.inspect(image, "{{json .Config.Labels}}");
    let base = base_that_changed(&place);
    place.write("context/Dockerfile", &format!("FROM {base}\n"));
    assert!(!labels(&place.build(&[])).contains("org.example.label"), "the one that is here is taken");
    assert!(labels(&place.build(&["--pull"])).contains("org.example.label"));

    place.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /d\n");
    let pushed = format!("{ADDRESS}/pushed:1");
    let of_registry = |name: &str| {
        let answer = place.daemon.api("GET", &format!("/distribution/{name}/json"), None);
        answer.json()["Descriptor"]["digest"].as_str().unwrap_or_default().to_owned()
    };
    let id = place.build(&["--push", "-t", &pushed]);
    assert_eq!(of_registry(&pushed), id, "what is pushed at once is the same here and there");
    let later = format!("{ADDRESS}/later:1");
    let id = place.build(&["-t", &later]);
    let said = place.daemon.run(&["push", &later]).ok();
    let there = of_registry(&later);
    assert_ne!(there, id, "its layers are compressed on the way");
    assert!(said.contains(&there), "{said}");
    let digests = place.daemon.inspect(&later, "{{json .RepoDigests}}");
    assert_eq!(digests, format!("[\"{ADDRESS}/later@{there}\"]"));
    let archive = place.path("later.tar");
    let _ = place.daemon.run(&["save", "-o", &archive, &later]).ok();
    let _ = place.daemon.run(&["rmi", "-f", &id]).ok();
    assert!(place.daemon.run(&["load", "-i", &archive]).ok().contains(&later));
    assert_eq!(place.daemon.inspect(&later, "{{.Id}}"), id, "what is saved is what was built");
    assert_eq!(place.daemon.run(&["pull", "-q", &format!("{ADDRESS}/later@{there}")]).code, 0);
    let _ = place.build(&["--output", &place.path("out")]);
    assert!(place.dir.join("out/d").is_file());
    let arm = place.build(&["--platform", "linux/arm64"]);
    assert_eq!(place.daemon.inspect(&arm, "{{.Architecture}}"), "arm64");
    let context = place.path("context");
    let raw = place.daemon.run(&["build", "--progress", "rawjson", &context]);
    assert!(raw.code == 0 && raw.err().starts_with('{'), "{raw}");
    let nobody = place.daemon.run(&["build", "--builder", "nobody", &context]);
    assert!(nobody.fails_with(1).contains("no builder \"nobody\" found"), "{nobody}");

    place.write("context/Dockerfile", "FROM busybox as Base\n");
    let told = place.daemon.run(&["build", "--debug", &context]);
    assert!(told.err().contains("More info: https://docs.docker.com/go/dockerfile/rule/"), "{told}");
    assert!(told.err().contains("   1 | >>> FROM busybox as Base\n"), "{told}");
    let told = place.daemon.run(&["build", &context]);
    assert!(told.err().contains("(use docker --debug to expand)") && !told.err().contains("More info"), "{told}");
    for flag in ["--check", "--call=check"] {
        let checked = place.daemon.run(&["build", flag, &context]);
        assert!(checked.code == 1 && checked.out().starts_with("Check complete, "), "{flag}: {checked}");
    }
    place.write("context/Dockerfile.rego", "package docker\n");
    let told = place.daemon.run(&["build", &context]);
    assert!(told.code == 0 && told.err().contains("Dockerfile.rego is not evaluated"), "{told}");
    let told = place.daemon.run(&["build", "--policy", "disabled=true", &context]);
    assert!(told.code == 0 && !told.err().contains("not evaluated"), "{told}");
    let read = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    place.write("context/Dockerfile", &format!("FROM busybox\nRUN {read} >/limit || true\n"));
    let limited = place.build(&["--resource", "memory=64m,cpu-shares=512"]);
    assert_eq!(place.read(&limited, "/limit"), "67108864");
    place
        .write("context/Dockerfile", "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --security=insecure true\n");
    let refused = place.daemon.run(&["build", &context]);
    assert!(refused.fails_with(1).contains("security.insecure is not allowed"), "{refused}");
    let _ = place.build(&["--allow", "security.insecure"]);

    place.write("context/Dockerfile", "FROM busybox\nRUN sleep 1000\n");
    let parent = format!("ferry-test-{}", std::process::id());
    let running = place.daemon.spawn(&["build", "--cgroup-parent", &parent, &context]);
    let find = format!("find /sys/fs/cgroup -type d -path '*/{parent}/*' | head -n 1");
    until("the step to run below its parent", || !place.daemon.sandbox().sh(&find).ok().is_empty());
    running.signal(rustix::process::Signal::INT).unwrap();
    let _ = running.finish(ferry_testkit::command::LIMIT).unwrap();
    until("the group to be empty", || place.daemon.sandbox().sh(&find).ok().is_empty());
    // The parent is the user's, and stays.
    let _ = place.daemon.sandbox().sh(&format!("find /sys/fs/cgroup -depth -type d -name {parent} -exec rmdir {{}} +"));
}

#[test]
fn a_request_says_what_steps_may_use() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let show =
        |name: &str, v1: &str, v2: &str| format!("cat {0}/{v1} {0}/{v2} 2>/dev/null >/{name};", "/sys/fs/cgroup");
    let script = [
        show("memory", "memory/memory.limit_in_bytes", "memory.max"),
        show("swap", "memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
        show("shares", "cpu/cpu.shares", "cpu.weight"),
        show("quota", "cpu/cpu.cfs_quota_us", "cpu.max"),
        show("period", "cpu/cpu.cfs_period_us", "cpu.max"),
        show("cpus", "cpuset/cpuset.cpus", "cpuset.cpus"),
        "ulimit -n >/limit; cat /etc/hosts >/hosts; df -k /dev/shm | tail -n 1 >/shm; ls /sys/class/net >/net;"
            .to_owned(),
        "grep NoNewPrivs /proc/self/status >/privileges".to_owned(),
    ];
    let dockerfile = format!("FROM busybox\nRUN {}\n", script.concat());
    let query = "t=used:1&memory=67108864&memswap=100663296&cpushares=512&cpuquota=50000&cpuperiod=80000&cpusetcpus=0\
        &ulimits=[{\"Name\":\"nofile\",\"Soft\":77,\"Hard\":77}]&extrahosts=far:192.0.2.9&shmsize=16777216\
        &networkmode=none&securityopt=[\"no-new-privileges\"]";
    let said = ask(&place, query, &dockerfile);
    assert!(said.contains("Successfully tagged used:1"), "{said}");
    let holds = |name: &str, wanted: &[&str]| {
        let text = place.read("used:1", &format!("/{name}"));
        assert!(wanted.iter().any(|one| text.split_whitespace().any(|word| word == *one)), "{name}: {text}");
    };
    holds("memory", &["67108864"]);
    holds("swap", &["100663296", "33554432"]);
    holds("shares", &["512", "20", "59"]);
    holds("quota", &["50000"]);
    holds("period", &["80000"]);
    holds("cpus", &["0"]);
    holds("limit", &["77"]);
    holds("hosts", &["far"]);
    holds("shm", &["16384"]);
    holds("privileges", &["1"]);
    assert!(!place.read("used:1", "/net").contains("eth0"));
    let nowhere = ask(&place, "cpusetmems=99", "FROM busybox\nRUN true\n");
    assert!(nowhere.contains("\"error\""), "{nowhere}");

    let parent = format!("ferry-asked-{}", std::process::id());
    let find = format!("find /sys/fs/cgroup -type d -path '*/{parent}/*' | head -n 1");
    std::thread::scope(|scope| {
        let query = format!("cgroupparent={parent}&buildid=mine");
        let build = scope.spawn({
            let place = &place;
            move || ask(place, &query, "FROM busybox\nRUN echo begun; sleep 1000\n")
        });
        until("the step to run below its parent", || !place.daemon.sandbox().sh(&find).ok().is_empty());
        assert_eq!(place.daemon.api("POST", "/build/cancel?id=mine", None).status, 204);
        let said = build.join().unwrap();
        assert!(said.contains("\"error\""), "{said}");
    });
    until("the group to be empty", || place.daemon.sandbox().sh(&find).ok().is_empty());
    let _ = place.daemon.sandbox().sh(&format!("find /sys/fs/cgroup -depth -type d -name {parent} -exec rmdir {{}} +"));
}

#[test]
fn a_build_is_cancelled_by_its_id_whoever_else_has_it() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let runs = |seconds: &str| place.daemon.sandbox().sh(&format!("pgrep -f '[s]leep {seconds}'")).code == 0;
    std::thread::scope(|scope| {
        let begin = |query: &'static str, seconds: &'static str| {
            let place = &place;
            let build = scope.spawn(move || ask(place, query, &format!("FROM busybox\nRUN sleep {seconds}\n")));
            until("the step to run", || runs(seconds));
            build
        };
        let [mine, of_session] = ["buildid=mine", "buildid=mine&version=2"];
        let builds = [begin(mine, "1001"), begin(mine, "1002"), begin(of_session, "1003")];
        // One that ends leaves the others what is theirs.
        let said = ask(&place, "buildid=mine", "FROM busybox\nENV A=1\n");
        assert!(said.contains("Successfully built"), "{said}");
        assert_eq!(place.daemon.api("POST", "/build/cancel?id=other", None).status, 204);
        assert!(["1001", "1002", "1003"].into_iter().all(runs));
        assert_eq!(place.daemon.api("POST", "/build/cancel?id=mine", None).status, 204);
        for build in builds {
            let said = build.join().unwrap();
            assert!(said.contains("\"error\":\"context canceled\""), "{said}");
        }
    });
    until("the steps to be gone", || !runs("100[123]"));
    let said = ask(&place, "buildid=mine", "FROM busybox\nENV A=2\n");
    assert!(said.contains("Successfully built"), "{said}");
}

#[test]
fn a_request_says_where_things_come_from() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/r\n";
    let read = |query: &str| {
        let said = ask(&place, query, dockerfile);
        assert!(said.contains("Successfully tagged "), "{said}");
        place.read("r", "/r")
    };
    let first = read("t=r");
    assert_eq!(read("t=r"), first);
    assert_ne!(read("t=r&nocache=1"), first);

    let base = base_that_changed(&place);
    let labels = |query: &str| {
        let _ = ask(&place, &format!("t=based&{query}"), &format!("FROM {base}\n"));
        place.daemon.inspect("based", "{{json .Config.Labels}}")
    };
    assert!(!labels("").contains("org.example.label"));
    assert!(labels("pull=1").contains("org.example.label"));
    let _ = ask(&place, "t=arm&platform=linux/arm64", "FROM scratch\nCOPY Dockerfile /d\n");
    assert_eq!(place.daemon.inspect("arm", "{{.Architecture}}"), "arm64");

    place.write("www/Dockerfile", "FROM busybox\nLABEL from=afar\n");
    let line = format!("cd {} && (python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &)", place.path("www"));
    let _server = place.daemon.sh(&line);
    until("the server to listen", || place.daemon.sandbox().http_get("127.0.0.1:8000", "/").is_ok());
    let said = place.daemon.api("POST", "/build?t=afar&remote=http://127.0.0.1:8000/Dockerfile", None).text();
    assert!(said.contains("Successfully tagged afar:latest"), "{said}");
    assert_eq!(place.daemon.inspect("afar", "{{.Config.Labels.from}}"), "afar");
}

#[test]
fn what_builds_leave_is_pruned_as_asked() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("context/Dockerfile", "FROM busybox\nRUN --mount=type=cache,target=/c echo x >/c/x; echo y >/y\n");
    let _ = place.build(&["-t", "kept"]);
    let records = || place.daemon.run(&["builder", "du", "--verbose"]).ok().matches("\nUsage count:").count();
    let all = records();
    assert!(all >= 2);
    let asked = place.daemon.run_with_input(&["builder", "prune"], b"n\n");
    assert!(asked.out().contains("remove all dangling build cache"), "{asked}");
    let asked = place.daemon.run_with_input(&["builder", "prune", "--all"], b"n\n");
    assert!(asked.out().contains("remove all build cache"), "{asked}");
    assert_eq!(records(), all);
    for limit in ["--keep-storage", "--reserved-space", "--max-used-space"] {
        let _ = place.daemon.run(&["builder", "prune", "-af", limit, "100gb"]).ok();
        assert_eq!(records(), all, "{limit}");
    }
    let by_request = |query: &str| place.daemon.api("POST", &api::encode(&format!("/v1.52/build/prune?{query}")), None);
    for query in ["reserved-space=100000000000", "max-used-space=100000000000", "min-free-space=1"] {
        assert_eq!(by_request(query).status, 200, "{query}");
        assert_eq!(records(), all, "{query}");
    }
    assert_eq!(by_request(r#"filters={"type":["exec.cachemount"]}"#).status, 200);
    assert_eq!(records(), all - 1);
    let _ = place.daemon.run(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]).ok();
    assert_eq!(records(), all - 1);
    let _ = place.daemon.run(&["builder", "prune", "--force"]).ok();
    assert_eq!(records(), 0);
    assert_eq!(place.read("kept", "/y"), "y", "images are no cache");
}
