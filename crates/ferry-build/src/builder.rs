//! The builder: from a request to an image, with everything told on the way.
//!
//! A build is one task. Whoever started it may leave: dropping a [`Building`] ends the build, its steps and its transfers.

mod built;
mod load;
mod planning;
mod running;
mod scanning;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use ferry_engine::{Engine, ErrorKind};
use ferry_spec::descriptor::Descriptor;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use ferry_store::Origins;

use crate::attest::{AttestOrder, Story};
use crate::cache::{Cache, new_id};
use crate::classic;
use crate::clock::now_ns;
use crate::contexts::Contexts;
use crate::exchange::{self, CacheOrder, ExportOrder};
use crate::export;
use crate::failure::{DockerfileText, Failure, Result, blocking};
use crate::files;
use crate::gc::{self, Gc};
use crate::graph::{Graph, LocalDiffer, LocalSource, Output};
use crate::image_form::{self, ImageForm};
use crate::plan::{self, Request};
use crate::progress::{Begun, Event, Reporter};
use crate::session::{Session, Uploaded};
use crate::solve::mounts::CacheMounts;
use crate::solve::{Ground, Solve, SolveOptions};
use crate::subrequest;
use crate::synced::{self, Synced, Wanted};
use crate::tree::{Folder, Layers, Tree};

pub(crate) use built::best_target;
pub use built::{Built, BuiltTarget};
use planning::Work;
pub(crate) use running::Entry;
use running::Running;
use scanning::Scans;

/// The longest Dockerfile that is read, in bytes.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// Builds images; cheap to clone.
#[derive(Clone)]
pub struct Builder {
    ground: Ground,
    gc: Gc,
    running: Running,
}

/// What to build.
#[derive(Clone, Default)]
pub struct BuildRequest {
    /// The client's id of it, for cancelling it and for telling what made an image; empty for none.
    pub id: String,
    /// The options of BuildKit's Dockerfile frontend.
    pub options: BTreeMap<String, String>,
    /// What the build is allowed, and what the client lends.
    pub solve: SolveOptions,
    /// Names of the image.
    pub names: Vec<Reference>,
    /// The image is written to the store.
    pub writes_image: bool,
    /// A context that the daemon fetches itself.
    pub remote: String,
    /// Images of the store whose caches are taken.
    pub cache_images: Vec<String>,
    /// Where the cache is given to.
    pub cache_exports: Vec<CacheOrder>,
    /// How the image is written.
    pub form: ImageForm,
    /// The builder before BuildKit is asked.
    pub classic: bool,
}

/// A build that goes on.
pub struct Building {
    /// Tells how it goes.
    pub reporter: Reporter,
    task: tokio::task::JoinHandle<Result<Built>>,
    _entry: Option<Entry>,
}

impl Building {
    /// Waits for its end.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn finish(mut self) -> Result<Built> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_cancelled() => Err(Failure::new(ErrorKind::Conflict, "context canceled")),
            Err(error) => Err(Failure::internal(format!("the build panicked: {error}"))),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Builder {
    /// Opens the builder of an engine. Blocks.
    ///
    /// # Errors
    /// When its folder cannot be used.
    pub fn open(engine: Engine, settings: gc::Settings) -> Result<Self> {
        let cache = Cache::open(engine.workshop.folder(), engine.images.clone())?;
        let (cache_mounts, contexts) = (CacheMounts::default(), Contexts::default());
        let ground = Ground { engine, cache, cache_mounts, contexts, denied: settings.denied };
        Ok(Self { ground, gc: Gc::new(settings.policy), running: Running::default() })
    }

    /// What builds work with.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    pub(crate) fn gc(&self) -> &Gc {
        &self.gc
    }

    /// Starts a build.
    #[must_use]
    pub fn start(&self, request: BuildRequest) -> Building {
        self.start_with(request, |_, built| async { Ok(built) })
    }

    /// As [`Self::start`], with something to do with what was built.
    pub(crate) fn start_with<F, R>(&self, request: BuildRequest, after: F) -> Building
    where
        F: FnOnce(Reporter, Built) -> R + Send + 'static,
        R: Future<Output = Result<Built>> + Send,
    {
        let reporter = Reporter::new();
        let (builder, told, id) = (self.clone(), reporter.clone(), request.id.clone());
        let task = tokio::spawn(async move {
            // However it ends, those who follow learn it.
            let told = FinishOnDrop(told);
            let built = builder.build(request, &told.0).await?;
            after(told.0.clone(), built).await
        });
        let entry = self.enter(id, task.abort_handle());
        Building { reporter, task, _entry: entry }
    }

    /// Lets a build be ended by its id, as long as what is returned is kept; none for an empty id.
    pub(crate) fn enter(&self, id: String, task: tokio::task::AbortHandle) -> Option<Entry> {
        self.running.enter(id, task)
    }

    /// Takes the archive that a client sends as its context, with what else it lends. `split` when each directory at its top is one of the
    /// client's.
    ///
    /// # Errors
    /// InvalidArgument for what is no archive.
    pub async fn receive_context(
        &self,
        pieces: std::sync::mpsc::Receiver<bytes::Bytes>,
        mut lent: Uploaded,
        split: bool,
    ) -> Result<Session> {
        let workshop = self.ground.engine.workshop.clone();
        blocking(move || {
            let folder = Folder::open(workshop.context_folder()?)?;
            files::unpack_context(Pieces { pieces, left: bytes::Bytes::new() }, folder.as_fd())
                .map_err(|failure| failure.during("Error processing tar file"))?;
            if split {
                for name in folder.names()? {
                    let below = Arc::new(folder.below(&name)?);
                    lent.folders.insert(name, below);
                }
            } else {
                let folder = Arc::new(folder);
                lent.folders.extend(["context", "dockerfile"].map(|name| (name.to_owned(), Arc::clone(&folder))));
            }
            Ok(Session::of(Arc::new(lent)))
        })
        .await
    }

    /// Takes a list of a client's directories, and lends them to a build: what it asks for and is not here as it was told is asked of the
    /// client; see `ferry_api::context`. `key` is the client's name for all of them.
    ///
    /// # Errors
    /// InvalidArgument for what is no such list.
    pub async fn sync_context(
        &self,
        pieces: tokio::sync::mpsc::Receiver<std::result::Result<bytes::Bytes, String>>,
        lent: Uploaded,
        key: String,
        asks: tokio::sync::mpsc::UnboundedSender<Wanted>,
    ) -> Result<Session> {
        let (workshop, contexts) = (self.ground.engine.workshop.clone(), self.ground.contexts.clone());
        blocking(move || {
            let synced = Synced::begin(pieces, asks, key, contexts, workshop, lent)?;
            Ok(Session::of(Arc::new(synced)))
        })
        .await
    }

    /// Keeps of a client's directories what layers did not take; for when the build of them has ended.
    pub async fn let_go(&self, key: String) {
        let contexts = self.ground.contexts.clone();
        let let_go = blocking(move || {
            synced::let_go(&key, &contexts);
            Ok(())
        });
        if let Err(failure) = let_go.await {
            tracing::warn!(error = %failure, "files of a context have more names than they should");
        }
    }

    /// Ends the builds of an id; tells whether there was one.
    pub fn cancel(&self, id: &str) -> bool {
        self.running.cancel(id)
    }

    /// Builds, and tells how it goes; whoever drops it ends the build.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn build(&self, mut request: BuildRequest, reporter: &Reporter) -> Result<Built> {
        self.collect_after_build();
        let hold = self.ground.engine.images.hold_for_build();
        let (started_ns, mut told) = (now_ns(), request.options.clone());
        if !request.remote.is_empty() {
            told.insert("context".to_owned(), request.remote.clone());
            self.take_remote(&mut request, reporter, &hold).await?;
        }
        let mut planning =
            Request::from_options(&request.options).map_err(|error| Failure::invalid(error.to_string()))?;
        planning.inputs = inputs_of(&request);
        planning.classic = request.classic;
        let source = self.load_dockerfile(&request, &mut planning, reporter).await?;
        let mut built = Built::of_nothing(hold.clone());
        built.reference.clone_from(&request.id);
        built.is_index = planning.multi_platform;
        built.attest = AttestOrder::read(&request.options)?;
        let cache_exports = request.cache_exports.iter().map(ExportOrder::read).collect::<Result<Vec<_>>>()?;
        if let Some(answer) = subrequest::without_plan(&planning.subrequest, &source)? {
            built.answer = Some(answer);
            return Ok(built);
        }
        if planning.subrequest.is_empty() {
            let orders: Vec<CacheOrder> = planning.cache_imports.iter().map(cache_order).collect();
            request.solve.imports =
                exchange::load(&orders, &request.cache_images, &self.ground, &request.solve, reporter).await;
        }
        let mut work = Work { builder: self, request: &request, planning: &planning, source: &source, reporter };
        let mut scans = match planning.subrequest.as_str() {
            "" => work.find_scanner(&built.attest).await?,
            _ => Scans::default(),
        };
        let mut graph = Graph::new();
        let (plans, warnings) = work.plan_all(&mut graph).await?;
        built.warnings = warnings;
        if !planning.subrequest.is_empty() {
            let outline = plans.first().map(|(_, plan)| &plan.outline);
            let resolved = plans.first().map_or("", |(_, plan)| plan.resolved.as_str());
            let (warnings, planning, source) = (&built.warnings, &planning, &source);
            let asked = subrequest::Planned { warnings, outline, resolved, planning, source };
            built.answer = Some(asked.answer());
            if planning.subrequest == subrequest::LINT {
                let text = ferry_dockerfile::check::render(&built.warnings, &planning.filename, source);
                built.checked = Some((built.warnings.len(), text));
            }
            return Ok(built);
        }
        reporter.tell(Event::Instructions(classic::instructions(&source, &planning.target, &graph)));
        for (platform, plan) in &plans {
            let platform = platform.clone().unwrap_or_else(|| plan.image.platform());
            scans.add_plan(&mut graph, plan, &platform)?;
        }
        let extras = plans.iter().flat_map(|(_, plan)| plan.scans.iter().filter_map(|(_, tree)| *tree));
        let trees = plans.iter().filter_map(|(_, plan)| plan.tree);
        let looked_at: Vec<Output> = trees.chain(extras).chain(scans.outputs().iter().copied()).collect();
        request.solve.session.announce(graph.local_sources(&looked_at)).await?;
        let solve = Solve::new(graph, self.ground.clone(), request.solve.clone(), reporter.clone(), hold.clone());
        let wanted: Vec<Output> = plans.iter().filter_map(|(_, plan)| plan.tree).collect();
        let with_excerpt = |failure| with_excerpt(failure, &planning.filename, &source);
        let mut trees = solve.all_present(&wanted).await.map_err(with_excerpt)?.into_iter();
        let mut story = Story {
            options: told,
            dockerfile: (planning.filename.clone(), source.clone()),
            started_ns,
            invocation: if request.id.is_empty() { new_id() } else { request.id.clone() },
            outputs: plans.iter().map(|(_, plan)| plan.tree).collect(),
            ..Story::default()
        };
        for (platform, plan) in plans {
            let is_own_scan = built.attest.sbom.as_ref().is_some_and(|sbom| sbom.generator.is_none());
            let extras = if is_own_scan { plan.scans } else { Vec::new() };
            story.scans.push(scanned(&solve, extras).await.map_err(with_excerpt)?);
            let tree = if plan.tree.is_some() { trees.next().unwrap_or_default() } else { Tree::default() };
            let layers = solve.layers(&tree).await?;
            let config = export::complete(plan.image, &layers, plan.base_image.as_ref(), plan.epoch);
            let of_base = plan.base_image.as_ref().map_or(0, |base| base.history.len());
            let platform = platform.unwrap_or_else(|| config.platform());
            built.unused_args = plan.unused_args;
            let (tree, epoch) = (Tree::Layers(layers), plan.epoch);
            built.targets.push(BuiltTarget { platform, tree, config, epoch, of_base });
        }
        let (steps, mounts) = solve.steps();
        (built.steps, built.cache_mounts) = (Arc::new(steps), Arc::new(mounts));
        scans.carry_out(&solve, &mut story).await.map_err(with_excerpt)?;
        solve.settle().await;
        story.graph = solve.graph().clone();
        story.pins = solve.pins();
        story.ended_ns = now_ns();
        built.story = Arc::new(story);
        // What came of the builder before BuildKit is a cache for whoever names it.
        built.has_inline_cache = request.classic || cache_exports.iter().any(ExportOrder::is_inline);
        if request.writes_image {
            let begun = reporter.internal("exporting to image");
            let exported = self.export_image(&mut built, &request.names, &request.form, &begun).await;
            begun.ended(exported)?;
        }
        for order in cache_exports.iter().filter(|order| !order.is_inline()) {
            let manifest = self.export_cache(&built, order, &request.solve, reporter).await?;
            built.cache_manifest = manifest.or(built.cache_manifest);
        }
        hold.keep();
        Ok(built)
    }

    /// Carries a graph out that somebody else planned.
    ///
    /// # Errors
    /// [`Failure`] of the first step that fails.
    pub(crate) async fn build_graph(
        &self,
        graph: Graph,
        output: Option<Output>,
        options: SolveOptions,
        reporter: &Reporter,
    ) -> Result<Built> {
        self.collect_after_build();
        let hold = self.ground.engine.images.hold_for_build();
        let started_ns = now_ns();
        let solve = Solve::new(graph, self.ground.clone(), options, reporter.clone(), hold.clone());
        let tree = match output {
            Some(output) => solve.all_present(&[output]).await?.into_iter().next().unwrap_or_default(),
            None => Tree::default(),
        };
        let layers = solve.stacked(solve.layers(&tree).await?).await?;
        solve.settle().await;
        let platform = output.and_then(|output| solve.graph().vertex(output.vertex).platform.clone());
        let platform = platform.unwrap_or_else(|| Platform::host().normalized());
        let mut built = Built::of_nothing(hold.clone());
        built.targets = vec![BuiltTarget::of_layers(layers, platform, None)];
        let (steps, mounts) = solve.steps();
        (built.steps, built.cache_mounts) = (Arc::new(steps), Arc::new(mounts));
        built.story = Arc::new(Story {
            started_ns,
            ended_ns: now_ns(),
            invocation: new_id(),
            outputs: vec![output],
            pins: solve.pins(),
            graph: solve.graph().clone(),
            ..Story::default()
        });
        hold.keep();
        Ok(built)
    }

    /// Gives the cache of what was built to elsewhere, and tells how that goes; returns the manifest that it became.
    pub(crate) async fn export_cache(
        &self,
        built: &Built,
        order: &ExportOrder,
        options: &SolveOptions,
        reporter: &Reporter,
    ) -> Result<Option<Descriptor>> {
        let begun = reporter.internal(order.title());
        let given = order.carry_out(built, &self.ground, options, &begun).await;
        begun.ended(given).or_else(|failure| if order.ignores_errors() { Ok(None) } else { Err(failure) })
    }

    /// Writes what was built to the store as an image, and names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn export_image(
        &self,
        built: &mut Built,
        names: &[Reference],
        form: &ImageForm,
        begun: &Begun,
    ) -> Result<()> {
        let attest = built.attest.clone();
        self.write_image(built, names, form, attest, begun).await?;
        let Some(target) = built.image.clone() else { return Ok(()) };
        let (images, new) = (self.ground.engine.images.clone(), names.to_vec());
        let origins = match built.reference.as_str() {
            "" => Origins::default(),
            reference => Origins::build(reference.to_owned(), now_ns()),
        };
        blocking(move || Ok(images.name_built(&target, &new, &origins)?)).await?;
        let started = now_ns();
        for name in names {
            begun.status(&format!("naming to {name}"), 0, 0, started, true);
        }
        built.names = names.to_vec();
        Ok(())
    }

    /// Writes what was built to the store as an image that nobody knows of; what was built holds it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn write_image(
        &self,
        built: &mut Built,
        names: &[Reference],
        form: &ImageForm,
        attest: AttestOrder,
        begun: &Begun,
    ) -> Result<()> {
        let images = self.ground.engine.images.clone();
        let started = now_ns();
        let (writing, names, form) = (built.clone(), names.to_vec(), form.clone());
        let written = blocking(move || image_form::write(&writing, &names, &form, &attest, &images)).await?;
        begun.status("exporting layers", 0, 0, started, true);
        for (what, digest) in &written.parts {
            begun.status(&format!("exporting {what} {digest}"), 0, 0, started, true);
        }
        built.image = Some(written.target);
        built.config_digest = written.config;
        built.has_index = written.has_index;
        Ok(())
    }
}

/// The platforms and configurations of what was built before.
fn inputs_of(request: &BuildRequest) -> BTreeMap<String, Vec<(Platform, ImageConfig)>> {
    let all = request.solve.inputs.iter().map(|(name, targets)| {
        let targets = targets.iter().map(|target| (target.platform.clone(), target.config.clone()));
        (name.clone(), targets.collect())
    });
    all.collect()
}

/// What a scan looks at besides the image.
async fn scanned(solve: &Arc<Solve>, scans: Vec<(String, Option<Output>)>) -> Result<Vec<(String, Layers)>> {
    let mut all = Vec::new();
    for (name, output) in scans {
        let layers = match output {
            Some(output) => match solve.all_present(&[output]).await?.into_iter().next() {
                Some(tree) => solve.stacked(solve.layers(&tree).await?).await?,
                None => Layers::default(),
            },
            None => Layers::default(),
        };
        all.push((name, layers));
    }
    Ok(all)
}

fn cache_order((kind, attributes): &(String, BTreeMap<String, String>)) -> CacheOrder {
    CacheOrder { kind: kind.clone(), attributes: attributes.clone() }
}

fn local(name: &str, follow_paths: Vec<String>) -> LocalSource {
    LocalSource {
        name: name.to_owned(),
        include_patterns: follow_paths.clone(),
        exclude_patterns: Vec::new(),
        follow_paths,
        differ: LocalDiffer::Metadata,
        shared_key_hint: name.to_owned(),
    }
}

fn plan_failed(error: plan::PlanError) -> Failure {
    Failure::invalid(error.to_string())
}

/// Shows the lines of the Dockerfile that failed, and words the failure as a solve's.
fn with_excerpt(failure: Failure, name: &str, source: &str) -> Failure {
    let lines: Vec<ferry_dockerfile::Lines> = failure
        .location
        .iter()
        .map(|range| {
            let number = |line: usize| u32::try_from(line).unwrap_or(u32::MAX);
            ferry_dockerfile::Lines::new(number(range.first), number(range.last))
        })
        .collect();
    let excerpt = ferry_dockerfile::source::excerpt(name, source, &lines).unwrap_or_default();
    Failure { excerpt: excerpt.into(), dockerfile: Some(dockerfile_text(name, source)), ..failure }
}

fn dockerfile_text(name: &str, text: &str) -> Arc<DockerfileText> {
    Arc::new(DockerfileText { name: name.to_owned(), text: text.to_owned() })
}

struct FinishOnDrop(Reporter);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Bytes that come in pieces.
struct Pieces {
    pieces: std::sync::mpsc::Receiver<bytes::Bytes>,
    left: bytes::Bytes,
}

impl std::io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.left = piece,
                Err(_) => return Ok(0),
            }
        }
        let taken = self.left.split_to(self.left.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
