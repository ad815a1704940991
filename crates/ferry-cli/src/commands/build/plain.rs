//! Progress as lines: BuildKit's `plain`.

use std::collections::HashMap;
use std::fmt::Write as _;

use ferry_api::build::{Event, LogPiece, StatusLine, VertexState};
use ferry_spec::digest::Digest;

/// Turns events into lines.
#[derive(Debug, Default)]
pub(in crate::commands) struct Plain {
    known: HashMap<Digest, Step>,
    /// Steps by number.
    count: usize,
    /// The step whose lines were written last.
    last: Option<usize>,
    /// Output of the step that failed.
    failed: Option<(String, Vec<String>)>,
    logs: HashMap<Digest, Vec<String>>,
}

#[derive(Debug)]
struct Step {
    number: usize,
    name: String,
    started_ns: i64,
    ended: bool,
    /// A line that has not ended, by stream.
    partial: HashMap<u8, Vec<u8>>,
    told: HashMap<String, bool>,
}

impl Plain {
    /// What an event is told as.
    pub(super) fn take(&mut self, event: &Event) -> String {
        match event {
            Event::Vertex(state) => self.vertex(state),
            Event::Log(piece) => self.log(piece),
            Event::Status(status) => self.status(status),
            Event::Warning(_) | Event::Instructions(_) => String::new(),
        }
    }

    /// What is told of the step that failed, when all is over.
    pub(super) fn failure(&self) -> String {
        let Some((name, lines)) = &self.failed else { return String::new() };
        let mut text = format!("------\n > {name}:\n");
        for line in lines.iter().rev().take(10).rev() {
            let _ = writeln!(text, "{line}");
        }
        text + "------\n"
    }

    fn vertex(&mut self, state: &VertexState) -> String {
        let mut text = String::new();
        let Some(started_ns) = state.started_ns else { return text };
        if !self.known.contains_key(&state.digest) {
            self.count += 1;
            let step = Step {
                number: self.count,
                name: state.name.clone(),
                started_ns,
                ended: false,
                partial: HashMap::new(),
                told: HashMap::new(),
            };
            self.turn_to(step.number, &mut text);
            let _ = writeln!(text, "#{} {}", step.number, step.name);
            self.known.insert(state.digest.clone(), step);
        }
        let Some(step) = self.known.get_mut(&state.digest) else { return text };
        let Some(completed_ns) = state.completed_ns.filter(|_| !step.ended) else { return text };
        step.ended = true;
        let number = step.number;
        let seconds = (completed_ns - step.started_ns).max(0) as f64 / 1e9;
        let mut rest = String::new();
        for (_, partial) in step.partial.drain() {
            if !partial.is_empty() {
                let elapsed = seconds;
                let _ = writeln!(rest, "#{number} {elapsed:.3} {}", String::from_utf8_lossy(&partial));
            }
        }
        let name = step.name.clone();
        self.turn_to(number, &mut text);
        text.push_str(&rest);
        let end = match (state.cached, state.error.as_str()) {
            (true, _) => "CACHED".to_owned(),
            (_, "") => format!("DONE {seconds:.1}s"),
            (_, "context canceled") => "CANCELED".to_owned(),
            (_, error) => {
                let lines = self.logs.remove(&state.digest).unwrap_or_default();
                self.failed = Some((name, lines));
                format!("ERROR: {error}")
            }
        };
        let _ = writeln!(text, "#{number} {end}\n");
        self.last = None;
        text
    }

    fn log(&mut self, piece: &LogPiece) -> String {
        let mut text = String::new();
        let Some(step) = self.known.get_mut(&piece.vertex) else { return text };
        let elapsed = (piece.time_ns - step.started_ns).max(0) as f64 / 1e9;
        let partial = step.partial.entry(piece.stream).or_default();
        partial.extend_from_slice(&piece.data);
        let mut lines = Vec::new();
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned();
            lines.push(line);
        }
        let number = step.number;
        if !lines.is_empty() {
            self.turn_to(number, &mut text);
        }
        for line in lines {
            let _ = writeln!(text, "#{number} {elapsed:.3} {line}");
            self.logs.entry(piece.vertex.clone()).or_default().push(format!("{elapsed:.3} {line}"));
        }
        text
    }

    fn status(&mut self, status: &StatusLine) -> String {
        let mut text = String::new();
        let Some(step) = self.known.get_mut(&status.vertex) else { return text };
        let is_done = status.completed_ns.is_some();
        if step.told.get(&status.id).is_some_and(|done| *done || !is_done) {
            return text;
        }
        step.told.insert(status.id.clone(), is_done);
        let number = step.number;
        self.turn_to(number, &mut text);
        let amount = match (status.current, status.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", bytes(current)),
            (current, total) => format!(" {} / {}", bytes(current), bytes(total)),
        };
        let took = status.started_ns.unwrap_or(status.time_ns);
        let seconds = (status.completed_ns.unwrap_or(status.time_ns) - took).max(0) as f64 / 1e9;
        let end = if is_done { " done" } else { "" };
        let time = if is_done && seconds < 0.05 { String::new() } else { format!(" {seconds:.1}s") };
        let _ = writeln!(text, "#{number} {}{amount}{time}{end}", status.id);
        text
    }

    /// Lines of another step begin after an empty one.
    fn turn_to(&mut self, number: usize, text: &mut String) {
        if self.last.is_some_and(|last| last != number) {
            text.push('\n');
        }
        self.last = Some(number);
    }
}

/// Bytes as BuildKit writes them.
pub(super) fn bytes(count: i64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}B") } else { format!("{value:.2}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(name: &str, started: Option<i64>, completed: Option<i64>) -> VertexState {
        VertexState {
            digest: Digest::sha256(name.as_bytes()),
            inputs: Vec::new(),
            name: name.to_owned(),
            started_ns: started,
            completed_ns: completed,
            cached: false,
            error: String::new(),
            group: None,
        }
    }

    #[test]
    fn steps_have_numbers_and_times() {
        let mut plain = Plain::default();
        let mut text = plain.take(&Event::Vertex(vertex("[1/2] FROM a", Some(0), None)));
        text += &plain.take(&Event::Vertex(vertex("[1/2] FROM a", Some(0), Some(1_500_000_000))));
        text += &plain.take(&Event::Vertex(vertex("[2/2] RUN x", Some(0), None)));
        let piece = LogPiece {
            vertex: Digest::sha256(b"[2/2] RUN x"),
            stream: 1,
            data: b"one\ntw".to_vec(),
            time_ns: 250_000_000,
        };
        text += &plain.take(&Event::Log(piece));
        let failed =
            VertexState { error: "exit code: 1".to_owned(), ..vertex("[2/2] RUN x", Some(0), Some(1_000_000_000)) };
        text += &plain.take(&Event::Vertex(failed));
        let expected =
            "#1 [1/2] FROM a\n#1 DONE 1.5s\n\n#2 [2/2] RUN x\n#2 0.250 one\n#2 1.000 tw\n#2 ERROR: exit code: 1\n\n";
        assert_eq!(text, expected);
        assert_eq!(plain.failure(), "------\n > [2/2] RUN x:\n0.250 one\n------\n");
    }

    #[test]
    fn bytes_have_units() {
        for (count, text) in [(2, "2B"), (1500, "1.50kB"), (12_345_678, "12.35MB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
