//! From a Dockerfile and the options of a build to a graph of operations and the image's configuration.
//!
//! Planning is pure. What it must know of the world it asks for: [`plan`] answers [`Planned::Needs`] until [`Observed`] holds every base
//! image's configuration and every ignore file of a named context; each call starts afresh, which costs microseconds. Names of
//! vertices, entries of the history and texts of errors are BuildKit's.

mod args;
mod commands;
mod commit;
mod context;
mod error;
mod lint;
mod observed;
mod outline;
mod request;
mod resolve;
mod resolved;
mod stages;

pub use context::{git_source, http_source};
pub use error::{PlanError, PlanErrorCause};
pub use observed::{ImageAnswer, ImageNeed, LayoutNeed, Need, Observed, ResolvedImage};
pub use outline::{Outline, OutlineArg, OutlineSecret, Target, render_targets, targets};
pub use request::{MainContext, NoCache, Request, RequestError, Resources};
pub(crate) use resolve::empty_image;

use ferry_dockerfile::Dockerfile;
use ferry_dockerfile::check::Checks;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;

use crate::graph::{Graph, Output};

/// What planning comes to.
#[derive(Debug)]
pub enum Planned {
    /// More must be known of the world.
    Needs(Vec<Need>),
    /// A plan.
    Ready(Box<Plan>),
}

/// A build, planned.
#[derive(Debug)]
pub struct Plan {
    /// The image's tree; `None` is an empty one.
    pub tree: Option<Output>,
    /// Its configuration; what has no time yet gets one when it is made.
    pub image: ImageConfig,
    /// The configuration of the image it is based on.
    pub base_image: Option<ImageConfig>,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    pub epoch: Option<i64>,
    /// What the target can be given.
    pub outline: Outline,
    /// Trees that a scan for packages looks at beyond the image's: name and tree.
    pub scans: Vec<(String, Option<Output>)>,
    /// A scan is not looked for in the cache, as the stages are not that it looks at.
    pub scans_anew: bool,
    /// Names of `--build-arg` that no ARG takes.
    pub unused_args: Vec<String>,
    /// The stages that the target needs, as a Dockerfile with everything resolved.
    pub resolved: String,
}

/// What to plan.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The Dockerfile.
    pub source: &'a str,
    /// The options.
    pub request: &'a Request,
    /// For which platform; `None` is the builder's own, unless the base image says otherwise.
    pub platform: Option<&'a Platform>,
    /// What is known of the world.
    pub observed: &'a Observed,
}

/// Returns the checks that a build asks for: by its options, or else by the file.
///
/// # Errors
/// [`PlanError`] when the file's are malformed.
pub fn checks(source: &str, request: &Request) -> Result<Checks, PlanError> {
    match &request.check {
        Some(options) => Ok(Checks::new(options.clone())),
        None => Checks::of_file(source).map_err(PlanError::new),
    }
}

/// Plans a build for one platform: adds its operations to the graph, and warnings to `checks`.
///
/// Nothing is added to either before everything is known that must be. Of a build for several platforms the checks of the first are
/// enough: they are the same for all.
///
/// # Errors
/// [`PlanError`] with BuildKit's text and the lines to show.
pub fn plan(input: Input<'_>, graph: &mut Graph, checks: &mut Checks) -> Result<Planned, PlanError> {
    let mut found = checks.clone();
    let planned = plan_with(input, graph, &mut found);
    if !matches!(planned, Ok(Planned::Needs(_))) {
        *checks = found;
    }
    planned
}

fn plan_with(input: Input<'_>, graph: &mut Graph, checks: &mut Checks) -> Result<Planned, PlanError> {
    let file = Dockerfile::parse(input.source, checks)?;
    let mut stages = match stages::prepare(input, &file, checks)? {
        stages::Prepared::Needs(needs) => return Ok(Planned::Needs(needs)),
        stages::Prepared::Ready(stages) => stages,
    };
    // Which files of a context are used is known only at the end, but its vertex comes first: so everything is done twice.
    let mut rehearsal = stages.clone();
    if commands::run_all(&mut rehearsal, &mut Graph::new(), &mut checks.clone()).is_ok() {
        stages.take_paths(&rehearsal);
    }
    commands::run_all(&mut stages, graph, checks)?;
    if let Some(violation) = checks.violation() {
        return Err(PlanError::new(violation));
    }
    Ok(Planned::Ready(Box::new(commit::finish(&stages))))
}

#[cfg(test)]
mod tests;
