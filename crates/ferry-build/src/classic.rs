//! What the builder before BuildKit told its clients, from what this one tells: numbered steps, one after the other.

use std::collections::HashMap;

use ferry_api::build::Instruction;
use ferry_api::stream::JsonMessage;
use ferry_dockerfile::Dockerfile;
use ferry_dockerfile::check::Checks;
use ferry_spec::digest::Digest;

use crate::failure::Failure;
use crate::files;
use crate::graph::{Graph, LineRange};
use crate::progress::Event;

/// The instructions of the stages up to the target, with their steps.
pub(crate) fn instructions(source: &str, target: &str, graph: &Graph) -> Vec<Instruction> {
    let Ok(file) = Dockerfile::parse(source, &mut Checks::default()) else { return Vec::new() };
    let last = file.stages.iter().position(|stage| stage.name.eq_ignore_ascii_case(target));
    let last = last.or_else(|| target.parse().ok()).unwrap_or(file.stages.len()).min(file.stages.len() - 1);
    let steps = |first: u32, last: u32| {
        let range = LineRange {
            first: usize::try_from(first).unwrap_or_default(),
            last: usize::try_from(last).unwrap_or_default(),
        };
        let of_lines = graph.vertices().iter().filter(|vertex| vertex.meta.location.contains(&range));
        of_lines.map(|vertex| vertex.digest.clone()).collect()
    };
    let mut instructions = Vec::new();
    for stage in &file.stages[..=last] {
        let vertices = steps(stage.lines.first, stage.lines.last);
        instructions.push(Instruction { text: stage.source.clone(), vertices });
        for statement in &stage.statements {
            let vertices = steps(statement.lines.first, statement.lines.last);
            instructions.push(Instruction { text: statement.source.clone(), vertices });
        }
    }
    instructions
}

/// Turns events into messages; output of a step that is not the next one waits.
#[derive(Debug, Default)]
pub struct ClassicStream {
    instructions: Vec<Instruction>,
    at: usize,
    announced: bool,
    states: HashMap<Digest, StepState>,
}

#[derive(Debug, Default)]
struct StepState {
    output: Vec<u8>,
    started: bool,
    cached: bool,
    done: bool,
}

impl ClassicStream {
    /// Nothing was told.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what happened, and returns what is to be told of it.
    pub fn take(&mut self, event: Event) -> Vec<JsonMessage> {
        match event {
            Event::Instructions(instructions) => self.instructions = instructions,
            Event::Vertex(state) => {
                let known = self.states.entry(state.digest).or_default();
                known.started |= state.started_ns.is_some();
                known.cached |= state.cached;
                known.done |= state.completed_ns.is_some() && state.error.is_empty();
            }
            Event::Log(piece) => self.states.entry(piece.vertex).or_default().output.extend(piece.data),
            Event::Status(_) | Event::Warning(_) => {}
        }
        self.advance(false)
    }

    /// Returns what is left to be told when all has ended.
    pub fn finish(&mut self, succeeded: bool) -> Vec<JsonMessage> {
        self.advance(succeeded)
    }

    fn advance(&mut self, all: bool) -> Vec<JsonMessage> {
        let mut told = Vec::new();
        while let Some(instruction) = self.instructions.get(self.at) {
            let steps = &instruction.vertices;
            let begun = steps.is_empty()
                || all
                || steps.iter().any(|step| self.states.get(step).is_some_and(|state| state.started));
            if !begun {
                break;
            }
            let id = short(steps.last());
            if !self.announced {
                self.announced = true;
                let (number, count) = (self.at + 1, self.instructions.len());
                told.push(line(format!("Step {number}/{count} : {}", instruction.text)));
                told.push(line("\n".to_owned()));
                let is_run = instruction.text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("run "));
                let cached = steps.iter().any(|step| self.states.get(step).is_some_and(|state| state.cached));
                if cached {
                    told.push(line(" ---> Using cache\n".to_owned()));
                } else if is_run {
                    told.push(line(format!(" ---> Running in {id}\n")));
                }
            }
            for step in steps {
                let output = self.states.get_mut(step).map(|state| std::mem::take(&mut state.output));
                if let Some(output) = output.filter(|output| !output.is_empty()) {
                    told.push(line(String::from_utf8_lossy(&output).into_owned()));
                }
            }
            let done = all || steps.iter().all(|step| self.states.get(step).is_some_and(|state| state.done));
            if !done {
                break;
            }
            if !steps.is_empty() {
                told.push(line(format!(" ---> {id}\n")));
            }
            self.at += 1;
            self.announced = false;
        }
        told
    }
}

/// Words the failure of a step as that builder did; `None` where it has no words of its own for it.
#[must_use]
pub fn failure_text(failure: &Failure) -> Option<String> {
    let line = failure.location.first()?.first.checked_sub(1)?;
    let instruction = failure.dockerfile.as_ref()?.text.lines().nth(line)?;
    let mut words = instruction.split_whitespace();
    let keyword = words.next()?.to_ascii_uppercase();
    if !matches!(keyword.as_str(), "COPY" | "ADD") {
        return None;
    }
    let what = failure.message.strip_suffix(" not found")?;
    let Some(quoted) = what.strip_suffix("\":") else {
        return Some(format!("{keyword} failed: no source files were specified"));
    };
    let path = &quoted[quoted.rfind("\"/")? + 2..];
    let leads_out = |word: &&str| word.starts_with("../") && files::clean(word) == path;
    if let Some(word) = words.clone().find(leads_out) {
        return Some(format!("{keyword} failed: forbidden path outside the build context: {word} ()"));
    }
    let is_of_stage = words.any(|word| word.starts_with("--from="));
    let place = if is_of_stage { "" } else { "file not found in build context or excluded by .dockerignore: " };
    Some(format!("{keyword} failed: {place}stat {path}: file does not exist"))
}

fn short(digest: Option<&Digest>) -> String {
    digest.map(|digest| digest.hex()[..12].to_owned()).unwrap_or_default()
}

fn line(stream: String) -> JsonMessage {
    JsonMessage { stream, ..JsonMessage::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::failure::DockerfileText;
    use crate::progress::Reporter;

    #[test]
    fn failures_of_copies_are_worded_as_before() {
        let of = |instruction: &str, message: &str| {
            let dockerfile = DockerfileText { name: "Dockerfile".to_owned(), text: format!("FROM x\n{instruction}\n") };
            failure_text(&Failure {
                location: vec![LineRange { first: 2, last: 2 }],
                dockerfile: Some(Arc::new(dockerfile)),
                ..Failure::invalid(message)
            })
        };
        let missing = "file not found in build context or excluded by .dockerignore: stat sub/x: file does not exist";
        let [quoted, pattern] = ["failed to compute cache key: \"/sub/x\": not found", "failed: /none* not found"];
        for (instruction, message, expected) in [
            ("copy ./sub/x /", quoted, Some(format!("COPY failed: {missing}"))),
            ("ADD sub/x /", quoted, Some(format!("ADD failed: {missing}"))),
            ("COPY --from=a sub/x /", quoted, Some("COPY failed: stat sub/x: file does not exist".to_owned())),
            ("COPY none* /", pattern, Some("COPY failed: no source files were specified".to_owned())),
            (
                "COPY ../sub/x /",
                quoted,
                Some("COPY failed: forbidden path outside the build context: ../sub/x ()".to_owned()),
            ),
            ("RUN true", quoted, None),
            ("COPY x /", "no space left on device", None),
        ] {
            assert_eq!(of(instruction, message), expected, "{instruction}");
        }
    }

    #[test]
    fn steps_are_told_in_order() {
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let instructions = vec![
            Instruction { text: "FROM a".to_owned(), vertices: vec![one.clone()] },
            Instruction { text: "ENV A=1".to_owned(), vertices: Vec::new() },
            Instruction { text: "RUN make".to_owned(), vertices: vec![two.clone()] },
        ];
        let reporter = Reporter::new();
        let mut events = reporter.follow();
        reporter.tell(Event::Instructions(instructions));
        let second = reporter.begin(two, Vec::new(), "run");
        second.log(1, b"hello\n");
        reporter.begin(one, Vec::new(), "from").done();
        second.done();
        let mut stream = ClassicStream::new();
        let mut text = String::new();
        while let Ok(event) = events.try_recv() {
            text.extend(stream.take(event).into_iter().map(|message| message.stream));
        }
        let ids = (&Digest::sha256(b"1").hex()[..12].to_owned(), &Digest::sha256(b"2").hex()[..12].to_owned());
        let expected = format!(
            "Step 1/3 : FROM a\n ---> {}\nStep 2/3 : ENV A=1\nStep 3/3 : RUN make\n ---> Running in {}\nhello\n ---> {}\n",
            ids.0, ids.1, ids.1
        );
        assert_eq!(text, expected);
    }
}
