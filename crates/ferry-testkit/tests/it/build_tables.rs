//! What BuildKit made of whole builds, replayed: every row of the Dockerfile's language, and Dockerfiles in the style of popular images.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ferry_testkit::builds::ferry::Ferry;
use ferry_testkit::builds::{Answer, Case, cases};
use ferry_testkit::differential::pool;
use ferry_testkit::programs;

use crate::buildkit::client::{Lent, Order, build};

/// Cases whose answers differ, and why.
const DIFFERENT: &[(&str, &str)] = &[("frontend-option/requestid", "BuildKit's client says it twice")];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Builds a case as clients of BuildKit's protocol do: for options that `ferry build` has no flag for.
fn by_protocol(ferry: &Ferry, case: &Case) -> Answer {
    let folder = ferry.place.folder(&case.name).unwrap();
    case.lay_out(&folder).unwrap();
    let folders = ["context", "dockerfile", "other"].map(|name| (name.to_owned(), folder.clone()));
    let lent = Arc::new(Lent { folders: folders.into(), ..Lent::default() });
    let id = folder.file_name().unwrap().to_str().unwrap().to_lowercase();
    let mut options: Vec<(&str, &str)> = vec![("cmdline", "docker/dockerfile:1")];
    options.extend(case.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let attrs = [("name", id.as_str())];
    let order = Order { reference: &id, options: &options, exporters: vec![("moby", &attrs)] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(build(&ferry.daemon.socket(), &lent, order));
    match told.outcome {
        Ok(_) => {
            let mut warnings: Vec<String> = told
                .status
                .warnings
                .iter()
                .map(|warning| String::from_utf8_lossy(&warning.short).into_owned())
                .collect();
            warnings.sort();
            Answer { warnings, images: ferry.image(&id).unwrap(), ..Answer::default() }
        }
        Err(status) => Answer { error: status.message, ..Answer::default() },
    }
}

fn differences(name: &str, recorded: &Answer, got: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, recorded: String, got: String| {
        if recorded != got {
            found.push(format!("{name}: {what}\n  buildkit: {recorded}\n  ferry:    {got}"));
        }
    };
    compare("error", recorded.error.clone(), got.error.clone());
    compare("text", recorded.text.clone(), got.text.clone());
    compare("warnings", format!("{:#?}", recorded.warnings), format!("{:#?}", got.warnings));
    compare("steps that ran again", format!("{:#?}", recorded.again), format!("{:#?}", got.again));
    let platforms = |answer: &Answer| answer.images.keys().cloned().collect::<Vec<_>>().join(" ");
    compare("platforms", platforms(recorded), platforms(got));
    for (platform, image) in &recorded.images {
        let Some(ours) = got.images.get(platform) else { continue };
        compare("configuration", image.config.to_string(), ours.config.to_string());
        compare("statements", format!("{:#?}", image.statements), format!("{:#?}", ours.statements));
        let lines = |image: &ferry_testkit::builds::answer::Image, other: &ferry_testkit::builds::answer::Image| {
            let only: Vec<String> = image.files.iter().filter(|line| !other.files.contains(line)).cloned().collect();
            only.join("\n            ")
        };
        compare("files", lines(image, ours), lines(ours, image));
    }
    found
}

/// Builds the cases of a file and compares; returns what differs.
fn replay(name: &str) -> Vec<String> {
    let all = cases::parse(&read(&format!("{name}.cases"))).unwrap();
    let recorded: BTreeMap<String, Answer> = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
    let wanted = std::env::var("FERRY_TEST_CASES").unwrap_or_default();
    let asked: Vec<&Case> = all.iter().filter(|case| case.name.contains(&wanted)).collect();
    let ferry = Ferry::start().unwrap();
    let done = pool::run(&[&ferry; 4], &asked, |ferry, case| {
        let mut answer = match ferry.build(case).unwrap_or_else(|error| panic!("{}: {error:#}", case.name)) {
            Some(answer) => answer,
            None => by_protocol(ferry, case),
        };
        // What the client says over what the builder says.
        if let Some((head, text)) = answer.text.split_once('\n').filter(|(head, _)| head.starts_with("Check complete"))
        {
            assert!(head.ends_with('!'));
            answer.text = text.to_owned();
        }
        let recorded = recorded.get(&case.name).unwrap_or_else(|| panic!("{}: no answer recorded", case.name));
        let found = differences(&case.name, recorded, &answer);
        match DIFFERENT.iter().find(|(name, _)| *name == case.name) {
            Some(_) if found.is_empty() => vec![format!("{}: no longer differs", case.name)],
            Some(_) => Vec::new(),
            None => found,
        }
    });
    done.into_iter().flat_map(|done| done.value).collect()
}

#[test]
fn every_row_of_the_language_builds_what_buildkit_builds() {
    if !programs::need_root() {
        return;
    }
    let found = replay("surface");
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

#[test]
fn images_in_the_style_of_popular_ones_are_those_of_buildkit() {
    if !programs::need_root() {
        return;
    }
    assert!(cases::parse(&read("corpus.cases")).unwrap().len() >= 60);
    let found = replay("corpus");
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_row_of_the_language_has_its_build() {
    let rows = include_str!("../../../ferry-build/tests/dockerfile/rows.tsv");
    let cases = cases::parse(&read("surface.cases")).unwrap();
    let mut missing: Vec<String> =
        rows.lines().map(|row| row.split('\t').take(2).collect::<Vec<_>>().join("/")).collect();
    missing.retain(|row| !cases.iter().any(|case| case.name == *row));
    assert_eq!(missing, Vec::<String>::new());
}
