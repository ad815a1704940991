//! The keys and types of what clients read of containers, at versions from the oldest to the newest, against those of real Docker.
//!
//! `data/shapes.tsv` holds them: which answer, a path in it, a type, and the versions that have it (`*` is all of them). Docker 20.10
//! told those of 1.24, 1.30 and 1.41, Docker 29.7 those of 1.44, 1.52 and 1.55; of the same container as is made here.

use std::collections::{BTreeMap, BTreeSet};

use ferry_testkit::{Daemon, programs};
use serde_json::{Value, json};

use crate::until;

const SHAPES: &str = include_str!("../data/shapes.tsv");
const VERSIONS: [&str; 6] = ["1.24", "1.30", "1.41", "1.44", "1.52", "1.55"];

/// What ferry lacks, each with its reason.
const LACKS: [(&str, &str); 6] = [
    (".GraphDriver.Data", "the folders of layers are nobody's business; the newest Docker tells none either"),
    (".Config.OnBuild", "the newest Docker has it at no version"),
    (".HostConfig.KernelMemory", "the newest Docker has it at no version"),
    (".HostConfig.KernelMemoryTCP", "the newest Docker has it at no version"),
    (".ImageManifestDescriptor.annotations", "the names in an archive that was loaded; they are those of the image"),
    (".SizeRw", "a layer with nothing in it has no bytes; the newest Docker counts blocks of folders"),
];

/// What ferry has beyond: what the other Docker has at these versions.
const HAS_MORE: [(&str, &str); 9] = [
    (".NetworkSettings.Bridge", "as in 20.10"),
    (".NetworkSettings.HairpinMode", "as in 20.10"),
    (".NetworkSettings.LinkLocalIPv6Address", "as in 20.10"),
    (".NetworkSettings.LinkLocalIPv6PrefixLen", "as in 20.10"),
    (".NetworkSettings.SecondaryIPAddresses", "as in 20.10"),
    (".NetworkSettings.SecondaryIPv6Addresses", "as in 20.10"),
    (".NetworkSettings.Networks.bridge.DNSNames", "as in 29.7"),
    (".NetworkSettings.Networks.bridge.GwPriority", "as in 29.7"),
    (".HostConfig.Runtime", "told in lists by none, in `inspect` by both"),
];

type Shape = BTreeSet<(String, &'static str)>;

fn docker_shapes(version: &str) -> BTreeMap<&'static str, Shape> {
    let mut shapes: BTreeMap<_, Shape> = BTreeMap::new();
    for line in SHAPES.lines() {
        let [answer, path, kind, versions] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if versions == "*" || versions.split(' ').any(|known| known == version) {
            shapes.entry(answer).or_default().insert((path.to_owned(), kind));
        }
    }
    shapes
}

fn shape_of(value: &Value) -> Shape {
    let mut shape = Shape::new();
    add(&mut shape, String::new(), value);
    shape
}

fn add(shape: &mut Shape, path: String, value: &Value) {
    let kind = ferry_testkit::differential::request::kind_of(value);
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| add(shape, format!("{path}.{key}"), value)),
        Value::Array(items) => items.iter().take(1).for_each(|item| add(shape, format!("{path}[]"), item)),
        _ => {}
    }
    shape.insert((path, kind));
}

/// A container's answers over its life at one version.
fn answers(daemon: &Daemon, version: &str) -> BTreeMap<&'static str, Value> {
    let ask = |method: &str, path: &str, body: Option<&Value>| {
        let answer = daemon.api(method, &format!("/v{version}{path}"), body);
        assert!(answer.status < 300, "{version} {method} {path}: {answer:?}");
        answer
    };
    let get = |path: &str| ask("GET", path, None).json();
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "Env": ["A=b"], "Labels": {"x": "y"}, "StopTimeout": 3, "Volumes": {"/vol": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000}, "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "NetworkMode": "bridge", "Memory": 64 << 20, "PortBindings": {"80/tcp": [{"HostPort": "0"}]}, "CapAdd": ["NET_ADMIN"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "Tmpfs": {"/t": ""}, "Init": true,
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "Sysctls": {"net.ipv4.ip_forward": "1"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}
        }
    });
    let _ = ask("POST", "/containers/create?name=shp", Some(&body));
    let mut told = BTreeMap::from([("created", get("/containers/shp/json"))]);
    let _ = ask("POST", "/containers/shp/start", None);
    until("the check to succeed", || get("/containers/shp/json")["State"]["Health"]["Status"] == "healthy");
    told.insert("running", get("/containers/shp/json?size=1"));
    told.insert("listed", get("/containers/json?size=1")[0].take());
    let exec = ask("POST", "/containers/shp/exec", Some(&json!({"Cmd": ["true"], "AttachStdout": true}))).json();
    told.insert("exec", get(&format!("/exec/{}/json", exec["Id"].as_str().unwrap())));
    let _ = ask("POST", "/containers/shp/kill", None);
    let _ = ask("POST", "/containers/shp/wait", None);
    told.insert("exited", get("/containers/shp/json"));
    let _ = ask("DELETE", "/containers/shp?force=1&v=1", None);
    told
}

#[test]
fn containers_have_dockers_keys_and_types_at_every_version() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let mut wrong = Vec::new();
    for version in VERSIONS {
        let docker = docker_shapes(version);
        for (answer, value) in answers(&daemon, version) {
            let ours = shape_of(&value);
            let theirs = &docker[answer];
            let is_known = |table: &[(&str, &str)], path: &str| {
                table.iter().any(|(known, _)| path == *known || path.starts_with(&format!("{known}.")))
            };
            // Nothing may be told as nothing or as an empty thing, as the two Dockers do.
            let is_empty = |path: &str| ours.iter().chain(theirs).any(|(other, kind)| other == path && *kind == "null");
            for (path, kind) in theirs.difference(&ours) {
                if !is_known(&LACKS, path) && !is_empty(path) {
                    wrong.push(format!("{version} {answer}: no {path} of type {kind}"));
                }
            }
            for (path, kind) in ours.difference(theirs) {
                if !is_known(&HAS_MORE, path) && !is_known(&LACKS, path) && !is_empty(path) {
                    wrong.push(format!("{version} {answer}: {path} of type {kind} is not Docker's"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
