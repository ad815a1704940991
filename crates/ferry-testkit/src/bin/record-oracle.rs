//! Records the answers of real Docker daemons to the table of command lines.
//!
//! Arguments are names of areas, `AREA/CASE` or parts of a case's name; none is everything. The older
//! oracle is the distribution's `dockerd`. The newest is recorded where `FERRY_ORACLE_DIR` names a
//! folder with `dockerd`, `containerd`, its shim and `runc`. `FERRY_ORACLE_ONLY` set to `older` or
//! `newest` asks one of them alone, `FERRY_TEST_WORKERS` says how many daemons work side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ferry_testkit::differential::pool;
use ferry_testkit::differential::record::{Oracle, Recording};
use ferry_testkit::differential::table::{self, Area, Case};
use ferry_testkit::{material::Material, oracle, programs};

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let areas = table::read(&folder)?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let material = Material::get();
    let only = std::env::var("FERRY_ORACLE_ONLY").unwrap_or_default();
    if only != "newest" {
        let dockerd = programs::on_path("dockerd").context("dockerd is missing: apt-get install docker.io")?;
        let start = || oracle::Engine::older(dockerd.clone(), material);
        record(start, &folder.join("older"), &areas, &wanted)?;
    }
    if let Some(newest) = std::env::var_os("FERRY_ORACLE_DIR").filter(|_| only != "older") {
        let newest = PathBuf::from(newest);
        record(|| oracle::Engine::newest(&newest, material), &folder.join("newest"), &areas, &wanted)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a tool that takes minutes shows what it does")]
fn record(
    start: impl Fn() -> Result<oracle::Engine> + Sync,
    folder: &Path,
    areas: &[Area],
    wanted: &[String],
) -> Result<()> {
    let older = folder.ends_with("older");
    let asked =
        |area: &Area, case: &Case| table::wanted(&area.name, &case.name, wanted) && !(case.newest_only && older);
    let cases: Vec<(&Area, &Case)> = areas
        .iter()
        .flat_map(|area| area.cases.iter().map(move |case| (area, case)))
        .filter(|(area, case)| asked(area, case))
        .collect();
    let engines = pool::start(cases.len(), start)?;
    let oracle: Oracle = engines[0].oracle();
    let answers = pool::run(&engines, &cases, |engine, (area, case)| {
        let answers = engine.runner().case(case);
        eprintln!("{} {}/{}", oracle.server, area.name, case.name);
        answers
    });
    std::fs::create_dir_all(folder).context("make the folder of recordings")?;
    for area in areas {
        let path = folder.join(format!("{}.json", area.name));
        let mut recording = Recording::read(&path).unwrap_or_default();
        let before = recording.clone();
        recording.cases.retain(|name, _| area.cases.iter().any(|case| case.name == *name));
        for ((_, case), done) in cases.iter().zip(&answers).filter(|((of, _), _)| of.name == area.name) {
            recording.oracle = oracle.clone();
            recording.cases.insert(case.name.clone(), done.value.clone());
        }
        if recording != before {
            recording.write(&path)?;
        }
    }
    Ok(())
}
