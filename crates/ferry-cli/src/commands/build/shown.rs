//! How a build is shown while it goes on: as lines, as a view on a terminal, as events.

use ferry_api::build::Event;

use super::options::Progress;
use super::plain::Plain;
use super::terminal::View;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{stderr_is_terminal, stderr_size};

/// How progress is shown.
pub(in crate::commands) enum Shown {
    Nothing,
    Plain(Plain),
    Terminal(Box<View>),
    Raw,
}

impl Shown {
    /// As lines.
    pub(in crate::commands) fn plain() -> Self {
        Self::Plain(Plain::default())
    }

    /// As on a terminal.
    pub(in crate::commands) fn terminal() -> Self {
        Self::Terminal(Box::new(View::new(now_ns())))
    }

    /// By the word of `--progress`; empty is the word's default.
    pub(in crate::commands) fn named(word: &str) -> Result<Self> {
        Ok(Self::of(&Progress::named(word)?))
    }

    pub(super) fn of(progress: &Progress) -> Self {
        match progress {
            Progress::Quiet => Self::Nothing,
            Progress::Raw => Self::Raw,
            Progress::Terminal => Self::terminal(),
            Progress::Auto if stderr_is_terminal() => Self::terminal(),
            Progress::Auto | Progress::Plain => Self::plain(),
        }
    }

    pub(in crate::commands) fn take(&mut self, event: &Event, context: &Context) {
        match self {
            Self::Nothing => {}
            Self::Plain(plain) => context.printer.error_bytes(plain.take(event).as_bytes()),
            Self::Terminal(view) => view.take(event),
            Self::Raw => {
                if let Ok(text) = serde_json::to_string(event) {
                    context.printer.note(&text);
                }
            }
        }
    }

    pub(in crate::commands) fn draw(&mut self, context: &Context, is_last: bool) {
        if let Self::Terminal(view) = self {
            let (height, width) = stderr_size().unwrap_or((24, 80));
            let text = view.draw(now_ns(), usize::from(height), usize::from(width), is_last);
            context.printer.error_bytes(text.as_bytes());
        }
    }

    /// Leaves what was drawn as it is; what is drawn next comes below.
    pub(super) fn let_go(&mut self) {
        if let Self::Terminal(view) = self {
            view.let_go();
        }
    }

    pub(super) fn failure(&self) -> String {
        match self {
            Self::Plain(plain) => plain.failure(),
            Self::Terminal(view) => view.failure(),
            Self::Nothing | Self::Raw => String::new(),
        }
    }
}

fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
