//! The plugin of [`ferry_testkit::plugin`] as a program: `sample-plugin SOCKET FOLDER`. What it can do is in `IMPLEMENTS`.

use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use ferry_testkit::plugin::Plugin;

#[expect(clippy::print_stdout, reason = "what it prints is the daemon's to tell")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (socket, folder) = (args.next().context("no socket named")?, args.next().context("no folder named")?);
    let implements = std::env::var("IMPLEMENTS").unwrap_or_default();
    let implements: Vec<&str> = implements.split(',').collect();
    // Of an earlier life.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).with_context(|| format!("listen on {socket}"))?;
    println!("sample plugin listens, mood {}", std::env::var("MOOD").unwrap_or_default());
    Plugin::new(&implements, Path::new(&folder), Path::new("/")).serve(&listener);
    Ok(())
}
