//! Bringing here what a build begins with: its context, its Dockerfile, the ignore file.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use ferry_engine::images::BuildHold;

use super::{BuildRequest, Builder, DOCKERFILE_LIMIT, local, plan_failed};
use crate::clock::now_ns;
use crate::failure::{Failure, Result, blocking};
use crate::files;
use crate::graph::{Graph, Op, Source, VertexMeta};
use crate::plan::{self, MainContext, Request};
use crate::progress::{Begun, Reporter};
use crate::solve::Solve;
use crate::tree::{Folder, Tree};

impl Builder {
    /// Fetches a context that the client only names, and lends it as if the client had sent it.
    pub(super) async fn take_remote(
        &self,
        request: &mut BuildRequest,
        reporter: &Reporter,
        hold: &BuildHold,
    ) -> Result<()> {
        let source = match MainContext::detect(&request.remote) {
            MainContext::Git(address) => Source::Git(plan::git_source(&address, false).map_err(plan_failed)?),
            MainContext::Http { url, .. } => Source::Http(plan::http_source(&url, "context")),
            MainContext::Local(_) => {
                return Err(Failure::invalid(format!("unable to detect remote context {:?}", request.remote)));
            }
        };
        let is_file = matches!(source, Source::Http(_));
        let mut graph = Graph::new();
        let meta = VertexMeta { name: "[internal] load remote build context".to_owned(), ..VertexMeta::default() };
        let vertex = graph.add(Op::Source(source), Vec::new(), None, meta)?;
        let solve = Solve::new(graph, self.ground.clone(), request.solve.clone(), reporter.clone(), hold.clone());
        let Tree::Folder(fetched) = solve.tree(vertex.into()).await? else {
            return Err(Failure::internal("a remote context that is no folder"));
        };
        let folder = if is_file { self.open_remote_file(fetched).await? } else { fetched };
        let mut folders = HashMap::new();
        // A Dockerfile of the client's own goes with a context from elsewhere.
        if !request.options.contains_key("dockerfilekey") {
            folders.insert("dockerfile".to_owned(), Arc::clone(&folder));
        }
        let context = match request.options.get("contextsubdir") {
            Some(below) => {
                let below = below.clone();
                blocking(move || folder.below(&below).map(Arc::new)).await?
            }
            None => folder,
        };
        folders.insert("context".to_owned(), context);
        request.solve.session = std::mem::take(&mut request.solve.session).with_folders(folders);
        Ok(())
    }

    /// An archive is the context; anything else is a Dockerfile without one.
    async fn open_remote_file(&self, fetched: Arc<Folder>) -> Result<Arc<Folder>> {
        let workshop = self.ground.engine.workshop.clone();
        blocking(move || {
            let owner = workshop.context_folder()?;
            let target = Folder::open(owner)?;
            let copy = crate::graph::CopyAction {
                source: "/context".to_owned(),
                target: "/".to_owned(),
                archives: crate::graph::ArchiveHandling::TryUnpack,
                create_target_path: true,
                ..Default::default()
            };
            files::copy(fetched.as_ref().as_fd(), target.as_fd(), &files::CopyOrder::new(&copy, None)?)?;
            if let Some(text) = files::read_file(target.as_fd(), "context", DOCKERFILE_LIMIT)? {
                let file = crate::graph::MakeFile {
                    path: "/Dockerfile".to_owned(),
                    mode: 0o644,
                    content: text,
                    ..Default::default()
                };
                files::make_file(target.as_fd(), &file, None)?;
            }
            Ok(Arc::new(target))
        })
        .await
    }

    /// Tells before a build begins what is wrong with its Dockerfile, in the words of the builder before BuildKit.
    ///
    /// # Errors
    /// Internal when it is not there; InvalidArgument when it cannot be read or has no such target.
    pub async fn check_dockerfile(&self, request: &BuildRequest) -> Result<()> {
        let planning = Request::from_options(&request.options).map_err(|error| Failure::invalid(error.to_string()))?;
        if Request::frontend(&request.options, "").is_some() || planning.dockerfile_name.is_some() {
            return Ok(());
        }
        let name = planning.filename.clone();
        let begun = Reporter::new().internal("check the Dockerfile");
        let Ok((text, _)) = self.read_dockerfile(request, &planning, &name, &begun).await else {
            return Err(Failure::internal(format!("Cannot locate specified Dockerfile: {name}")));
        };
        if text.is_empty() {
            return Err(Failure::invalid(format!("the Dockerfile ({name}) cannot be empty")));
        }
        let parsed = ferry_dockerfile::Dockerfile::parse(&text, &mut ferry_dockerfile::check::Checks::default());
        let file = parsed.map_err(|error| Failure::invalid(error.to_string()))?;
        let target = planning.target.as_str();
        let is_there = target.is_empty()
            || file.stage(target).is_some()
            || target.parse::<usize>().is_ok_and(|number| number < file.stages.len());
        match is_there {
            true => Ok(()),
            false => Err(Failure::invalid(format!("target stage {target:?} could not be found"))),
        }
    }

    /// Reads the Dockerfile, and the ignore file that goes with it.
    pub(super) async fn load_dockerfile(
        &self,
        request: &BuildRequest,
        planning: &mut Request,
        reporter: &Reporter,
    ) -> Result<String> {
        let name = planning.filename.clone();
        let begun = reporter.internal(format!("[internal] load build definition from {}", base_name(&name)));
        let read = self.read_dockerfile(request, planning, &name, &begun).await;
        let (text, folder) = begun.ended(read)?;
        let MainContext::Local(directory) = planning.context.clone() else { return Ok(text) };
        let begun = reporter.internal("[internal] load .dockerignore");
        let ignored = self.read_ignore_file(request, &folder, &name, &directory, &begun).await?;
        begun.done();
        planning.ignore_patterns = ferry_dockerfile::ignore::read(&ignored);
        Ok(text)
    }

    async fn read_dockerfile(
        &self,
        request: &BuildRequest,
        planning: &Request,
        name: &str,
        begun: &Begun,
    ) -> Result<(String, Arc<Folder>)> {
        let key = planning.dockerfile_name.clone().unwrap_or_else(|| "dockerfile".to_owned());
        let wanted = vec![name.to_owned(), format!("{name}.dockerignore"), ".dockerignore".to_owned()];
        let source = local(&key, wanted);
        let started = now_ns();
        let folder = request.solve.session.files(&source, begun).await?;
        let (reading, path) = (Arc::clone(&folder), name.to_owned());
        let text = blocking(move || files::read_file(reading.as_ref().as_fd(), &path, DOCKERFILE_LIMIT)).await?;
        let text = text.ok_or_else(|| {
            Failure::invalid(format!("failed to read dockerfile: open {name}: no such file or directory"))
        })?;
        let bytes = i64::try_from(text.len()).unwrap_or_default();
        if !request.solve.session.tells_transfers() {
            begun.status("transferring dockerfile:", bytes, 0, started, true);
        }
        let text =
            String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok((text, folder))
    }

    /// `<file>.dockerignore` beside the Dockerfile, or else `.dockerignore` in the context.
    async fn read_ignore_file(
        &self,
        request: &BuildRequest,
        beside: &Arc<Folder>,
        name: &str,
        directory: &str,
        begun: &Begun,
    ) -> Result<String> {
        let read = |folder: &Arc<Folder>, path: String| {
            let folder = Arc::clone(folder);
            blocking(move || files::read_file(folder.as_ref().as_fd(), &path, DOCKERFILE_LIMIT))
        };
        let started = now_ns();
        let found = match read(beside, format!("{name}.dockerignore")).await? {
            Some(found) => Some(found),
            None => {
                let context =
                    request.solve.session.files(&local(directory, vec![".dockerignore".to_owned()]), begun).await?;
                read(&context, ".dockerignore".to_owned()).await?
            }
        };
        let found = found.unwrap_or_default();
        let bytes = i64::try_from(found.len()).unwrap_or_default().max(2);
        if !request.solve.session.tells_transfers() {
            begun.status("transferring context:", bytes, 0, started, true);
        }
        Ok(String::from_utf8_lossy(&found).into_owned())
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
