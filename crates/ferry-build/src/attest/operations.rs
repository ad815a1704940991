//! Operations in the JSON that BuildKit's own definitions have, as statements list them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_spec::platform::Platform;
use serde_json::{Map, Value, json};

use crate::graph::{
    ActionInput, ArchiveHandling, CacheSharing, ChangeOwner, Exec, FileAction, FileOp, Mount, MountKind, NetworkMode,
    Op, Owner, SecurityMode, Source, Vertex,
};
use crate::redact::without_credentials;

/// An operation as a statement lists it.
pub(super) fn operation(vertex: &Vertex) -> Value {
    let (kind, body) = match &vertex.op {
        Op::Source(order) => ("source", source(order)),
        Op::Exec(exec) => ("exec", program(exec)),
        Op::File(file) => ("file", changes(file, vertex.inputs.len())),
        Op::Merge => {
            let inputs: Vec<Value> = (0..vertex.inputs.len()).map(input).collect();
            ("merge", json!({ "inputs": inputs }))
        }
        Op::Diff { lower, upper } => {
            let one = |place: &Option<usize>| place.map_or(json!({ "input": -1 }), input);
            ("diff", json!({ "lower": one(lower), "upper": one(upper) }))
        }
        Op::Build(file) => {
            let inputs = json!({ "buildkit.llb.definition": input(file.input) });
            let attributes = json!({ "llbbuild.filename": file.filename });
            ("build", json!({ "builder": -1, "inputs": inputs, "attrs": attributes }))
        }
    };
    let mut told = json!({ "Op": { kind: body } });
    if let Some(platform) = &vertex.platform {
        told["platform"] = of_platform(platform);
    }
    told
}

fn of_platform(platform: &Platform) -> Value {
    let mut told = json!({ "Architecture": platform.architecture, "OS": platform.os });
    for (name, value) in [("Variant", &platform.variant), ("OSVersion", &platform.os_version)] {
        if let Some(value) = value {
            told[name] = json!(value);
        }
    }
    told
}

fn input(place: usize) -> Value {
    if place == 0 { json!({}) } else { json!({ "input": place }) }
}

fn source(source: &Source) -> Value {
    let mut attributes = Map::new();
    let mut list = |name: &str, values: &[String]| {
        if !values.is_empty() {
            attributes.insert(name.to_owned(), json!(json!(values).to_string()));
        }
    };
    let identifier = match source {
        Source::Image(image) => format!("docker-image://{}", image.reference),
        Source::Local(local) => {
            list("local.includepattern", &local.include_patterns);
            list("local.excludepatterns", &local.exclude_patterns);
            list("local.followpaths", &local.follow_paths);
            attributes.insert("local.sharedkeyhint".to_owned(), json!(local.shared_key_hint));
            format!("local://{}", local.name)
        }
        Source::Git(git) => {
            let remote = without_credentials(&git.remote);
            attributes.insert("git.fullurl".to_owned(), json!(remote));
            let plain = remote.split_once("://").map_or(remote.as_str(), |(_, rest)| rest);
            format!("git://{plain}#{}", git.reference)
        }
        Source::Http(http) => without_credentials(&http.url),
        Source::Layout(layout) => format!("oci-layout://{}", layout.reference),
        Source::Input(name) => format!("input:{name}"),
    };
    let mut told = json!({ "identifier": identifier });
    if !attributes.is_empty() {
        told["attrs"] = Value::Object(attributes);
    }
    told
}

fn program(exec: &Exec) -> Value {
    let mut meta = json!({ "args": exec.args, "cwd": exec.cwd });
    for (name, values) in [("env", json!(exec.env)), ("validExitCodes", json!(exec.valid_exit_codes))] {
        if values.as_array().is_some_and(|values| !values.is_empty()) {
            meta[name] = values;
        }
    }
    for (name, text) in [("user", &exec.user), ("hostname", &exec.hostname), ("cgroupParent", &exec.cgroup_parent)] {
        if !text.is_empty() {
            meta[name] = json!(text);
        }
    }
    if !exec.extra_hosts.is_empty() {
        let hosts = exec.extra_hosts.iter().map(|one| json!({ "Host": one.host, "IP": one.ip }));
        meta["extraHosts"] = hosts.collect();
    }
    if !exec.ulimits.is_empty() {
        let limits = exec.ulimits.iter().map(|one| json!({ "Name": one.name, "Soft": one.soft, "Hard": one.hard }));
        meta["ulimit"] = limits.collect();
    }
    let mut told = json!({ "meta": meta, "mounts": exec.mounts.iter().map(mount).collect::<Vec<_>>() });
    match exec.network {
        NetworkMode::Sandbox => {}
        NetworkMode::Host => told["network"] = json!(1),
        NetworkMode::None => told["network"] = json!(2),
    }
    if exec.security == SecurityMode::Insecure {
        told["security"] = json!(1);
    }
    if !exec.secret_env.is_empty() {
        let secrets = exec.secret_env.iter();
        told["secretenv"] =
            secrets.map(|one| json!({ "ID": one.id, "name": one.name, "optional": one.optional })).collect();
    }
    told
}

fn mount(mount: &Mount) -> Value {
    let mut told = json!({ "dest": mount.target });
    match mount.input {
        Some(0) => {}
        Some(place) => told["input"] = json!(place),
        None => told["input"] = json!(-1),
    }
    match mount.output {
        Some(0) => {}
        Some(place) => told["output"] = json!(place),
        None => told["output"] = json!(-1),
    }
    if !mount.selector.is_empty() {
        told["selector"] = json!(mount.selector);
    }
    if mount.read_only {
        told["readonly"] = json!(true);
    }
    let (number, name, options) = match &mount.kind {
        MountKind::Bind => return told,
        MountKind::Secret(secret) => (
            1,
            "secretOpt",
            json!({ "ID": secret.id, "uid": secret.uid, "gid": secret.gid, "mode": secret.mode, "optional": secret.optional }),
        ),
        MountKind::Ssh(agent) => (
            2,
            "SSHOpt",
            json!({ "ID": agent.id, "uid": agent.uid, "gid": agent.gid, "mode": agent.mode, "optional": agent.optional }),
        ),
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            };
            (3, "cacheOpt", json!({ "ID": cache.id, "sharing": sharing }))
        }
        MountKind::Tmpfs(tmpfs) => (4, "TmpfsOpt", json!({ "size": tmpfs.size_bytes })),
    };
    told["mountType"] = json!(number);
    told[name] = options;
    told
}

fn changes(file: &FileOp, inputs: usize) -> Value {
    let place = |place: Option<ActionInput>| match place {
        None => json!(-1),
        Some(ActionInput::Input(at)) => json!(at),
        Some(ActionInput::Step(at)) => json!(inputs + at),
    };
    let steps = file.steps.iter().map(|step| {
        let output = step.output.map_or(json!(-1), |output| json!(output));
        json!({
            "input": place(step.input),
            "secondaryInput": place(step.source),
            "output": output,
            "Action": change(&step.action),
        })
    });
    json!({ "actions": steps.collect::<Vec<_>>() })
}

fn change(action: &FileAction) -> Value {
    let time = |time: Option<i64>| time.unwrap_or(-1);
    let owner = action.owner().map(of_owner);
    let (kind, mut body) = match action {
        FileAction::Copy(copy) => (
            "copy",
            json!({
                "src": copy.source,
                "dest": copy.target,
                "mode": copy.mode.map_or(-1, i64::from),
                "modeStr": copy.mode_words,
                "followSymlink": copy.follow_symlink,
                "dirCopyContents": copy.copy_dir_contents,
                "attemptUnpackDockerCompatibility": copy.archives == ArchiveHandling::TryUnpack,
                "createDestPath": copy.create_target_path,
                "allowWildcard": copy.allow_wildcard,
                "allowEmptyWildcard": copy.allow_empty_wildcard,
                "timestamp": time(copy.timestamp),
                "include_patterns": copy.include_patterns,
                "exclude_patterns": copy.exclude_patterns,
            }),
        ),
        FileAction::MakeFile(file) => (
            "mkfile",
            json!({
                "path": file.path,
                "mode": file.mode,
                "data": STANDARD.encode(&file.content),
                "timestamp": time(file.timestamp),
            }),
        ),
        FileAction::MakeDir(dir) => (
            "mkdir",
            json!({
                "path": dir.path,
                "mode": dir.mode,
                "makeParents": dir.make_parents,
                "timestamp": time(dir.timestamp),
            }),
        ),
        FileAction::Symlink(link) => {
            ("symlink", json!({ "oldpath": link.target, "newpath": link.path, "timestamp": time(link.timestamp) }))
        }
        FileAction::Remove(remove) => (
            "rm",
            json!({
                "path": remove.path,
                "allowNotFound": remove.allow_not_found,
                "allowWildcard": remove.allow_wildcard,
            }),
        ),
    };
    if let Some(owner) = owner {
        body["owner"] = owner;
    }
    json!({ kind: body })
}

fn of_owner(owner: &ChangeOwner) -> Value {
    let one = |who: &Owner| match who {
        Owner::Id(id) => json!({ "User": { "byId": id } }),
        Owner::Name { name, input } => {
            let input = input.map_or(json!(-1), |input| json!(input));
            json!({ "User": { "byName": { "name": name, "input": input } } })
        }
    };
    let mut told = json!({});
    for (name, who) in [("user", &owner.user), ("group", &owner.group)] {
        if let Some(who) = who {
            told[name] = one(who);
        }
    }
    told
}
