//! The table of command lines, answered by ferry and compared with what real Docker said.
//!
//! Set `FERRY_TEST_CASES` to `AREA`, `AREA/CASE` or a part of a case's name to run only those, and
//! `FERRY_TEST_TIMES` to see which cases are slow.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ferry_testkit::differential::compare::{Verdict, judge};
use ferry_testkit::differential::pool::{self, Done};
use ferry_testkit::differential::record::Recording;
use ferry_testkit::differential::run::Runner;
use ferry_testkit::differential::table::{self, Case};
use ferry_testkit::material::Material;
use ferry_testkit::oracle::Engine;
use ferry_testkit::{Sandbox, programs};

/// How many cases of a replay may differ once and agree when they are run again with nothing beside them: of thousands, some depend on
/// which of two things a busy machine does first. They are named, to be looked into; more than this is a fault.
const MOST_UNSTABLE: usize = 2;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

/// The cases asked for, each with the name of its area.
fn cases() -> Vec<(String, Case)> {
    let asked = std::env::var("FERRY_TEST_CASES").unwrap_or_default();
    let asked: Vec<String> = asked.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let areas = table::read(&folder()).unwrap();
    let all = areas.into_iter().flat_map(|area| area.cases.into_iter().map(move |case| (area.name.clone(), case)));
    all.filter(|(area, case)| table::wanted(area, &case.name, &asked)).collect()
}

/// Recordings of one oracle by area.
fn recordings(oracle: &str) -> BTreeMap<String, Recording> {
    let areas = table::read(&folder()).unwrap();
    areas.into_iter().map(|area| (area.name.clone(), Recording::of(&folder(), oracle, &area.name).unwrap())).collect()
}

/// Answers every case with engines of one kind; `replay` is how marks call it.
fn replay(replay: &str, start: impl Fn() -> Result<Engine> + Sync, oracle: &str, newer: Option<&str>) {
    let (recorded, newer) = (recordings(oracle), newer.map(recordings));
    let asked = |area: &str, case: &Case| {
        // Requests are the same whichever client stands beside them: once a version is enough.
        let twice = area.starts_with("api-") && replay == "newest";
        let unknown = case.newest_only && oracle == "older";
        !twice && !unknown
    };
    let cases: Vec<(String, Case)> = cases().into_iter().filter(|(area, case)| asked(area, case)).collect();
    let engines = pool::start(cases.len(), start).unwrap();
    let answer = |engine: &Engine, area: &String, case: &Case| {
        let newer = newer.as_ref().map(|newer| &newer[area]);
        judge(case, &engine.runner().case(case), &recorded[area], newer, replay)
    };
    let done = pool::run(&engines, &cases, |engine, (area, case)| answer(engine, area, case));
    show_times(replay, engines.len(), &cases, &done);
    let mut report = Vec::new();
    let (mut same, mut known, mut unstable) = (0, 0, 0);
    for ((area, case), done) in cases.iter().zip(done) {
        let name = format!("{area}/{}", case.name);
        let verdict = match done.value {
            Verdict::Differs(lines) if unstable < MOST_UNSTABLE => {
                let again = answer(&engines[0], area, case);
                if !matches!(again, Verdict::Differs(_)) {
                    unstable += 1;
                    say(&format!("UNSTABLE {replay} {name}: {}", lines.join(" ").replace('\n', " ")));
                }
                again
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Same => same += 1,
            Verdict::Known => known += 1,
            Verdict::NoLongerKnown => report.push(format!("{name}: agrees now: take its mark off")),
            Verdict::Differs(lines) => report.push(format!("{name}:\n    {}", lines.join("\n    "))),
        }
    }
    assert!(
        report.is_empty(),
        "{} of the cases differ ({same} the same, {known} known):\n{}",
        report.len(),
        report.join("\n")
    );
}

/// Tells what no failure would show. Not `eprintln!`: the test harness would keep that to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints the slowest cases where that is asked for.
fn show_times(replay: &str, engines: usize, cases: &[(String, Case)], done: &[Done<Verdict>]) {
    if std::env::var_os("FERRY_TEST_TIMES").is_none() {
        return;
    }
    let mut times: Vec<_> = cases.iter().zip(done).map(|((area, case), done)| (done.took, area, &case.name)).collect();
    times.sort_by(|one, other| other.cmp(one));
    let sum: std::time::Duration = times.iter().map(|time| time.0).sum();
    say(&format!("{replay}: {} cases, {sum:.1?} of work for {engines} engines; slowest:", cases.len()));
    for (took, area, case) in times.iter().take(12) {
        say(&format!("{took:>8.1?} {area}/{case}"));
    }
}

/// Texts of the client depend on its major version; the recordings name the one they were made with.
fn need_same_docker_cli(oracle: &str) -> bool {
    let recordings = recordings(oracle);
    let recording = &recordings["run"];
    let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
    let Some(docker) = programs::docker() else { return programs::need("the Docker CLI", false) };
    let said =
        std::process::Command::new(docker).args(["version", "--format", "{{.Client.Version}}"]).output().unwrap();
    let here = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let same = major(&here) == major(&recording.oracle.client);
    if !same {
        programs::skip("newer Docker CLI", &format!("recorded with {}, here is {here}", recording.oracle.client));
    }
    same
}

#[test]
fn ferry_answers_as_the_newest_docker() {
    if !programs::need_root() {
        return;
    }
    replay("ferry", || Engine::ferry_by_ferry(Material::get()), "newest", None);
}

#[test]
fn the_docker_cli_gets_the_newest_dockers_answers_from_ferryd() {
    if !programs::need_root() || !programs::need_docker_cli() || !need_same_docker_cli("newest") {
        return;
    }
    replay("newest", || Engine::ferry_by_docker(false, Material::get()), "newest", None);
}

#[test]
fn the_docker_cli_gets_the_older_dockers_answers_from_ferryd() {
    if !programs::need_root() || !programs::need_docker_cli() || !need_same_docker_cli("older") {
        return;
    }
    replay("older", || Engine::ferry_by_docker(true, Material::get()), "older", Some("newest"));
}

/// The harness from end to end: one made-up engine is recorded, others are compared with it.
#[test]
fn planted_differences_are_caught_from_command_line_to_verdict() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let runner = |client: &str| Runner {
        shell: Box::new(|| sandbox.command("sh")),
        client: client.to_owned(),
        cleaner: client.to_owned(),
        says_ferry: false,
        places: ferry_testkit::differential::normalise::Places::default(),
        api: None,
        strip: None,
    };
    let honest = r#"docker() { case "$1" in inspect) echo '[{"State": {"Pid": 42, "Error": ""}}]';; run) echo out; return 125;; esac; }"#;
    let wrong_code = honest.replace("125", "1");
    let no_field = honest.replace(r#", "Error": """#, "");
    let case = table::parse("## case\ndocker run x\n@inspect x State State.Pid").unwrap().remove(0);
    let recorded =
        Recording { cases: [("case".to_owned(), runner(honest).case(&case))].into(), ..Recording::default() };
    assert_eq!(judge(&case, &runner(&honest.replace("42", "43")).case(&case), &recorded, None, "ferry"), Verdict::Same);
    let verdict = |client: &str| match judge(&case, &runner(client).case(&case), &recorded, None, "ferry") {
        Verdict::Differs(lines) => lines.join("\n"),
        other => panic!("{other:?}"),
    };
    assert!(verdict(&wrong_code).contains("exit code 1 instead of 125"));
    assert!(verdict(&no_field).contains("field State.Error is missing"));
}
