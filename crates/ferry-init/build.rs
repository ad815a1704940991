//! Compiles the programs; the compiler is called directly, because cargo cannot yet hand one package's binary to another as a file.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let target = env::var("TARGET").expect("cargo sets it");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    println!("cargo::rerun-if-changed=programs");
    for name in ["init", "hello"] {
        let status = Command::new(&rustc)
            .args(["--edition", "2024", "--crate-type", "bin", "--target", &target, "-D", "warnings"])
            .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "strip=symbols", "-C", "relocation-model=static"])
            .args(["-C", "target-feature=+crt-static", "-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib"])
            .args(["-C", "link-arg=-static", "-C", "link-arg=-Wl,--build-id=none,-z,norelro,-z,noseparate-code"])
            .arg("-o")
            .arg(Path::new(&out).join(name))
            .arg(format!("programs/{name}.rs"))
            .status()
            .expect("the compiler that compiled this can be started");
        assert!(status.success(), "{name} does not compile");
    }
}
