//! Operations in the form that the recorded answers have.

use serde_json::{Map, Value, json};

use crate::graph::{
    ActionInput, ArchiveHandling, CacheSharing, ChangeOwner, CopyAction, Exec, FileAction, FileOp, Graph,
    ImagePullMode, Mount, MountKind, NetworkMode, Op, Output, Owner, SecurityMode, Source, Vertex,
};

/// Returns the operations that trees need, sorted by their texts.
pub(super) fn vertices(graph: &Graph, trees: &[Output]) -> Vec<Value> {
    let mut found: Vec<Value> = graph.needed_for(trees).into_iter().map(|id| vertex(graph, graph.vertex(id))).collect();
    found.sort_by_key(Value::to_string);
    found
}

fn vertex(graph: &Graph, vertex: &Vertex) -> Value {
    let inputs: Vec<&str> = vertex.inputs.iter().map(|input| graph.vertex(input.vertex).meta.name.as_str()).collect();
    let op = match &vertex.op {
        Op::Source(source) => self::source(source, &vertex.meta.name),
        Op::Exec(exec) => self::exec(exec, &inputs),
        Op::File(file) => self::file(file, &inputs),
        Op::Merge => json!({ "merge": inputs.len() }),
        Op::Diff { .. } => json!("diff"),
        Op::Build(_) => json!("build"),
    };
    let mut value = Map::new();
    value.insert("name".into(), json!(vertex.meta.name));
    value.insert("op".into(), op);
    if !inputs.is_empty() {
        value.insert("inputs".into(), json!(inputs));
    }
    if vertex.meta.ignore_cache {
        value.insert("ignore_cache".into(), json!(true));
    }
    Value::Object(value)
}

fn source(source: &Source, name: &str) -> Value {
    let mut attributes = Map::new();
    let identifier = match source {
        Source::Image(image) => {
            if image.pull == ImagePullMode::Always {
                attributes.insert("image.resolvemode".into(), json!("pull"));
            }
            // BuildKit leaves the digest out of a named context's image; ours is always the one whose configuration was read.
            let reference = match image.reference.split_once('@') {
                Some((reference, _)) if name.starts_with("[context ") && !name.contains("] FROM ") => reference,
                _ => &image.reference,
            };
            format!("docker-image://{reference}")
        }
        Source::Local(local) => {
            for (key, list) in [
                ("local.excludepatterns", &local.exclude_patterns),
                ("local.followpaths", &local.follow_paths),
                ("local.includepattern", &local.include_patterns),
            ] {
                if !list.is_empty() {
                    attributes.insert(key.into(), json!(json!(list).to_string()));
                }
            }
            format!("local://{}", local.name)
        }
        Source::Git(git) => {
            if git.keep_git_dir {
                attributes.insert("git.keepgitdir".into(), json!("true"));
            }
            if let Some(checksum) = &git.checksum {
                attributes.insert("git.checksum".into(), json!(checksum));
            }
            if git.skip_submodules {
                attributes.insert("git.skipsubmodules".into(), json!("true"));
            }
            git_identifier(&git.remote, &git.reference, &git.subdirectory)
        }
        Source::Http(http) => {
            if let Some(filename) = &http.filename {
                attributes.insert("http.filename".into(), json!(filename));
            }
            if let Some(checksum) = &http.checksum {
                attributes.insert("http.checksum".into(), json!(checksum));
            }
            http.url.clone()
        }
        Source::Layout(layout) => {
            attributes.insert("oci.store".into(), json!(layout.store));
            format!("oci-layout://{}", layout.reference)
        }
        Source::Input(name) => format!("input:{name}"),
    };
    let mut value = Map::new();
    if !attributes.is_empty() {
        value.insert("attrs".into(), sorted(attributes));
    }
    value.insert("source".into(), json!(identifier));
    Value::Object(value)
}

fn git_identifier(remote: &str, reference: &str, subdirectory: &str) -> String {
    let address = match remote.split_once("://") {
        Some((_, address)) => address.to_owned(),
        None => remote.split_once('@').map_or(remote, |(_, address)| address).replacen(':', "/", 1),
    };
    let mut identifier = format!("git://{address}");
    if !reference.is_empty() || !subdirectory.is_empty() {
        identifier.push_str(&format!("#{reference}"));
    }
    if !subdirectory.is_empty() {
        identifier.push_str(&format!(":{subdirectory}"));
    }
    identifier
}

fn exec(exec: &Exec, inputs: &[&str]) -> Value {
    let mut value = Map::new();
    let mut set = |key: &str, item: Value| {
        let is_nothing = item.is_null() || item == json!("") || item.as_array().is_some_and(Vec::is_empty);
        if !is_nothing {
            value.insert(key.to_owned(), item);
        }
    };
    set("cgroup", json!(exec.cgroup_parent));
    set("cwd", json!(exec.cwd));
    let devices = exec.devices.iter().map(|device| format!("{}:{}", device.name, device.optional));
    set("devices", json!(devices.collect::<Vec<_>>()));
    set("env", json!(exec.env));
    set("exec", json!(exec.args));
    set("hosts", json!(exec.extra_hosts.iter().map(|host| format!("{}={}", host.host, host.ip)).collect::<Vec<_>>()));
    set("hostname", json!(exec.hostname));
    set("mounts", exec.mounts.iter().map(|mount| self::mount(mount, inputs)).collect());
    set(
        "network",
        match exec.network {
            NetworkMode::Sandbox => Value::Null,
            NetworkMode::Host => json!("HOST"),
            NetworkMode::None => json!("NONE"),
        },
    );
    if let Some(proxy) = &exec.proxy {
        let words = [&proxy.http_proxy, &proxy.https_proxy, &proxy.ftp_proxy, &proxy.no_proxy, &proxy.all_proxy];
        set("proxy", json!(words));
    }
    let secrets = exec.secret_env.iter().map(|secret| format!("{}={}:{}", secret.name, secret.id, secret.optional));
    set("secret_env", json!(secrets.collect::<Vec<_>>()));
    if exec.security == SecurityMode::Insecure {
        set("security", json!("INSECURE"));
    }
    if exec.shm_size_bytes > 0 {
        set("shm", json!(exec.shm_size_bytes));
    }
    let limits = exec.ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard));
    set("ulimits", json!(limits.collect::<Vec<_>>()));
    set("user", json!(exec.user));
    sorted(value)
}

fn mount(mount: &Mount, inputs: &[&str]) -> Value {
    let mut value = Map::new();
    value.insert("input".into(), json!(mount.input.map(|input| inputs[input])));
    value.insert("target".into(), json!(mount.target));
    if !mount.selector.is_empty() {
        value.insert("selector".into(), json!(mount.selector));
    }
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            value.insert("cache".into(), json!(format!("{}:{sharing}", cache.id)));
        }
        MountKind::Tmpfs(tmpfs) => {
            value.insert("tmpfs".into(), json!(tmpfs.size_bytes));
        }
        MountKind::Secret(secret) => {
            let text = format!("{} {}:{} {:o} {}", secret.id, secret.uid, secret.gid, secret.mode, secret.optional);
            value.insert("secret".into(), json!(text));
        }
        MountKind::Ssh(agent) => {
            let text = format!("{} {}:{} {:o} {}", agent.id, agent.uid, agent.gid, agent.mode, agent.optional);
            value.insert("ssh".into(), json!(text));
        }
    }
    let is_special = matches!(mount.kind, MountKind::Secret(_) | MountKind::Ssh(_));
    if mount.read_only && !is_special {
        value.insert("readonly".into(), json!(true));
    }
    sorted(value)
}

fn file(file: &FileOp, inputs: &[&str]) -> Value {
    let place = |input: Option<ActionInput>| match input {
        None => Value::Null,
        Some(ActionInput::Input(index)) => json!(inputs[index]),
        Some(ActionInput::Step(step)) => json!(format!("step {step}")),
    };
    let action = |step: &crate::graph::FileStep| {
        let mut value = Map::new();
        value.insert("input".into(), place(step.input));
        match &step.action {
            FileAction::Copy(copy) => self::copy(copy, place(step.source), &mut value),
            FileAction::MakeFile(make) => {
                let content = String::from_utf8_lossy(&make.content).into_owned();
                value.insert("mkfile".into(), json!([make.path, format!("{:o}", make.mode), content]));
            }
            FileAction::MakeDir(make) => {
                value.insert("mkdir".into(), json!([make.path, format!("{:o}", make.mode), make.make_parents]));
                if let Some(owner) = &make.owner {
                    value.insert("owner".into(), self::owner(owner));
                }
                if let Some(time) = make.timestamp {
                    value.insert("time".into(), json!(time));
                }
            }
            FileAction::Symlink(_) | FileAction::Remove(_) => {}
        }
        sorted(value)
    };
    json!({ "file": file.steps.iter().map(action).collect::<Vec<_>>() })
}

fn copy(copy: &CopyAction, source: Value, value: &mut Map<String, Value>) {
    value.insert("copy".into(), json!([source, copy.source, copy.target]));
    if let Some(owner) = &copy.owner {
        value.insert("owner".into(), self::owner(owner));
    }
    if !copy.mode_words.is_empty() {
        value.insert("mode".into(), json!(copy.mode_words));
    } else if let Some(mode) = copy.mode {
        value.insert("mode".into(), json!(format!("{mode:o}")));
    }
    let flags = [
        (copy.follow_symlink, "follow"),
        (copy.copy_dir_contents, "contents"),
        (copy.archives == ArchiveHandling::TryUnpack, "unpack"),
        (copy.create_target_path, "create"),
        (copy.allow_wildcard, "wildcard"),
        (copy.allow_empty_wildcard, "empty"),
        (copy.replace_existing, "replace"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    value.insert("flags".into(), json!(flags.join(" ")));
    for (key, list) in
        [("include", &copy.include_patterns), ("exclude", &copy.exclude_patterns), ("required", &copy.required_paths)]
    {
        if !list.is_empty() {
            value.insert(key.into(), json!(list));
        }
    }
}

fn owner(owner: &ChangeOwner) -> Value {
    let one = |owner: &Option<Owner>| match owner {
        None => Value::Null,
        Some(Owner::Id(id)) => json!(id),
        Some(Owner::Name { name, .. }) => json!(name),
    };
    json!([one(&owner.user), one(&owner.group)])
}

/// Go writes maps in the order of their keys.
fn sorted(value: Map<String, Value>) -> Value {
    let mut entries: Vec<(String, Value)> = value.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(entries.into_iter().collect())
}
