//! The states of a container and the steps between them, as one table.

use serde::{Deserialize, Serialize};

/// What a container is doing, as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Never started.
    Created,
    /// Its process lives.
    Running,
    /// Its process lives and is frozen.
    Paused,
    /// Between two runs of its restart policy.
    Restarting,
    /// Its process has ended.
    Exited,
}

impl Status {
    /// The word in `State.Status` of the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }

    /// A process of the container lives.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Docker's `State.Running`: live, or about to be by policy.
    pub(crate) fn counts_as_running(self) -> bool {
        self.is_live() || self == Self::Restarting
    }
}

/// What was begun, written ahead of doing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Intent {
    /// Nothing.
    #[default]
    None,
    /// The folder exists, nothing was acknowledged.
    Creating,
    /// Kernel objects may exist.
    Starting,
    /// Goes, whatever happens.
    Removing,
}

/// What moves a container from one status to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The process runs.
    Started,
    /// The process has ended for good.
    Ended,
    /// The process has ended and the policy starts it again.
    EndedForRestart,
    /// The cgroup was frozen.
    Paused,
    /// The cgroup was thawed.
    Resumed,
}

impl Status {
    /// The status after `step`, or `None` when the step is not legal here.
    pub(crate) fn after(self, step: Step) -> Option<Status> {
        use Status::{Created, Exited, Paused, Restarting, Running};
        let next = match (self, step) {
            (Created | Exited | Restarting, Step::Started) => Running,
            (Running | Paused, Step::EndedForRestart) => Restarting,
            (Running | Paused | Restarting, Step::Ended) => Exited,
            (Running, Step::Paused) => Paused,
            (Paused, Step::Resumed) => Running,
            _ => return None,
        };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_container_can_end() {
        assert_eq!(Status::Running.after(Step::Ended), Some(Status::Exited));
        assert_eq!(Status::Paused.after(Step::Ended), Some(Status::Exited));
        assert_eq!(Status::Created.after(Step::Ended), None);
        assert_eq!(Status::Exited.after(Step::Ended), None);
    }

    #[test]
    fn a_running_container_cannot_be_started() {
        assert_eq!(Status::Running.after(Step::Started), None);
        assert_eq!(Status::Paused.after(Step::Started), None);
        assert_eq!(Status::Restarting.after(Step::Started), Some(Status::Running));
    }

    #[test]
    fn pause_is_for_running_containers_alone() {
        assert_eq!(Status::Running.after(Step::Paused), Some(Status::Paused));
        assert_eq!(Status::Exited.after(Step::Paused), None);
        assert_eq!(Status::Paused.after(Step::Paused), None);
    }
}
