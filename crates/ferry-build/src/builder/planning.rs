//! Planning a build: what the plan needs to know is found out until it is whole.

use std::os::fd::AsFd;

use ferry_api::context::shown_directory;
use ferry_dockerfile::check::{Checks, Warning as Check};
use ferry_spec::digest::Digest;
use ferry_spec::platform::Platform;
use futures_util::future::try_join_all;

use super::{BuildRequest, Builder, DOCKERFILE_LIMIT, dockerfile_text, local, plan_failed};
use crate::failure::{Failure, Result, blocking};
use crate::files;
use crate::graph::{Graph, LineRange};
use crate::plan::{self, Input, Need, Observed, Plan, Planned, Request, ResolvedImage};
use crate::progress::{Event, Reporter, Warning};
use crate::solve::{LayoutImage, resolve_image};

/// One build's planning.
pub(super) struct Work<'a> {
    pub(super) builder: &'a Builder,
    pub(super) request: &'a BuildRequest,
    pub(super) planning: &'a Request,
    pub(super) source: &'a str,
    pub(super) reporter: &'a Reporter,
}

impl Work<'_> {
    /// Plans every platform onto one graph.
    pub(super) async fn plan_all(&mut self, graph: &mut Graph) -> Result<(Vec<(Option<Platform>, Plan)>, Vec<Check>)> {
        let mut observed = Observed::new();
        let platforms: Vec<Option<Platform>> = match self.planning.platforms.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let mut checks =
            plan::checks(self.source, self.planning).map_err(|error| Failure::invalid(error.to_string()))?;
        let mut plans = Vec::new();
        for platform in platforms {
            let plan = self.plan_one(platform.as_ref(), &mut observed, graph, &mut checks).await?;
            plans.push((platform, plan));
        }
        let warnings = checks.into_warnings();
        self.tell(&warnings);
        Ok((plans, warnings))
    }

    async fn plan_one(
        &self,
        platform: Option<&Platform>,
        observed: &mut Observed,
        graph: &mut Graph,
        checks: &mut Checks,
    ) -> Result<Plan> {
        loop {
            let input = Input { source: self.source, request: self.planning, platform, observed };
            let planned = plan::plan(input, graph, checks).map_err(|error| self.plan_failure(error))?;
            let needs = match planned {
                Planned::Ready(plan) => return Ok(*plan),
                Planned::Needs(needs) => needs,
            };
            for answer in try_join_all(needs.into_iter().map(|need| self.answer(need))).await? {
                answer(observed);
            }
        }
    }

    /// Words a failure of planning, with the lines that it speaks of.
    fn plan_failure(&self, error: plan::PlanError) -> Failure {
        let number = |line: u32| usize::try_from(line).unwrap_or_default();
        let range =
            |lines: &ferry_dockerfile::Lines| LineRange { first: number(lines.first), last: number(lines.last) };
        let location = error.places.iter().map(range).collect();
        let excerpt = error.excerpts(&self.planning.filename, self.source).into();
        let dockerfile = Some(dockerfile_text(&self.planning.filename, self.source));
        Failure { excerpt, location, dockerfile, ..plan_failed(error) }
    }

    /// Finds out what a plan needs to know.
    async fn answer(&self, need: Need) -> Result<Box<dyn FnOnce(&mut Observed) + Send>> {
        match need {
            Need::Image(need) => {
                let begun = self.reporter.internal(need.label.clone());
                if let Some(layout) = &need.layout {
                    let (session, platform) = (&self.request.solve.session, need.platform.as_ref());
                    let found = LayoutImage::find(session, &layout.store, &need.reference, platform).await;
                    let image = begun.ended(found)?;
                    let (reference, digest, config) = (need.reference.clone(), Some(image.digest), image.config);
                    return Ok(Box::new(move |observed| {
                        observed.add_image(need, Ok(ResolvedImage { reference, digest, config }));
                    }));
                }
                let engine = &self.builder.ground.engine;
                let platform = need.platform.as_ref();
                let allowed = self.request.solve.policy.image(&need.reference, need.pull);
                let (reference, pull) = match allowed {
                    Ok(allowed) => allowed,
                    Err(failure) => return begun.ended(Err(failure)),
                };
                let found = resolve_image(engine, &self.request.solve, &reference, platform, pull, Some(&begun)).await;
                let answer = match begun.ended(found) {
                    Ok(found) => Ok(ResolvedImage { reference, digest: Some(found.id), config: found.config }),
                    Err(failure) => Err(failure.message),
                };
                Ok(Box::new(move |observed| observed.add_image(need, answer)))
            }
            Need::IgnoreFile(name) => {
                let begun = self.reporter.internal(format!("[context {}] load .dockerignore", shown_directory(&name)));
                let source = local(&name, vec![".dockerignore".to_owned()]);
                let folder = self.request.solve.session.files(&source, &begun).await?;
                let text =
                    blocking(move || files::read_file(folder.as_ref().as_fd(), ".dockerignore", DOCKERFILE_LIMIT))
                        .await?;
                begun.done();
                let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
                Ok(Box::new(move |observed| observed.add_ignore_file(name, text)))
            }
            Need::Time { source, .. } => {
                let text = "not implemented: the time of a remote source".to_owned();
                Ok(Box::new(move |observed| observed.add_time(*source, Err(text))))
            }
        }
    }

    fn tell(&self, warnings: &[Check]) {
        let vertex = Digest::sha256(self.source.as_bytes());
        for warning in warnings {
            self.reporter.tell(Event::Warning(Warning {
                vertex: vertex.clone(),
                short: warning.short(),
                detail: vec![warning.rule.description.to_owned()],
                url: warning.rule.url.to_owned(),
                file: self.planning.filename.clone(),
                lines: vec![(warning.lines.first, warning.lines.last)],
                source: self.source.as_bytes().to_vec(),
            }));
        }
    }
}
