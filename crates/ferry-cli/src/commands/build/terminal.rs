//! Progress on a terminal: BuildKit's view that is drawn anew as it changes.

use std::collections::HashMap;
use std::fmt::Write as _;

use ferry_api::build::{Event, StatusLine, VertexState};
use ferry_spec::digest::Digest;

use super::plain::bytes;

/// Lines of output shown below a step that runs.
const OUTPUT_LINES: usize = 6;

/// What is known of a build, to be drawn.
#[derive(Debug)]
pub(in crate::commands) struct View {
    begun_ns: i64,
    order: Vec<Digest>,
    steps: HashMap<Digest, Step>,
    drawn: usize,
}

#[derive(Debug)]
struct Step {
    state: VertexState,
    statuses: Vec<StatusLine>,
    output: Vec<String>,
    partial: Vec<u8>,
}

impl View {
    pub(super) fn new(now_ns: i64) -> Self {
        Self { begun_ns: now_ns, order: Vec::new(), steps: HashMap::new(), drawn: 0 }
    }

    /// Takes an event in.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Vertex(state) => {
                if state.started_ns.is_none() {
                    return;
                }
                match self.steps.get_mut(&state.digest) {
                    Some(step) => step.state = state.clone(),
                    None => {
                        self.order.push(state.digest.clone());
                        let step = Step {
                            state: state.clone(),
                            statuses: Vec::new(),
                            output: Vec::new(),
                            partial: Vec::new(),
                        };
                        self.steps.insert(state.digest.clone(), step);
                    }
                }
            }
            Event::Log(piece) => {
                let Some(step) = self.steps.get_mut(&piece.vertex) else { return };
                step.partial.extend_from_slice(&piece.data);
                while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = step.partial.drain(..=end).collect();
                    step.output.push(String::from_utf8_lossy(&line[..end]).trim_end().to_owned());
                }
                let kept = step.output.len().saturating_sub(200);
                step.output.drain(..kept);
            }
            Event::Status(status) => {
                let Some(step) = self.steps.get_mut(&status.vertex) else { return };
                match step.statuses.iter_mut().find(|known| known.id == status.id) {
                    Some(known) => *known = status.clone(),
                    None => step.statuses.push(status.clone()),
                }
            }
            Event::Warning(_) | Event::Instructions(_) => {}
        }
    }

    /// Draws over what was drawn before.
    pub(super) fn draw(&mut self, now_ns: i64, height: usize, width: usize, is_last: bool) -> String {
        let lines = self.lines(now_ns, width, is_last);
        let shown = if is_last { lines.len() } else { lines.len().min(height.saturating_sub(1).max(2)) };
        // The newest steps matter most; the first line stays.
        let skipped = lines.len() - shown;
        let mut text = String::from("\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        text.push_str("\r\x1b[0J");
        let chosen = lines.iter().take(1).chain(lines.iter().skip(1 + skipped));
        for line in chosen {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = shown;
        text + "\x1b[?25h"
    }

    /// What is drawn next comes below what was drawn.
    pub(super) fn let_go(&mut self) {
        self.drawn = 0;
    }

    /// What is shown of the step that failed.
    pub(super) fn failure(&self) -> String {
        let failed = self
            .order
            .iter()
            .filter_map(|digest| self.steps.get(digest))
            .find(|step| !step.state.error.is_empty() && step.state.error != "context canceled");
        let Some(step) = failed else { return String::new() };
        let mut text = format!("------\n > {}:\n", step.state.name);
        for line in step.output.iter().rev().take(10).rev() {
            let _ = writeln!(text, "{line}");
        }
        text + "------\n"
    }

    fn lines(&self, now_ns: i64, width: usize, is_last: bool) -> Vec<String> {
        let steps: Vec<&Step> = self.order.iter().filter_map(|digest| self.steps.get(digest)).collect();
        let done = steps.iter().filter(|step| step.state.completed_ns.is_some()).count();
        let end = if is_last && steps.iter().all(|step| step.state.error.is_empty()) { " FINISHED" } else { "" };
        let seconds = seconds(now_ns - self.begun_ns);
        let head = format!("[+] Building {seconds} ({done}/{}){end}", steps.len());
        let mut lines = vec![fit(&head, "", width)];
        for step in steps {
            lines.extend(step_lines(step, now_ns, width));
        }
        lines
    }
}

fn step_lines(step: &Step, now_ns: i64, width: usize) -> Vec<String> {
    let state = &step.state;
    let started = state.started_ns.unwrap_or(now_ns);
    let took = seconds(state.completed_ns.unwrap_or(now_ns) - started);
    let (word, colour) = match (state.cached, state.error.as_str(), state.completed_ns) {
        (true, ..) => ("CACHED ", "\x1b[34m"),
        (_, "context canceled", _) => ("CANCELED ", "\x1b[33m"),
        (_, error, _) if !error.is_empty() => ("ERROR ", "\x1b[31m"),
        (.., Some(_)) => ("", "\x1b[34m"),
        _ => ("", ""),
    };
    let paint = |line: String| if colour.is_empty() { line } else { format!("{colour}{line}\x1b[0m") };
    let mut lines = vec![paint(fit(&format!(" => {word}{}", state.name), &took, width))];
    for status in &step.statuses {
        let amount = match (status.current, status.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", bytes(current)),
            (current, total) => format!(" {} / {}", bytes(current), bytes(total)),
        };
        let began = status.started_ns.unwrap_or(status.time_ns);
        let took = seconds(status.completed_ns.unwrap_or(now_ns) - began);
        lines.push(paint(fit(&format!(" => => {}{amount}", status.id), &took, width)));
    }
    if state.completed_ns.is_none() {
        let from = step.output.len().saturating_sub(OUTPUT_LINES);
        for line in &step.output[from..] {
            lines.push(format!("\x1b[2m{}\x1b[0m", fit(&format!(" => => # {line}"), "", width)));
        }
    }
    lines
}

fn seconds(nanoseconds: i64) -> String {
    format!("{:.1}s", nanoseconds.max(0) as f64 / 1e9)
}

/// A line of exactly the width, with something at its right end.
fn fit(left: &str, right: &str, width: usize) -> String {
    let plain: String = left.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let room = width.saturating_sub(right.chars().count() + 1).max(10);
    let count = plain.chars().count();
    if count > room {
        let cut: String = plain.chars().take(room.saturating_sub(3)).collect();
        return format!("{cut}... {right}").trim_end().to_owned();
    }
    if right.is_empty() { plain } else { format!("{plain}{}{right}", " ".repeat(room - count + 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_say_what_goes_on() {
        let mut view = View::new(0);
        let state = VertexState {
            digest: Digest::sha256(b"x"),
            inputs: Vec::new(),
            name: "[1/1] RUN make all the things that take very long to make".to_owned(),
            started_ns: Some(0),
            completed_ns: None,
            cached: false,
            error: String::new(),
            group: None,
        };
        view.take(&Event::Vertex(state.clone()));
        let lines = view.lines(2_000_000_000, 40, false);
        assert_eq!(lines[0], "[+] Building 2.0s (0/1)");
        assert_eq!(lines[1], " => [1/1] RUN make all the thing... 2.0s");
        view.take(&Event::Vertex(VertexState { completed_ns: Some(1), ..state }));
        assert!(view.lines(0, 40, true)[0].ends_with("(1/1) FINISHED"));
        assert!(view.draw(0, 10, 40, false).contains("\x1b[34m"));
    }
}
