//! The mounts of RUN.

use ferry_dockerfile::instruction::{CacheSharing as Sharing, Mount, MountKind as Kind};
use ferry_dockerfile::quoted;
use ferry_spec::path;

use super::Step;
use super::run::Mounts;
use crate::graph::{
    ActionInput, CacheMount, CacheSharing, ChangeOwner, Exec, FileAction, FileOp, FileStep, MakeDir,
    Mount as GraphMount, MountKind, Op, Output, Owner, SecretEnvironment, SecretMount, SshMount, TmpfsMount,
    VertexMeta,
};
use crate::plan::error::PlanError;
use crate::plan::outline::Wanted;

impl Step<'_, '_, '_> {
    /// Adds the mounts of a RUN.
    pub(super) fn add_mounts(
        &mut self,
        resolved: &[Mount],
        mounts: &mut Mounts,
        exec: &mut Exec,
    ) -> Result<(), PlanError> {
        let mut secrets = Vec::new();
        let mut agents = Vec::new();
        for (number, mount) in resolved.iter().enumerate() {
            match mount.kind {
                Kind::Secret => secrets.extend(self.secret(mount, exec)?),
                Kind::Ssh => agents.push(self.agent(mount)?),
                Kind::Bind | Kind::Cache | Kind::Tmpfs => self.tree_mount(number, mount, mounts)?,
            }
        }
        // Trees are mounted in the order of their targets, so that none hides another.
        mounts.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        mounts.mounts.extend(secrets);
        self.add_agents(agents, mounts, exec);
        Ok(())
    }

    fn tree_mount(&mut self, number: usize, mount: &Mount, mounts: &mut Mounts) -> Result<(), PlanError> {
        let mut tree = self.mount_tree(number, mount)?;
        let target = self.mount_target(&mount.target)?;
        let source = path::join("/", &mount.source);
        let mut selector = String::new();
        if source != "/" {
            selector.clone_from(&source);
        } else if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            tree = Some(self.cache_directory(mount, tree)?);
            "/cache".clone_into(&mut selector);
        }
        let kind = match mount.kind {
            Kind::Tmpfs => MountKind::Tmpfs(TmpfsMount { size_bytes: u64::try_from(mount.size_bytes).unwrap_or(0) }),
            Kind::Cache => self.cache(mount),
            _ => MountKind::Bind,
        };
        let input = mounts.input(tree);
        mounts.mounts.push(GraphMount {
            input,
            selector,
            target,
            output: None,
            read_only: mount.read_only,
            kind,
            content_cache: None,
        });
        self.mark_mount(number, mount);
        Ok(())
    }

    /// Returns the tree that a mount starts from.
    fn mount_tree(&mut self, number: usize, mount: &Mount) -> Result<Option<Output>, PlanError> {
        if mount.from.is_empty() && mount.kind == Kind::Bind {
            return self.stages.context(self.graph).map(Some);
        }
        if mount.from.is_empty() || mount.kind == Kind::Tmpfs {
            return Ok(None);
        }
        let source = &self.stages.list[self.sources[number]];
        if !source.is_done {
            let (from, target) = (quoted(&mount.from), quoted(&mount.target));
            return Err(PlanError::other(format!(
                "cannot mount from stage {from} to {target}, stage needs to be defined before current command"
            )));
        }
        Ok(source.tree.output)
    }

    fn mark_mount(&mut self, number: usize, mount: &Mount) {
        if !mount.from.is_empty() {
            let source = self.sources[number];
            self.stages.use_stage_path(source, &mount.source);
        } else if mount.kind == Kind::Bind {
            self.stages.use_context_path(&mount.source);
        }
    }

    fn mount_target(&mut self, written: &str) -> Result<String, PlanError> {
        let target = if path::clean(written).starts_with('/') {
            written.to_owned()
        } else {
            path::join("/", &format!("{}/{written}", self.stage().tree.directory))
        };
        if target == "/" {
            return Err(PlanError::other(format!("invalid mount target {}", quoted(&target))));
        }
        Ok(target)
    }

    fn cache(&mut self, mount: &Mount) -> MountKind {
        let id = if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
        let sharing = match mount.sharing {
            Some(Sharing::Private) => CacheSharing::Private,
            Some(Sharing::Locked) => CacheSharing::Locked,
            Some(Sharing::Shared) | None => CacheSharing::Shared,
        };
        MountKind::Cache(CacheMount { id: format!("{}/{id}", self.stages.input.request.cache_namespace), sharing })
    }

    /// Makes the directory that a cache begins as, with its owner and mode.
    fn cache_directory(&mut self, mount: &Mount, tree: Option<Output>) -> Result<Output, PlanError> {
        let make = MakeDir {
            path: "/cache".to_owned(),
            mode: mount.mode.unwrap_or(0o755),
            make_parents: false,
            owner: Some(ChangeOwner {
                user: Some(Owner::Id(mount.uid.unwrap_or(0))),
                group: Some(Owner::Id(mount.gid.unwrap_or(0))),
            }),
            timestamp: None,
        };
        let step = FileStep {
            input: tree.map(|_| ActionInput::Input(0)),
            source: None,
            output: Some(0),
            action: FileAction::MakeDir(make),
        };
        let meta =
            VertexMeta { name: "[internal] setting cache mount permissions".to_owned(), ..VertexMeta::default() };
        let op = Op::File(FileOp { steps: vec![step] });
        Ok(self.graph.add(op, tree.into_iter().collect(), None, meta)?.into())
    }

    /// Adds a secret as a variable; returns its mount when it is a file.
    fn secret(&mut self, mount: &Mount, exec: &mut Exec) -> Result<Option<GraphMount>, PlanError> {
        let id = match (mount.source.as_str(), mount.id.as_str(), mount.target.as_str()) {
            ("", "", "") => return Err(PlanError::other("one of source, target required")),
            ("", "", target) => path::base(target).to_owned(),
            ("", id, _) => id.to_owned(),
            (source, _, _) => source.to_owned(),
        };
        let lines = self.lines;
        self.stage().secrets.entry(id.clone()).or_insert(Wanted { required: mount.required, lines });
        if let Some(name) = &mount.env {
            let variable = SecretEnvironment { id: id.clone(), name: name.clone(), optional: !mount.required };
            exec.secret_env.push(variable);
            if mount.target.is_empty() {
                return Ok(None);
            }
        }
        let target = if mount.target.is_empty() {
            format!("/run/secrets/{}", path::base(&id))
        } else {
            path::join("/", &mount.target)
        };
        let secret = SecretMount {
            id,
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
            mode: mount.mode.unwrap_or(0o400),
            optional: !mount.required,
        };
        Ok(Some(special(target, MountKind::Secret(secret))))
    }

    fn agent(&mut self, mount: &Mount) -> Result<(String, SshMount), PlanError> {
        if !mount.source.is_empty() {
            return Err(PlanError::other("ssh does not support source"));
        }
        let id = if mount.id.is_empty() { "default" } else { &mount.id }.to_owned();
        let lines = self.lines;
        self.stage().agents.entry(id).or_insert(Wanted { required: mount.required, lines });
        let agent = SshMount {
            id: mount.id.clone(),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
            mode: mount.mode.unwrap_or(0o600),
            optional: !mount.required,
        };
        Ok((mount.target.clone(), agent))
    }

    /// Adds agents, each with a socket of its own; programs find the first one.
    fn add_agents(&mut self, agents: Vec<(String, SshMount)>, mounts: &mut Mounts, exec: &mut Exec) {
        for (number, (target, agent)) in agents.into_iter().enumerate() {
            let target =
                if target.is_empty() { format!("/run/buildkit/ssh_agent.{number}") } else { path::join("/", &target) };
            let is_set = exec.env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK="));
            if number == 0 && !is_set {
                exec.env.push(format!("SSH_AUTH_SOCK={target}"));
            }
            mounts.mounts.push(special(target, MountKind::Ssh(agent)));
        }
    }
}

/// A mount that takes from no tree.
fn special(target: String, kind: MountKind) -> GraphMount {
    GraphMount {
        input: None,
        selector: String::new(),
        target,
        output: None,
        read_only: true,
        kind,
        content_cache: None,
    }
}
