//! The terminal: drawn whole after each key, and left as it was found.

use std::io::Write as _;

use ferry_api::compare::Layers;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::keys;
use super::view::{Line, View};
use crate::failure::Result;
use crate::output::stdout_size;
use crate::streams::terminal::RawTerminal;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HELP: &str = "↑↓ move   tab other side   enter open   q quit";

/// Another screen, until this is dropped.
struct OtherScreen;

impl OtherScreen {
    fn enter() -> Result<Self> {
        write(ENTER)?;
        Ok(Self)
    }
}

impl Drop for OtherScreen {
    fn drop(&mut self) {
        // A terminal that went away has nothing to go back to.
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Shows the layers until the user has seen enough.
pub(super) async fn walk(name: &str, layers: &Layers) -> Result<()> {
    let _raw = RawTerminal::enter()?;
    let _screen = OtherScreen::enter()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut keyboard = tokio::io::stdin();
    let mut view = View::new(name, layers);
    let mut typed = [0; 64];
    loop {
        let (rows, columns) = stdout_size().map_or((24, 80), |(rows, columns)| (rows.into(), columns.into()));
        write(&draw(&view, rows, columns))?;
        tokio::select! {
            _ = resized.recv() => {}
            read = keyboard.read(&mut typed) => {
                let read = read?;
                if read == 0 || !keys::read(&typed[..read]).into_iter().all(|key| view.press(key)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Draws both halves side by side.
fn draw(view: &View<'_>, rows: usize, columns: usize) -> String {
    let (left, right) = view.lines(rows);
    let half = (columns * 2 / 5).max(10);
    let mut out = "\x1b[H".to_owned();
    let empty = Line { text: String::new(), chosen: false, bold: false };
    for row in 0..rows.saturating_sub(1) {
        let (left, right) = (left.get(row).unwrap_or(&empty), right.get(row).unwrap_or(&empty));
        out.push_str(&painted(left, half));
        out.push_str(" │ ");
        out.push_str(&painted(right, columns.saturating_sub(half + 3)));
        out.push_str("\x1b[K\r\n");
    }
    out.push_str(&format!("\x1b[2m{}\x1b[0m\x1b[K", cut(HELP, columns)));
    out
}

fn painted(line: &Line, width: usize) -> String {
    let text = cut(&line.text, width);
    match (line.chosen, line.bold) {
        (true, _) => format!("\x1b[7m{text}\x1b[0m"),
        (_, true) => format!("\x1b[1m{text}\x1b[0m"),
        _ => text,
    }
}

/// Exactly so many characters.
fn cut(text: &str, width: usize) -> String {
    let mut cut: String = text.chars().take(width).collect();
    let used = cut.chars().count();
    cut.push_str(&" ".repeat(width - used));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_is_as_large_as_the_terminal() {
        let layers = Layers::default();
        let drawn = draw(&View::new("app", &layers), 10, 60);
        assert_eq!(drawn.matches("\r\n").count(), 9);
        assert_eq!(cut("äbc", 2), "äb");
        assert_eq!(cut("a", 3), "a  ");
    }
}
