//! Stands before a client and takes away the flag that `FERRY_TEST_STRIP` names: `stripped-client PROGRAM ARGUMENT...`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use ferry_testkit::strip::{self, Strip};

fn main() -> Result<()> {
    let asked = std::env::var(strip::VARIABLE).context("nothing to take away is named")?;
    let strip = Strip::parse(&asked)?;
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().context("no program is named")?;
    let arguments: Vec<String> = arguments.collect();
    // The program itself must not know: only the test does.
    let mut command = Command::new(&program);
    command.args(strip.arguments(&arguments)).env_remove(strip::VARIABLE);
    bail!("{program}: {}", command.exec())
}
