//! Definitions of builds as clients send them, as graphs.

use std::collections::HashMap;

use ferry_api::container::Ulimit;
use ferry_buildkit_proto::messages::llb::{
    self, Change, ChownOpt, FileAction as WireAction, Kind, MountType, Op as WireOp, User, UserOpt,
};
use ferry_buildkit_proto::messages::ops::{Definition, OpMetadata};
use ferry_spec::digest::Digest;
use ferry_spec::platform::Platform;
use prost::Message;

use super::source::source;
use crate::failure::{Failure, Result};
use crate::graph::{
    ActionInput, ArchiveHandling, CacheMount, CacheSharing, ChangeOwner, CopyAction, DefinitionFile, Device, Exec,
    ExtraHost, FileAction, FileOp, FileStep, Graph, MakeDir, MakeFile, Mount, MountKind, NetworkMode, Op, Output,
    Owner, ProgressGroup, ProxyEnvironment, Remove, SecretEnvironment, SecretMount, SecurityMode, SshMount, Symlink,
    TmpfsMount, VertexId, VertexMeta,
};

/// Most operations of a definition.
const MOST: usize = 10_000;

/// A definition that was read.
pub(super) struct Loaded {
    pub(super) graph: Graph,
    /// The outcome; `None` is an empty tree.
    pub(super) output: Option<Output>,
    /// Sessions of single directories, by their names.
    pub(super) sessions: Vec<(String, String)>,
}

/// Reads a definition that lies in a file: its graph, and the outcome.
pub(crate) fn definition_of(bytes: &[u8]) -> Result<(Graph, Option<Output>)> {
    let definition = Definition::decode(bytes)
        .map_err(|error| Failure::invalid(format!("failed to load LLB: failed to parse a definition: {error}")))?;
    load(&definition).map(|loaded| (loaded.graph, loaded.output))
}

/// Reads a definition.
pub(super) fn load(definition: &Definition) -> Result<Loaded> {
    if definition.def.len() > MOST {
        return Err(Failure::invalid(format!("failed to load LLB: more than {MOST} operations")));
    }
    let mut loading = Loading {
        ops: HashMap::new(),
        metadata: &definition.metadata,
        graph: Graph::new(),
        known: HashMap::new(),
        sessions: Vec::new(),
    };
    let mut last = None;
    for bytes in &definition.def {
        let op = WireOp::decode(&bytes[..])
            .map_err(|error| Failure::invalid(format!("failed to load LLB: failed to parse llb proto op: {error}")))?;
        let digest = Digest::sha256(bytes).to_string();
        loading.ops.insert(digest.clone(), op.clone());
        last = Some((digest, op));
    }
    let Some((digest, last)) = last else {
        return Err(Failure::invalid("failed to load LLB: invalid empty definition"));
    };
    let output = match (&last.op, last.inputs.as_slice()) {
        (None, [input]) => Some(loading.output(&input.digest, input.index)?),
        (None, []) => None,
        (None, _) => return Err(Failure::invalid("failed to load LLB: the last operation has several inputs")),
        (Some(_), _) => Some(loading.output(&digest, 0)?),
    };
    Ok(Loaded { graph: loading.graph, output, sessions: loading.sessions })
}

struct Loading<'a> {
    ops: HashMap<String, WireOp>,
    metadata: &'a std::collections::BTreeMap<String, OpMetadata>,
    graph: Graph,
    known: HashMap<String, VertexId>,
    sessions: Vec<(String, String)>,
}

impl Loading<'_> {
    fn output(&mut self, digest: &str, index: i64) -> Result<Output> {
        self.add_all(digest)?;
        let vertex = self.known.get(digest).copied().ok_or_else(|| missing(digest))?;
        let index = usize::try_from(index)
            .map_err(|_| Failure::invalid(format!("failed to load LLB: invalid index {index} of {digest}")))?;
        Ok(Output { vertex, index })
    }

    /// Adds an operation and everything that it takes from, without recursion: a client says how deep that goes.
    fn add_all(&mut self, digest: &str) -> Result<()> {
        let mut waiting = vec![(digest.to_owned(), false)];
        while let Some((digest, inputs_are_known)) = waiting.pop() {
            if self.known.contains_key(&digest) {
                continue;
            }
            let op = self.ops.get(&digest).ok_or_else(|| missing(&digest))?.clone();
            if inputs_are_known {
                self.add(&digest, &op)?;
                continue;
            }
            if waiting.len() > MOST * 2 {
                return Err(Failure::invalid("failed to load LLB: operations that take from each other"));
            }
            waiting.push((digest, true));
            waiting.extend(op.inputs.iter().map(|input| (input.digest.clone(), false)));
        }
        Ok(())
    }

    fn add(&mut self, digest: &str, op: &WireOp) -> Result<()> {
        let mut inputs = Vec::new();
        for input in &op.inputs {
            let vertex = self.known.get(&input.digest).copied().ok_or_else(|| missing(&input.digest))?;
            let index = usize::try_from(input.index).map_err(|_| missing(&input.digest))?;
            inputs.push(Output { vertex, index });
        }
        let platform = op.platform.as_ref().map(|platform| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Platform {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
                variant: text(&platform.variant),
                os_version: text(&platform.os_version),
                ..Platform::default()
            }
        });
        let meta = self.metadata.get(digest).map(meta).unwrap_or_default();
        let Some(kind) = &op.op else { return Err(Failure::invalid("failed to load LLB: an operation of no kind")) };
        let (op, inputs) = match kind {
            Kind::Merge(merge) => {
                // Empty trees add nothing.
                let named = merge.inputs.iter().filter_map(|one| place(one.input));
                let chosen: Option<Vec<Output>> = named.map(|place| inputs.get(place).copied()).collect();
                (Op::Merge, chosen.ok_or_else(|| missing(digest))?)
            }
            other => (self.op(other, inputs.len())?, inputs),
        };
        let digest_of = Digest::parse(digest).map_err(|error| Failure::invalid(error.to_string()))?;
        let vertex = self
            .graph
            .add_with_digest(op, inputs, platform, meta, digest_of)
            .map_err(|error| Failure::invalid(format!("failed to load LLB: {error}")))?;
        self.known.insert(digest.to_owned(), vertex);
        Ok(())
    }

    fn op(&mut self, kind: &Kind, inputs: usize) -> Result<Op> {
        Ok(match kind {
            Kind::Source(order) => {
                let (source, session) = source(order)?;
                if let (crate::graph::Source::Local(local), Some(session)) = (&source, session) {
                    self.sessions.push((local.name.clone(), session));
                }
                Op::Source(source)
            }
            Kind::Exec(exec) => Op::Exec(Box::new(program(exec)?)),
            Kind::File(file) => Op::File(changes(file, inputs)?),
            Kind::Merge(_) => Op::Merge,
            Kind::Diff(diff) => Op::Diff {
                lower: diff.lower.and_then(|one| place(one.input)),
                upper: diff.upper.and_then(|one| place(one.input)),
            },
            Kind::Build(build) => Op::Build(definition_file(build)?),
            Kind::Passthrough(_) => return Err(Failure::not_implemented("operation passthrough of a definition")),
        })
    }
}

fn missing(digest: &str) -> Failure {
    Failure::invalid(format!("failed to load LLB: invalid missing input digest {digest}"))
}

/// A place among inputs; -1 is none.
fn place(number: i64) -> Option<usize> {
    usize::try_from(number).ok()
}

fn meta(metadata: &OpMetadata) -> VertexMeta {
    VertexMeta {
        name: metadata.description.get("llb.customname").cloned().unwrap_or_default(),
        progress_group: metadata.progress_group.as_ref().map(|group| ProgressGroup {
            id: group.id.clone(),
            name: group.name.clone(),
            weak: group.weak,
        }),
        ignore_cache: metadata.ignore_cache,
        description: metadata.description.clone(),
        location: Vec::new(),
    }
}

/// Where a definition lies that is carried out in place of an operation.
fn definition_file(build: &llb::BuildOp) -> Result<DefinitionFile> {
    /// The input with the file, and the file's name unless another is given.
    const DEFINITION: &str = "buildkit.llb.definition";
    if build.builder != -1 {
        return Err(Failure::invalid("only LLB builder is currently allowed"));
    }
    let input = build.inputs.get(DEFINITION);
    let input = input.ok_or_else(|| Failure::invalid(format!("no llb definition input {DEFINITION} found")))?.input;
    Ok(DefinitionFile {
        input: place(input).ok_or_else(|| Failure::invalid(format!("invalid index {input}")))?,
        filename: build.attrs.get("llbbuild.filename").map_or(DEFINITION, String::as_str).to_owned(),
    })
}

fn program(exec: &llb::ExecOp) -> Result<Exec> {
    let meta = exec.meta.clone().ok_or_else(|| Failure::invalid("failed to load LLB: invalid exec op with no meta"))?;
    if meta.args.is_empty() {
        return Err(Failure::invalid("failed to load LLB: invalid exec op with no args"));
    }
    Ok(Exec {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        hostname: meta.hostname,
        proxy: meta.proxy_env.map(|proxy| ProxyEnvironment {
            http_proxy: proxy.http_proxy,
            https_proxy: proxy.https_proxy,
            ftp_proxy: proxy.ftp_proxy,
            no_proxy: proxy.no_proxy,
            all_proxy: proxy.all_proxy,
        }),
        extra_hosts: meta.extra_hosts.into_iter().map(|one| ExtraHost { host: one.host, ip: one.ip }).collect(),
        ulimits: meta.ulimit.into_iter().map(|one| Ulimit { name: one.name, soft: one.soft, hard: one.hard }).collect(),
        cgroup_parent: meta.cgroup_parent,
        valid_exit_codes: meta.valid_exit_codes,
        network: match exec.network {
            1 => NetworkMode::Host,
            2 => NetworkMode::None,
            _ => NetworkMode::Sandbox,
        },
        security: if exec.security == 1 { SecurityMode::Insecure } else { SecurityMode::Sandbox },
        mounts: exec.mounts.iter().map(mount).collect::<Result<_>>()?,
        secret_env: exec
            .secretenv
            .iter()
            .map(|one| SecretEnvironment { id: one.id.clone(), name: one.name.clone(), optional: one.optional })
            .collect(),
        devices: exec.cdi_devices.iter().map(|one| Device { name: one.name.clone(), optional: one.optional }).collect(),
        shm_size_bytes: 0,
    })
}

fn mount(mount: &llb::Mount) -> Result<Mount> {
    let kind = MountType::try_from(mount.mount_type).map_err(|_| {
        Failure::invalid(format!("failed to load LLB: mount type {} not implemented", mount.mount_type))
    })?;
    let lent = |opt: &Option<llb::LentOpt>| opt.clone().unwrap_or_default();
    let kind = match kind {
        MountType::Bind => MountKind::Bind,
        MountType::Tmpfs => {
            let size = mount.tmpfs_opt.unwrap_or_default().size;
            MountKind::Tmpfs(TmpfsMount { size_bytes: u64::try_from(size).unwrap_or_default() })
        }
        MountType::Cache => {
            let cache = mount.cache_opt.clone().unwrap_or_default();
            let sharing = match cache.sharing {
                1 => CacheSharing::Private,
                2 => CacheSharing::Locked,
                _ => CacheSharing::Shared,
            };
            MountKind::Cache(CacheMount { id: cache.id, sharing })
        }
        MountType::Secret => {
            let llb::LentOpt { id, uid, gid, mode, optional } = lent(&mount.secret_opt);
            MountKind::Secret(SecretMount { id, uid, gid, mode, optional })
        }
        MountType::Ssh => {
            let llb::LentOpt { id, uid, gid, mode, optional } = lent(&mount.ssh_opt);
            MountKind::Ssh(SshMount { id, uid, gid, mode, optional })
        }
    };
    Ok(Mount {
        input: place(mount.input),
        selector: mount.selector.clone(),
        target: mount.dest.clone(),
        output: place(mount.output),
        read_only: mount.readonly,
        kind,
        content_cache: match mount.content_cache {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        },
    })
}

fn changes(file: &llb::FileOp, inputs: usize) -> Result<FileOp> {
    if file.actions.is_empty() {
        return Err(Failure::invalid("failed to load LLB: invalid file op with no actions"));
    }
    let input = |number: i64| {
        place(number).map(|place| match place.checked_sub(inputs) {
            None => ActionInput::Input(place),
            Some(step) => ActionInput::Step(step),
        })
    };
    let steps = file.actions.iter().map(|action| {
        Ok(FileStep {
            input: input(action.input),
            source: match &action.action {
                Some(Change::Copy(_)) => input(action.secondary_input),
                _ => None,
            },
            output: place(action.output),
            action: change(action)?,
        })
    });
    let steps: Vec<FileStep> = steps.collect::<Result<_>>()?;
    for (at, step) in steps.iter().enumerate() {
        let is_later = |input: &ActionInput| matches!(input, ActionInput::Step(other) if *other >= at);
        if [step.input, step.source].iter().flatten().any(is_later) {
            return Err(Failure::invalid(format!("failed to load LLB: invalid input index of file action {at}")));
        }
    }
    Ok(FileOp { steps })
}

fn change(action: &WireAction) -> Result<FileAction> {
    let time = |time: i64| (time >= 0).then_some(time);
    let bits = |mode: i32| u32::try_from(mode).unwrap_or_default();
    Ok(match action.action.clone() {
        Some(Change::Copy(copy)) => FileAction::Copy(Box::new(CopyAction {
            source: copy.src,
            target: copy.dest,
            owner: owner(copy.owner),
            mode: u32::try_from(copy.mode).ok(),
            mode_words: copy.mode_str,
            follow_symlink: copy.follow_symlink,
            copy_dir_contents: copy.dir_copy_contents,
            archives: if copy.attempt_unpack { ArchiveHandling::TryUnpack } else { ArchiveHandling::Keep },
            create_target_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp: time(copy.timestamp),
            include_patterns: copy.include_patterns,
            exclude_patterns: copy.exclude_patterns,
            replace_existing: copy.always_replace,
            parents: false,
            required_paths: copy.required_paths,
        })),
        Some(Change::Mkfile(file)) => FileAction::MakeFile(MakeFile {
            path: file.path,
            mode: bits(file.mode),
            content: file.data,
            owner: owner(file.owner),
            timestamp: time(file.timestamp),
        }),
        Some(Change::Mkdir(dir)) => FileAction::MakeDir(MakeDir {
            path: dir.path,
            mode: bits(dir.mode),
            make_parents: dir.make_parents,
            owner: owner(dir.owner),
            timestamp: time(dir.timestamp),
        }),
        Some(Change::Symlink(link)) => FileAction::Symlink(Symlink {
            target: link.oldpath,
            path: link.newpath,
            owner: owner(link.owner),
            timestamp: time(link.timestamp),
        }),
        Some(Change::Rm(remove)) => FileAction::Remove(Remove {
            path: remove.path,
            allow_not_found: remove.allow_not_found,
            allow_wildcard: remove.allow_wildcard,
        }),
        None => return Err(Failure::invalid("failed to load LLB: unknown file action")),
    })
}

fn owner(chown: Option<ChownOpt>) -> Option<ChangeOwner> {
    let one = |who: Option<UserOpt>| {
        Some(match who?.user? {
            User::ById(id) => Owner::Id(id),
            User::ByName(named) => Owner::Name { name: named.name, input: place(named.input) },
        })
    };
    chown.map(|chown| ChangeOwner { user: one(chown.user), group: one(chown.group) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ferry_buildkit_proto::messages::llb::{FileActionMkDir, FileOp as WireFileOp, Input, Op, SourceOp};

    use super::*;

    /// Adds an operation to a definition; returns its digest.
    fn put(definition: &mut Definition, op: Op) -> String {
        let bytes = op.encode_to_vec();
        let digest = Digest::sha256(&bytes).to_string();
        definition.def.push(bytes);
        digest
    }

    fn image() -> Op {
        let source = SourceOp {
            identifier: "docker-image://docker.io/library/busybox:latest".to_owned(),
            ..SourceOp::default()
        };
        Op { op: Some(Kind::Source(source)), ..Op::default() }
    }

    fn mkdir(input: &str, path: &str) -> Op {
        let make = FileActionMkDir { path: path.to_owned(), mode: 0o755, timestamp: -1, ..FileActionMkDir::default() };
        let action = WireAction { input: 0, secondary_input: -1, output: 0, action: Some(Change::Mkdir(make)) };
        Op {
            inputs: vec![Input { digest: input.to_owned(), index: 0 }],
            op: Some(Kind::File(WireFileOp { actions: vec![action] })),
            ..Op::default()
        }
    }

    fn end(input: &str) -> Op {
        Op { inputs: vec![Input { digest: input.to_owned(), index: 0 }], ..Op::default() }
    }

    #[test]
    fn definitions_become_graphs() {
        let mut definition = Definition::default();
        let base = put(&mut definition, image());
        let first = put(&mut definition, mkdir(&base, "/a"));
        let second = put(&mut definition, mkdir(&first, "/b"));
        let named = OpMetadata {
            description: BTreeMap::from([("llb.customname".to_owned(), "make b".to_owned())]),
            ..OpMetadata::default()
        };
        definition.metadata.insert(second.clone(), named);
        put(&mut definition, end(&second));
        // The order of the operations is nobody's business.
        definition.def.swap(0, 2);
        let loaded = load(&definition).unwrap();
        let output = loaded.output.unwrap();
        let vertex = loaded.graph.vertex(output.vertex);
        assert_eq!((vertex.meta.name.as_str(), vertex.digest.as_str()), ("make b", second.as_str()));
        assert_eq!(loaded.graph.needed_for(&[output]).len(), 3);
    }

    #[test]
    fn definitions_that_are_none_are_refused() {
        let refused = |ops: &[Op]| {
            let mut definition = Definition::default();
            for op in ops {
                put(&mut definition, op.clone());
            }
            load(&definition).err().unwrap().message
        };
        assert_eq!(refused(&[]), "failed to load LLB: invalid empty definition");
        let unknown = Digest::sha256(b"x").to_string();
        assert!(refused(&[end(&unknown)]).starts_with("failed to load LLB: invalid missing input digest sha256:"));
        for (builder, named, text) in [
            (0, None, "only LLB builder is currently allowed"),
            (-1, None, "no llb definition input buildkit.llb.definition found"),
            (-1, Some(-1), "invalid index -1"),
            (-1, Some(3), "failed to load LLB: operation names input 3 and has 0"),
        ] {
            let input = named.map(|input| ("buildkit.llb.definition".to_owned(), llb::BuildInput { input }));
            let build = llb::BuildOp { builder, inputs: input.into_iter().collect(), ..llb::BuildOp::default() };
            assert_eq!(refused(&[Op { op: Some(Kind::Build(build)), ..Op::default() }]), text);
        }
        let mut wrong = mkdir(&unknown, "/a");
        wrong.inputs.clear();
        assert_eq!(refused(&[wrong]), "failed to load LLB: invalid input index of file action 0");
    }
}
