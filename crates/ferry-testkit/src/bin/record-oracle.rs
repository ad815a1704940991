//! Records the answers of real Docker daemons to the table of command lines.
//!
//! The older oracle is the distribution's `dockerd`. The newest is recorded where
//! `FERRY_ORACLE_DIR` names a folder with `dockerd`, `containerd`, its shim and `runc`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ferry_testkit::differential::record::Recording;
use ferry_testkit::differential::table;
use ferry_testkit::{material::Material, oracle, programs};

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let cases = table::parse(&std::fs::read_to_string(folder.join("cases.txt")).context("read the table")?)?;
    let only: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let material = Material::get();
    let dockerd = programs::on_path("dockerd").context("dockerd is missing: apt-get install docker.io")?;
    record(&oracle::Engine::older(dockerd, material)?, &folder.join("older.json"), &cases, wanted)?;
    if let Some(newest) = std::env::var_os("FERRY_ORACLE_DIR") {
        record(
            &oracle::Engine::newest(&PathBuf::from(newest), material)?,
            &folder.join("newest.json"),
            &cases,
            wanted,
        )?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a tool that takes a minute shows what it does")]
fn record(engine: &oracle::Engine, path: &Path, cases: &[table::Case], wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut recording = Recording::read(path).unwrap_or_default();
    recording.oracle = engine.oracle();
    recording.cases.retain(|name, _| cases.iter().any(|case| case.name == *name));
    let runner = engine.runner();
    for case in cases.iter().filter(|case| wanted(&case.name) && !(case.newest_only && engine.is_older())) {
        eprintln!("{} {}", engine.oracle().server, case.name);
        recording.cases.insert(case.name.clone(), runner.case(case));
    }
    recording.write(path)
}
