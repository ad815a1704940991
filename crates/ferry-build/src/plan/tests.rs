//! The language's table: what BuildKit answers to every row of it, replayed.
//!
//! `tests/dockerfile` holds the cases, the images that they name, and the answers that BuildKit's own frontend gave, recorded
//! outside of the repository.

mod canonical;

use std::collections::BTreeMap;

use ferry_dockerfile::check::Warning;
use ferry_spec::digest::Digest;
use ferry_spec::image::ImageConfig;
use serde::Deserialize;
use serde_json::Value;

use super::*;

/// Cases whose answers differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("copy trailing dot", "a destination `/x/.` is written `/x/`"),
    ("run empty list", "the line is shown"),
    ("onbuild from stage", "BuildKit counts the base image of a stage twice when a trigger needs it"),
    ("directive check error with two rules", "BuildKit names rules in no order"),
    ("same run in two stages", "an operation that two stages have keeps its first name"),
    ("frontend-option/attest:sbom", "the scanner is not an image that the plan looks for"),
    ("frontend-option/requestid", "an unknown request is refused by whoever takes it"),
];

struct Case {
    name: String,
    options: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    source: String,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Answer {
    error: String,
    excerpts: String,
    warnings: Vec<String>,
    text: String,
    images: BTreeMap<String, Value>,
    vertices: Vec<Value>,
    forward: String,
}

#[derive(Deserialize)]
struct KnownImage {
    digest: Digest,
    config: Value,
}

fn read(name: &str) -> String {
    let path = format!("{}/tests/dockerfile/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn cases(text: &str) -> Vec<Case> {
    let text = format!("\n{text}");
    text.split("\n==== ").skip(1).map(case).collect()
}

fn case(block: &str) -> Case {
    let (name, mut rest) = block.split_once('\n').unwrap_or((block, ""));
    let mut case =
        Case { name: name.to_owned(), options: BTreeMap::new(), files: BTreeMap::new(), source: String::new() };
    while let Some(option) = rest.strip_prefix("---- ") {
        let (line, after) = option.split_once('\n').unwrap_or((option, ""));
        rest = after;
        let (key, value) = line.split_once('=').unwrap();
        let value: String = serde_json::from_str(&format!("\"{value}\"")).unwrap();
        match key.strip_prefix("file ") {
            Some(file) => case.files.insert(file.to_owned(), value),
            None => case.options.insert(key.to_owned(), value),
        };
    }
    case.source = case.options.remove("source-text").unwrap_or_else(|| rest.to_owned());
    if case.options.remove("no-cmdline").is_none() {
        case.options.insert("cmdline".to_owned(), "docker/dockerfile:1".to_owned());
    }
    case
}

/// Does what a builder does around planning, with the files and images of the table.
struct Builder<'a> {
    images: &'a BTreeMap<String, KnownImage>,
    case: &'a Case,
}

impl Builder<'_> {
    fn answer(&self) -> Answer {
        let mut answer = Answer::default();
        if let Some((image, _)) = Request::frontend(&self.case.options, &self.case.source) {
            answer.forward = image;
            return answer;
        }
        let mut request = match Request::from_options(&self.case.options) {
            Ok(request) => request,
            Err(error) => return Answer { error: error.to_string(), ..answer },
        };
        request.build_platforms = vec![Platform::new("linux", "amd64", None)];
        let source = self.read_source(&mut request);
        if let Err(error) = self.plan_all(&source, &request, &mut answer) {
            answer.excerpts = error.excerpts(&request.filename, &source);
            answer.error = error.to_string();
            answer.vertices.clear();
        }
        answer.warnings.sort();
        answer
    }

    fn read_source(&self, request: &mut Request) -> String {
        if let MainContext::Local(_) = request.context {
            let own = self.case.files.get(&format!("{}.dockerignore", request.filename));
            let ignored = own.or_else(|| self.case.files.get(".dockerignore"));
            request.ignore_patterns = ignored.map(|text| ferry_dockerfile::ignore::read(text)).unwrap_or_default();
        }
        if let MainContext::Http { archive, .. } = &mut request.context {
            let content = &self.case.files["context"];
            *archive = content.starts_with("BZh");
            if !*archive {
                "context".clone_into(&mut request.filename);
                return content.clone();
            }
        }
        self.case.source.clone()
    }

    fn plan_all(&self, source: &str, request: &Request, answer: &mut Answer) -> Result<(), PlanError> {
        match request.subrequest.as_str() {
            "frontend.targets" => {
                answer.text = render_targets(&targets(source)?);
                return Ok(());
            }
            "frontend.lint" => {
                let mut found = checks(source, request)?;
                let _ = self.plan_one(source, request, None, &mut Graph::new(), &mut found);
                answer.text = ferry_dockerfile::check::render(found.warnings(), &request.filename, source);
                return Ok(());
            }
            _ => {}
        }
        let mut found = checks(source, request)?;
        let platforms: Vec<Option<&Platform>> = match &request.platforms[..] {
            [] => vec![None],
            platforms => platforms.iter().map(Some).collect(),
        };
        for (number, platform) in platforms.into_iter().enumerate() {
            let mut silent = Checks::default();
            let mut graph = Graph::new();
            let checks = if number == 0 { &mut found } else { &mut silent };
            let result = self.plan_one(source, request, platform, &mut graph, checks);
            answer.warnings = found.warnings().iter().map(Warning::short).collect();
            let plan = result?;
            if request.subrequest == "frontend.outline" {
                answer.text = plan.outline.render();
                answer.warnings.clear();
                return Ok(());
            }
            let key = if request.multi_platform { platform.unwrap().to_string() } else { String::new() };
            answer.images.insert(key, serde_json::to_value(&plan.image).unwrap());
            let trees: Vec<_> = plan.tree.into_iter().collect();
            answer.vertices.extend(canonical::vertices(&graph, &trees));
        }
        answer.vertices.sort_by_key(Value::to_string);
        Ok(())
    }

    fn plan_one(
        &self,
        source: &str,
        request: &Request,
        platform: Option<&Platform>,
        graph: &mut Graph,
        checks: &mut Checks,
    ) -> Result<Plan, PlanError> {
        let mut observed = Observed::new();
        for _ in 0..10 {
            let input = Input { source, request, platform, observed: &observed };
            let needs = match plan(input, graph, checks)? {
                Planned::Ready(plan) => return Ok(*plan),
                Planned::Needs(needs) => needs,
            };
            for need in needs {
                match need {
                    Need::Image(need) => {
                        let answer = self.image(&need);
                        observed.add_image(need, answer);
                    }
                    Need::IgnoreFile(name) => {
                        let text = self.case.files.get(&format!("{name}/.dockerignore"));
                        observed.add_ignore_file(name, text.cloned().unwrap_or_default());
                    }
                    Need::Time { source, .. } => observed.add_time(*source, Ok(Some(0))),
                }
            }
        }
        panic!("{}: planning needs more and more", self.case.name);
    }

    fn image(&self, need: &ImageNeed) -> ImageAnswer {
        let name = need.reference.split('@').next().unwrap();
        let Some(image) = self.images.get(name) else {
            let name = &need.reference;
            return Err(format!("failed to resolve source metadata for {name}: {name}: not found"));
        };
        Ok(ResolvedImage {
            reference: need.reference.clone(),
            digest: Some(image.digest.clone()),
            config: serde_json::from_value(image.config.clone()).unwrap(),
        })
    }
}

/// Brings an image's configuration into the form that ours has.
fn normal_image(value: &Value) -> Value {
    let config: ImageConfig = serde_json::from_value(value.clone()).unwrap();
    serde_json::to_value(config).unwrap()
}

/// Compares an answer with the recorded one; returns what differs.
fn differences(name: &str, mut recorded: Answer, got: Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, recorded: String, got: String| {
        if recorded != got {
            found.push(format!("{name}: {what}\n  buildkit: {recorded}\n  ferry:    {got}"));
        }
    };
    if !recorded.forward.is_empty() || !got.forward.is_empty() {
        compare("frontend", recorded.forward, got.forward);
        return found;
    }
    recorded.warnings.sort();
    recorded.vertices.sort_by_key(Value::to_string);
    compare("error", recorded.error, got.error);
    compare("lines", recorded.excerpts, got.excerpts);
    compare("warnings", format!("{:?}", recorded.warnings), format!("{:?}", got.warnings));
    compare("text", recorded.text, got.text);
    let keys = |images: &BTreeMap<String, Value>| format!("{:?}", images.keys().collect::<Vec<_>>());
    if !recorded.images.is_empty() || !got.images.is_empty() {
        compare("platforms", keys(&recorded.images), keys(&got.images));
    }
    for (key, image) in &recorded.images {
        if let Some(got) = got.images.get(key) {
            compare("image", normal_image(image).to_string(), normal_image(got).to_string());
        }
    }
    let names = |vertices: &[Value]| {
        let mut names: Vec<String> = vertices.iter().map(|vertex| vertex["name"].to_string()).collect();
        names.sort();
        names.join("\n            ")
    };
    compare("names", names(&recorded.vertices), names(&got.vertices));
    for (recorded, got) in recorded.vertices.iter().zip(&got.vertices) {
        compare("operation", recorded.to_string(), got.to_string());
    }
    found
}

fn replay(name: &str) -> Vec<String> {
    let images: BTreeMap<String, KnownImage> = serde_json::from_str(&read("images.json")).unwrap();
    let mut recorded: BTreeMap<String, Answer> = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
    let mut found = Vec::new();
    for case in cases(&read(&format!("{name}.cases"))) {
        let recorded = recorded.remove(&case.name).unwrap_or_else(|| panic!("{}: no answer recorded", case.name));
        if DIFFERENT.iter().any(|(name, _)| *name == case.name) {
            continue;
        }
        let got = Builder { images: &images, case: &case }.answer();
        found.extend(differences(&case.name, recorded, got));
    }
    assert!(recorded.is_empty(), "answers without cases: {:?}", recorded.keys());
    found
}

#[test]
fn every_row_of_the_table_is_answered_as_buildkit_answers_it() {
    let found = replay("surface");
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_corners_of_the_language_are_as_in_buildkit() {
    let found = replay("corners");
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_row_of_the_table_has_its_case() {
    let rows = read("rows.tsv");
    let mut missing: Vec<String> = rows
        .lines()
        .map(|row| {
            let cells: Vec<&str> = row.split('\t').collect();
            format!("{}/{}", cells[0], cells[1])
        })
        .collect();
    assert_eq!(missing.len(), 282);
    let cases = cases(&read("surface.cases"));
    missing.retain(|row| !cases.iter().any(|case| case.name == *row));
    assert_eq!(missing, Vec::<String>::new());
}
