//! Scanning what was built by a program out of an image, as BuildKit's protocol of scanners has it.

use std::sync::Arc;

use ferry_spec::platform::Platform;

use super::planning::Work;
use super::{Builder, Built};
use crate::attest::{AttestOrder, Predicate, Scanned, Scanner, Story, unbundle};
use crate::failure::{Failure, Result, blocking};
use crate::graph::{Graph, ImagePullMode, Op, Output, Source, VertexMeta};
use crate::plan::Plan;
use crate::progress::Reporter;
use crate::solve::{Solve, SolveOptions, resolve_image};

/// What scanners are to look at, for one target after the other, and where they leave what they find.
#[derive(Default)]
pub(super) struct Scans {
    scanner: Option<Scanner>,
    outputs: Vec<Output>,
}

impl Work<'_> {
    /// Finds the scanner that is asked for, if any.
    pub(super) async fn find_scanner(&self, order: &AttestOrder) -> Result<Scans> {
        let platform = self.planning.build_platforms.first().cloned();
        let platform = platform.unwrap_or_else(|| Platform::host().normalized());
        self.builder.find_scanner(order, platform, self.planning.pull, &self.request.solve, self.reporter).await
    }
}

impl Builder {
    async fn find_scanner(
        &self,
        order: &AttestOrder,
        platform: Platform,
        pull: ImagePullMode,
        options: &SolveOptions,
        reporter: &Reporter,
    ) -> Result<Scans> {
        let Some(sbom) = &order.sbom else { return Ok(Scans::default()) };
        let Some(name) = sbom.generator.clone() else { return Ok(Scans::default()) };
        let reference = name.to_string();
        let begun = reporter.internal(format!("resolve image config for docker-image://{reference}"));
        let finding = async {
            let (reference, pull) = options.policy.image(&reference, pull)?;
            resolve_image(&self.ground.engine, options, &reference, Some(&platform), pull, Some(&begun)).await
        };
        let found = finding.await.map_err(|failure| {
            // Those who look for base images name it first.
            let message = failure.message.strip_prefix(&format!("{reference}: ")).unwrap_or(&failure.message);
            Failure { message: message.to_owned(), ..failure }
        });
        let found = begun.ended(found)?;
        let (digest, config) = (found.id, found.config);
        let scanner = Scanner { name, digest, config, platform, parameters: sbom.parameters.clone() };
        scanner.command()?;
        Ok(Scans { scanner: Some(scanner), outputs: Vec::new() })
    }

    /// Scans what was built of a definition, if a client asks for a scanner.
    pub(crate) async fn scan_built(
        &self,
        built: &mut Built,
        options: &SolveOptions,
        reporter: &Reporter,
    ) -> Result<()> {
        let platform = Platform::host().normalized();
        let mut scans = self.find_scanner(&built.attest, platform, ImagePullMode::Prefer, options, reporter).await?;
        if scans.scanner.is_none() {
            return Ok(());
        }
        let mut graph = Graph::new();
        let mut inputs = std::collections::HashMap::new();
        for (at, target) in built.targets.iter().enumerate() {
            let name = format!("target-{at}");
            inputs.insert(name.clone(), vec![target.clone()]);
            let source = Op::Source(Source::Input(name));
            let core = graph.add(source, Vec::new(), None, VertexMeta::default())?;
            scans.add(&mut graph, Some(core.into()), &[], &target.platform, false)?;
        }
        let options = SolveOptions { inputs: Arc::new(inputs), ..options.clone() };
        let hold = built.hold.as_ref().clone();
        let solve = Solve::new(graph, self.ground.clone(), options, reporter.clone(), hold);
        let mut story = built.story.as_ref().clone();
        scans.carry_out(&solve, &mut story).await?;
        built.story = Arc::new(story);
        Ok(())
    }
}

impl Scans {
    /// Adds the scan of a target to the graph that it is built in.
    pub(super) fn add_plan(&mut self, graph: &mut Graph, plan: &Plan, platform: &Platform) -> Result<()> {
        self.add(graph, plan.tree, &plan.scans, platform, plan.scans_anew)
    }

    fn add(
        &mut self,
        graph: &mut Graph,
        core: Option<Output>,
        extras: &[(String, Option<Output>)],
        platform: &Platform,
        anew: bool,
    ) -> Result<()> {
        let Some(scanner) = &self.scanner else { return Ok(()) };
        self.outputs.push(scanner.scan(graph, &Scanned { core, extras, platform, anew })?);
        Ok(())
    }

    /// What must be carried out for the scans.
    pub(super) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Carries the scans out, and notes what they found.
    pub(super) async fn carry_out(self, solve: &Arc<Solve>, story: &mut Story) -> Result<()> {
        let Some(scanner) = self.scanner else { return Ok(()) };
        let found = solve.all_present(&self.outputs).await?;
        let workshop = solve.workshop();
        let read = move || found.iter().map(|tree| unbundle(tree, &workshop)).collect::<Result<Vec<Vec<Predicate>>>>();
        story.scanned = blocking(read).await?;
        story.scanner = Some((scanner.pinned(), scanner.platform));
        Ok(())
    }
}
