//! Records what BuildKit makes of the cases below `tests/build`.
//!
//! The first argument is a folder with `buildkitd` and `buildctl`; further ones are parts of `FILE/CASE`, none is every case.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use ferry_testkit::builds::buildkit::BuildKit;
use ferry_testkit::builds::{Answer, cases};
use ferry_testkit::differential::pool;

#[expect(clippy::print_stderr, reason = "a tool that takes minutes shows what it does")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let programs = args.next().context("the folder of buildkitd is missing")?;
    let wanted: Vec<String> = args.collect();
    let buildkit = BuildKit::start(Path::new(&programs))?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build");
    for entry in std::fs::read_dir(&folder).context("list the cases")? {
        let path = entry.context("list the cases")?.path();
        if path.extension().is_none_or(|ending| ending != "cases") {
            continue;
        }
        let all = cases::parse(&std::fs::read_to_string(&path).context("read cases")?)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_wanted =
            |name: &str| wanted.is_empty() || wanted.iter().any(|part| format!("{stem}/{name}").contains(part));
        let asked: Vec<_> = all.iter().filter(|case| is_wanted(&case.name)).collect();
        let recorded = path.with_extension("json");
        let mut answers: BTreeMap<String, Answer> = match std::fs::read(&recorded) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("read answers")?,
            Err(_) => BTreeMap::new(),
        };
        answers.retain(|name, _| all.iter().any(|case| case.name == *name));
        let done = pool::run(&[&buildkit], &asked, |buildkit, case| {
            let answer = buildkit.build(case);
            eprintln!("{}", case.name);
            answer
        });
        for (case, done) in asked.iter().zip(done) {
            answers.insert(case.name.clone(), done.value.with_context(|| case.name.clone())?);
        }
        let mut text = serde_json::to_string_pretty(&answers).context("write answers")?;
        text.push('\n');
        std::fs::write(&recorded, text).context("write answers")?;
    }
    Ok(())
}
