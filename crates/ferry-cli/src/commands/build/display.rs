//! One view of all builds of a command, and what is left to say when they have ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_api::build::{Event, Warning};
use ferry_dockerfile::Lines;
use ferry_dockerfile::source::excerpt;
use ferry_spec::digest::Digest;
use tokio::time::MissedTickBehavior;

use super::options::Progress;
use super::shown::Shown;
use crate::context::Context;
use crate::failure::Result;

/// How often the view on a terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// See the module.
pub(in crate::commands) struct Display<'a> {
    /// The command's surroundings.
    pub(super) context: &'a Context,
    progress: Progress,
    state: Mutex<State>,
    /// Whoever has the terminal, one after the other.
    terminal: tokio::sync::Mutex<()>,
}

struct State {
    shown: Shown,
    warnings: Vec<Warning>,
    /// The lines of the Dockerfile that failed, drawn.
    excerpt: String,
    /// Something was told.
    has_begun: bool,
    /// Somebody else has the terminal.
    is_held: bool,
}

impl<'a> Display<'a> {
    /// Nothing is shown yet.
    pub(in crate::commands) fn new(progress: Progress, context: &'a Context) -> Self {
        let shown = Shown::of(&progress);
        let state = State { shown, warnings: Vec::new(), excerpt: String::new(), has_begun: false, is_held: false };
        Self { context, progress, state: Mutex::new(state), terminal: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how builds go until they have ended; of one that failed, why.
    pub(in crate::commands) async fn around<T>(&self, builds: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(builds);
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            tokio::select! {
                outcome = &mut builds => break outcome,
                _ = frames.tick() => self.draw(false),
            }
        };
        self.draw(true);
        if outcome.is_err() {
            let state = self.state();
            self.context.printer.error_bytes(state.shown.failure().as_bytes());
            self.context.printer.error_bytes(state.excerpt.as_bytes());
        }
        outcome
    }

    fn draw(&self, is_last: bool) {
        let mut state = self.state();
        if state.has_begun && !state.is_held {
            state.shown.draw(self.context, is_last);
        }
    }

    /// Takes an event in; where several targets are built, with the name of the one that it is of.
    pub(super) fn take(&self, target: Option<&str>, mut event: Event) {
        if let Some(target) = target {
            relabel(&mut event, target, self.progress != Progress::Raw);
        }
        let mut state = self.state();
        state.has_begun = true;
        if let Event::Warning(warning) = &event {
            state.warnings.push(warning.clone());
        }
        state.shown.take(&event, self.context);
    }

    /// Keeps what is to be shown of a Dockerfile when all has ended.
    pub(super) fn blame(&self, excerpt: &str) {
        excerpt.clone_into(&mut self.state().excerpt);
    }

    /// Leaves the terminal to somebody else, when nobody else has it, until what is returned is dropped; what was drawn stays there.
    pub(super) async fn hold(&self) -> impl Drop {
        let turn = self.terminal.lock().await;
        self.draw(false);
        let mut state = self.state();
        state.is_held = true;
        state.shown.let_go();
        drop(state);
        Held { display: self, _turn: turn }
    }

    /// Tells warnings of the checks; at length with all that is known of each.
    pub(in crate::commands) fn warn(&self, is_long: bool) {
        let state = self.state();
        self.context.printer.error_bytes(warned(&state.warnings, &self.progress, is_long).as_bytes());
    }
}

struct Held<'a> {
    display: &'a Display<'a>,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.display.state().is_held = false;
    }
}

/// Names the target that an event is of, as buildx does. Steps that targets have in common are each target's own.
fn relabel(event: &mut Event, target: &str, is_own: bool) {
    let own = |digest: &mut Digest| {
        if is_own {
            *digest = Digest::sha256(format!("{target}/{digest}").as_bytes());
        }
    };
    match event {
        Event::Vertex(state) => {
            own(&mut state.digest);
            state.inputs.iter_mut().for_each(own);
            state.name = match state.name.strip_prefix('[') {
                Some(rest) => format!("[{target} {rest}"),
                None => format!("[{target}] {}", state.name),
            };
        }
        Event::Status(line) => own(&mut line.vertex),
        Event::Log(piece) => own(&mut piece.vertex),
        Event::Warning(warning) => own(&mut warning.vertex),
        Event::Instructions(all) => all.iter_mut().flat_map(|one| &mut one.vertices).for_each(own),
    }
}

/// Warnings of the checks, as they are told after a build.
fn warned(warnings: &[Warning], progress: &Progress, is_long: bool) -> String {
    if warnings.is_empty() || matches!(progress, Progress::Quiet | Progress::Raw) {
        return String::new();
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    let hint = if is_long { "" } else { " (use docker --debug to expand)" };
    let mut text = format!("\n {} warning{plural} found{hint}:\n", warnings.len());
    for warning in warnings {
        text.push_str(&format!(" - {}\n", warning.short));
        if !is_long {
            continue;
        }
        warning.detail.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        if !warning.url.is_empty() {
            text.push_str(&format!("More info: {}\n", warning.url));
        }
        let lines: Vec<_> = warning.lines.iter().map(|(first, last)| Lines::new(*first, *last)).collect();
        let source = String::from_utf8_lossy(&warning.source);
        text.push_str(&excerpt(&warning.file, &source, &lines).unwrap_or_default());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use ferry_api::build::VertexState;

    use super::*;

    #[test]
    fn steps_are_told_apart_by_their_targets() {
        let state = |name: &str| VertexState {
            digest: Digest::sha256(b"step"),
            inputs: vec![Digest::sha256(b"input")],
            name: name.to_owned(),
            started_ns: None,
            completed_ns: None,
            cached: false,
            error: String::new(),
            group: None,
        };
        let relabelled = |name: &str, target: &str, is_own: bool| {
            let mut event = Event::Vertex(state(name));
            relabel(&mut event, target, is_own);
            let Event::Vertex(state) = event else { panic!("another event") };
            state
        };
        let (one, other) = (relabelled("[1/2] RUN x", "one", true), relabelled("exporting", "other", true));
        assert_eq!((one.name.as_str(), other.name.as_str()), ("[one 1/2] RUN x", "[other] exporting"));
        assert!(one.digest != other.digest && one.inputs != other.inputs);
        assert_eq!(relabelled("x", "one", false).digest, Digest::sha256(b"step"));
    }
}
