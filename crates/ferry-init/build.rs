//! Builds the two programs as they run in containers: without std, without libc, a few kilobytes each.
//!
//! Cargo cannot do it: one panic strategy holds for a whole build, and a program without std needs `abort`. Anybody else can build them the
//! same way, each from its one file.

use std::path::{Path, PathBuf};
use std::process::Command;

const OPTIONS: [&str; 21] = [
    "--edition=2024",
    "--crate-type=bin",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Ccodegen-units=1",
    "-Cstrip=symbols",
    "-Cdebuginfo=0",
    "-Coverflow-checks=off",
    "-Cforce-unwind-tables=no",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nodefaultlibs",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,-z,noexecstack",
    "-Clink-arg=-Wl,--gc-sections",
    "-Ainternal_features",
];

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let (compiler, target, out) = (variable("RUSTC"), variable("TARGET"), PathBuf::from(variable("OUT_DIR")));
    for name in ["ferry-init", "ferry-hello"] {
        let source = Path::new("src/bin").join(name).with_extension("rs");
        println!("cargo::rerun-if-changed={}", source.display());
        let mut command = Command::new(&compiler);
        command.args(OPTIONS).arg("--target").arg(&target).arg("-o").arg(out.join(name)).arg(&source);
        if let Ok(linker) = std::env::var("RUSTC_LINKER") {
            command.arg(format!("-Clinker={linker}"));
        }
        let status = command.status().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(status.success(), "building {name} failed");
    }
}
