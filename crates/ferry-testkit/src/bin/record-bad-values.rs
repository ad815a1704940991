//! Records what real Docker daemons answer to requests with a value that does not fit.
//!
//! As for the table of command lines: the older oracle is the distribution's `dockerd`, the newest is recorded where
//! `FERRY_ORACLE_DIR` names a folder, and `FERRY_ORACLE_ONLY` asks one of them alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ferry_testkit::bad_values::{self, Answers};
use ferry_testkit::{material::Material, oracle, programs};

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/bad-values");
    let only = std::env::var("FERRY_ORACLE_ONLY").unwrap_or_default();
    if only != "newest" {
        let dockerd = programs::on_path("dockerd").context("dockerd is missing: apt-get install docker.io")?;
        record(&oracle::Engine::older(dockerd, Material::get())?, &folder, "older")?;
    }
    if let Some(newest) = std::env::var_os("FERRY_ORACLE_DIR").filter(|_| only != "older") {
        record(&oracle::Engine::newest(&PathBuf::from(newest), Material::get())?, &folder, "newest")?;
    }
    Ok(())
}

fn record(engine: &oracle::Engine, folder: &Path, name: &str) -> Result<()> {
    let api = engine.oracle().api;
    let rows = bad_values::read(folder)?;
    let answers: Answers =
        rows.iter().map(|row| (row.name.clone(), bad_values::ask(engine.daemon(), &api, row))).collect();
    let mut text = serde_json::to_string_pretty(&answers).context("encode the answers")?;
    text.push('\n');
    std::fs::write(folder.join(format!("{name}.json")), text).context("write the answers")
}
