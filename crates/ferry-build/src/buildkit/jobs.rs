//! Builds that clients have begun: where their calls meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferry_buildkit_proto::grpc::{Code, Status};
use ferry_buildkit_proto::messages::gateway::SolveResult;
use tokio::sync::{Notify, oneshot, watch};

use crate::builder::Built;
use crate::progress::Reporter;
use crate::solve::SolveOptions;

/// Time in which a build must have begun that a call speaks of, as in BuildKit.
const PATIENCE: Duration = Duration::from_secs(6);
/// Time for which a build that has ended can still be asked how it went: a client may ask late.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Bytes of output that are kept of a build that has ended.
pub(super) const LOGS_KEPT: usize = 1 << 20;

/// All builds; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Jobs(Arc<Inner>);

#[derive(Default)]
struct Inner {
    all: Mutex<HashMap<String, Arc<Job>>>,
    begun: Notify,
}

/// What the client says when it has driven its build to the end.
pub(super) type Returned = Result<Option<SolveResult>, Status>;

/// A build.
pub(super) struct Job {
    pub(super) reference: String,
    pub(super) reporter: Reporter,
    pub(super) session: String,
    /// What every solve of it is allowed.
    pub(super) options: SolveOptions,
    results: Mutex<HashMap<String, Built>>,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
    is_over: watch::Sender<bool>,
}

impl Job {
    /// Keeps what was built; returns the name that it goes by.
    pub(super) fn keep(&self, built: Built) -> String {
        let name = format!("{:032x}", rand::random::<u128>());
        self.results().insert(name.clone(), built);
        name
    }

    /// Everything that was built, by its names.
    pub(super) fn kept(&self) -> Vec<(String, Built)> {
        self.results().iter().map(|(name, built)| (name.clone(), built.clone())).collect()
    }

    /// What was built, by its name.
    pub(super) fn result(&self, name: &str) -> Option<Built> {
        self.results().get(name).cloned()
    }

    /// Takes what the client says at the end.
    pub(super) fn take_return(&self, returned: Returned) {
        let waiting = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            // Whoever waited has left: the build has ended already.
            let _ = waiting.send(returned);
        }
    }

    /// Waits until it is over.
    pub(super) async fn over(&self) {
        let mut watched = self.is_over.subscribe();
        // Its own sender lives as long as it does.
        let _ = watched.wait_for(|over| *over).await;
    }

    fn results(&self) -> std::sync::MutexGuard<'_, HashMap<String, Built>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    /// Begins a build. It is over when what is returned first is dropped; the second hears what the client says at the end.
    pub(super) fn begin(
        &self,
        reference: &str,
        session: &str,
        options: SolveOptions,
    ) -> Result<(Running, oneshot::Receiver<Returned>), Status> {
        let (sender, returned) = oneshot::channel();
        let job = Arc::new(Job {
            reference: reference.to_owned(),
            reporter: Reporter::new(),
            session: session.to_owned(),
            options,
            results: Mutex::default(),
            returned: Mutex::new(Some(sender)),
            is_over: watch::Sender::new(false),
        });
        let mut all = self.all();
        if all.get(reference).is_some_and(|known| !*known.is_over.borrow()) {
            return Err(Status::new(Code::Unknown, format!("job ID {reference} exists")));
        }
        all.insert(reference.to_owned(), Arc::clone(&job));
        drop(all);
        self.0.begun.notify_waiters();
        Ok((Running { jobs: self.clone(), job }, returned))
    }

    /// Finds a build; waits a moment for one that has not begun.
    pub(super) async fn find(&self, reference: &str) -> Result<Arc<Job>, Status> {
        let waiting = async {
            loop {
                let begun = self.0.begun.notified();
                tokio::pin!(begun);
                begun.as_mut().enable();
                let found = self.all().get(reference).cloned();
                match found {
                    Some(job) => return job,
                    None => begun.await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.map_err(|_| Status::new(Code::NotFound, format!("no such job {reference}")))
    }

    /// What builds that go on have built, by its names.
    pub(super) fn kept(&self) -> HashMap<String, Built> {
        let all: Vec<Arc<Job>> = self.all().values().cloned().collect();
        all.iter().flat_map(|job| job.kept()).collect()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, job: &Arc<Job>) {
        let mut all = self.all();
        if all.get(&job.reference).is_some_and(|known| Arc::ptr_eq(known, job)) {
            all.remove(&job.reference);
        }
    }
}

/// A build that goes on; it is over with this.
pub(super) struct Running {
    jobs: Jobs,
    pub(super) job: Arc<Job>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.is_over.send_replace(true);
        // What was built is kept by names and by the cache from here on.
        self.job.results().clear();
        self.job.reporter.finish();
        self.job.reporter.keep_logs(LOGS_KEPT);
        let (jobs, job) = (self.jobs.clone(), Arc::clone(&self.job));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return jobs.forget(&job) };
        runtime.spawn(async move {
            tokio::time::sleep(REMEMBERED).await;
            jobs.forget(&job);
        });
    }
}
