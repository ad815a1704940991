//! The outcome of a plan.

use super::stages::Stages;
use super::{Plan, args, outline, resolved};

/// Gathers the outcome: the target's tree and configuration, with the labels and the platform that were asked for.
pub(super) fn finish(stages: &Stages<'_>) -> Plan {
    let outline = outline::outline(stages);
    let unused_args = unused_args(stages);
    let (scans, scans_anew) = scans(stages);
    let target = &stages.list[stages.target];
    let mut image = target.image.clone();
    for (name, value) in &stages.input.request.labels {
        image.config.labels.insert(name.clone(), value.clone());
    }
    if !stages.platforms.implicit {
        let platform = &stages.platforms.target;
        let is_same = platform.os == image.os && platform.architecture == image.architecture;
        image.os.clone_from(&platform.os);
        image.architecture.clone_from(&platform.architecture);
        if platform.variant.is_some() || !is_same {
            image.variant.clone_from(&platform.variant);
        }
        if platform.os_version.is_some() || !is_same {
            image.os_version.clone_from(&platform.os_version);
        }
        if !platform.os_features.is_empty() {
            image.os_features.clone_from(&platform.os_features);
        }
    }
    let platform = image.platform().normalized();
    image.os = platform.os;
    image.architecture = platform.architecture;
    image.variant = platform.variant;
    // An empty list is as good as none in what is written.
    image.config.cmd = image.config.cmd.filter(|words| !words.is_empty());
    image.config.entrypoint = image.config.entrypoint.filter(|words| !words.is_empty());
    image.config.shell = image.config.shell.filter(|words| !words.is_empty());
    Plan {
        tree: target.tree.output,
        base_image: target.base_image.clone(),
        epoch: stages.epoch,
        outline,
        scans,
        scans_anew,
        unused_args,
        resolved: resolved::render(stages),
        image,
    }
}

/// Returns the names of build arguments that neither an ARG nor the builder knows.
fn unused_args(stages: &Stages<'_>) -> Vec<String> {
    let is_declared = |name: &String| {
        stages.arguments.value(name).is_some()
            || args::needs_no_declaration(name)
            || stages.global_facts.contains_key(name)
            || stages.list.iter().any(|stage| stage.build_args.iter().any(|(known, _)| known == name))
    };
    stages.build_args.keys().filter(|name| !is_declared(name)).cloned().collect()
}

/// What is scanned besides the target, and whether the cache of any of it is left aside.
fn scans(stages: &Stages<'_>) -> (Vec<(String, Option<crate::graph::Output>)>, bool) {
    let mut scans = Vec::new();
    let mut anew = stages.list[stages.target].ignore_cache;
    if stages.list[stages.target].scans_context {
        scans.push(("context".to_owned(), stages.context_tree));
    }
    for &index in stages.reachable.iter().filter(|index| **index != stages.target) {
        let stage = &stages.list[index];
        if stage.scans_stage {
            scans.push((stage.name.clone(), stage.tree.output));
            anew |= stage.ignore_cache;
        }
    }
    (scans, anew)
}
