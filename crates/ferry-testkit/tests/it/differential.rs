//! The table of command lines, answered by ferry and compared with what real Docker said.
//!
//! Set `FERRY_TEST_CASES` to a part of a case's name to run only those.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ferry_testkit::differential::compare::{Verdict, judge};
use ferry_testkit::differential::record::Recording;
use ferry_testkit::differential::run::Runner;
use ferry_testkit::differential::table::{self, Case};
use ferry_testkit::material::Material;
use ferry_testkit::oracle::Engine;
use ferry_testkit::{Sandbox, programs};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

fn cases() -> Vec<Case> {
    let wanted = std::env::var("FERRY_TEST_CASES").unwrap_or_default();
    let all = table::parse(&std::fs::read_to_string(folder().join("cases.txt")).unwrap()).unwrap();
    all.into_iter().filter(|case| case.name.contains(&wanted)).collect()
}

fn recording(name: &str) -> Recording {
    Recording::read(&folder().join(name)).unwrap()
}

fn replay(engine: Result<Engine>, recording: &Recording, newer: Option<&Recording>) {
    let engine = engine.unwrap();
    let runner = engine.runner();
    let mut report = Vec::new();
    let (mut same, mut known) = (0, 0);
    for case in cases().iter().filter(|case| !(case.newest_only && engine.is_older())) {
        match judge(case, &runner.case(case), recording, newer) {
            Verdict::Same => same += 1,
            Verdict::Known => known += 1,
            Verdict::NoLongerKnown => report.push(format!("{}: agrees now: take the `known` mark off", case.name)),
            Verdict::Differs(lines) => report.push(format!("{}:\n    {}", case.name, lines.join("\n    "))),
        }
    }
    assert!(
        report.is_empty(),
        "{} of the cases differ ({same} the same, {known} known):\n{}",
        report.len(),
        report.join("\n")
    );
}

/// Texts of the client depend on its major version; the recording names the one it was made with.
fn need_same_docker_cli(recording: &Recording) -> bool {
    let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
    let Some(docker) = programs::docker() else { return programs::need("the Docker CLI", false) };
    let said =
        std::process::Command::new(docker).args(["version", "--format", "{{.Client.Version}}"]).output().unwrap();
    let here = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let same = major(&here) == major(&recording.oracle.client);
    if !same {
        // Not `need`: no distribution has the newer client, so not even a whole run promises it.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED differential: recorded with Docker CLI {}, here is {here}",
            recording.oracle.client
        );
    }
    same
}

#[test]
fn ferry_answers_as_the_newest_docker() {
    if !programs::need_root() {
        return;
    }
    replay(Engine::ferry_by_ferry(Material::get()), &recording("newest.json"), None);
}

#[test]
fn the_docker_cli_gets_the_newest_dockers_answers_from_ferryd() {
    let newest = recording("newest.json");
    if !programs::need_root() || !programs::need_docker_cli() || !need_same_docker_cli(&newest) {
        return;
    }
    replay(Engine::ferry_by_docker(false, Material::get()), &newest, None);
}

#[test]
fn the_docker_cli_gets_the_older_dockers_answers_from_ferryd() {
    let older = recording("older.json");
    if !programs::need_root() || !programs::need_docker_cli() || !need_same_docker_cli(&older) {
        return;
    }
    replay(Engine::ferry_by_docker(true, Material::get()), &older, Some(&recording("newest.json")));
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
        says_ferry: false,
        places: ferry_testkit::differential::normalise::Places::default(),
    };
    let honest = r#"docker() { case "$1" in inspect) echo '[{"State": {"Pid": 42, "Error": ""}}]';; run) echo out; return 125;; esac; }"#;
    let wrong_code = honest.replace("125", "1");
    let no_field = honest.replace(r#", "Error": """#, "");
    let case = table::parse("## case\ndocker run x\n@inspect x State State.Pid").unwrap().remove(0);
    let recorded =
        Recording { cases: [("case".to_owned(), runner(honest).case(&case))].into(), ..Recording::default() };
    assert_eq!(judge(&case, &runner(&honest.replace("42", "43")).case(&case), &recorded, None), Verdict::Same);
    let verdict = |client: &str| match judge(&case, &runner(client).case(&case), &recorded, None) {
        Verdict::Differs(lines) => lines.join("\n"),
        other => panic!("{other:?}"),
    };
    assert!(verdict(&wrong_code).contains("exit code 1 instead of 125"));
    assert!(verdict(&no_field).contains("field State.Error is missing"));
}
