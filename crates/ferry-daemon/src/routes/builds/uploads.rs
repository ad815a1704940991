//! Contexts that come with a request of their own: before it spoke to BuildKit itself Docker's client posted `docker build - <context.tar`
//! twice, once for the build (`remote=upload-request`) and once for the archive (`buildid=upload-request:ID`), in no order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_build::session::Session;
use hyper::StatusCode;
use tokio::sync::oneshot;

use crate::http::error::ApiError;

/// How long one of the two waits for the other to come, as in Docker.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was uploaded, or why it was not.
type Context = Result<Session, String>;

/// Who came first, and waits.
enum First {
    Build(oneshot::Sender<oneshot::Receiver<Context>>),
    Upload(oneshot::Sender<oneshot::Sender<Context>>),
}

/// Those that wait, by the build's id.
pub(crate) struct Uploads {
    waiting: Mutex<HashMap<String, First>>,
    patience: Duration,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { waiting: Mutex::default(), patience: PATIENCE }
    }
}

impl Uploads {
    /// Waits for what a build's context comes with, and until it is there.
    pub(super) async fn context(&self, id: &str) -> Result<Session, ApiError> {
        let coming = match self.meet_upload(id) {
            Ok(coming) => coming,
            Err(upload) => self.wait(id, upload).await?,
        };
        match coming.await {
            Ok(context) => context.map_err(|reason| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, reason)),
            Err(_) => Err(failed("the upload of the build context has ended")),
        }
    }

    /// Waits for the build that an upload is for; returns where the context goes.
    pub(super) async fn build(&self, id: &str) -> Result<oneshot::Sender<Context>, ApiError> {
        match self.meet_build(id) {
            Ok(goal) => Ok(goal),
            Err(build) => self.wait(id, build).await,
        }
    }

    fn meet_upload(
        &self,
        id: &str,
    ) -> Result<oneshot::Receiver<Context>, oneshot::Receiver<oneshot::Receiver<Context>>> {
        let mut waiting = self.waiting();
        if let Some(First::Upload(upload)) = waiting.remove(id) {
            let (goal, coming) = oneshot::channel();
            if upload.send(goal).is_ok() {
                return Ok(coming);
            }
        }
        let (met, upload) = oneshot::channel();
        waiting.insert(id.to_owned(), First::Build(met));
        Err(upload)
    }

    fn meet_build(&self, id: &str) -> Result<oneshot::Sender<Context>, oneshot::Receiver<oneshot::Sender<Context>>> {
        let mut waiting = self.waiting();
        if let Some(First::Build(build)) = waiting.remove(id) {
            let (goal, coming) = oneshot::channel();
            if build.send(coming).is_ok() {
                return Ok(goal);
            }
        }
        let (met, build) = oneshot::channel();
        waiting.insert(id.to_owned(), First::Upload(met));
        Err(build)
    }

    /// One that has waited in vain, or is not waited for any more, does not stay in the list.
    async fn wait<T>(&self, id: &str, other: oneshot::Receiver<T>) -> Result<T, ApiError> {
        let place = Place { uploads: self, id };
        let met = tokio::time::timeout(self.patience, other).await;
        drop(place);
        match met {
            Ok(Ok(met)) => Ok(met),
            Ok(Err(_)) => Err(failed("another request has taken the place of this one")),
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, First>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the list that somebody waits in.
struct Place<'a> {
    uploads: &'a Uploads,
    id: &'a str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.uploads.waiting().retain(|id, first| {
            let is_left = match first {
                First::Build(met) => met.is_closed(),
                First::Upload(met) => met.is_closed(),
            };
            id != self.id || !is_left
        });
    }
}

fn failed(text: &str) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn context(uploads: &Uploads, id: &str) -> String {
        uploads.context(id).await.map_or_else(|error| error.message, |_| "a context".to_owned())
    }

    #[tokio::test]
    async fn either_may_come_first() {
        for upload_first in [true, false] {
            let uploads = Uploads::default();
            let build = context(&uploads, "a");
            let upload =
                async { uploads.build("a").await.is_ok_and(|goal| goal.send(Err("cut short".to_owned())).is_ok()) };
            let (text, sent) = match upload_first {
                true => {
                    let (sent, text) = tokio::join!(upload, build);
                    (text, sent)
                }
                false => tokio::join!(build, upload),
            };
            assert_eq!((text.as_str(), sent), ("cut short", true));
            assert!(uploads.waiting().is_empty());
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_or_stays_in_the_list() {
        let uploads = Uploads { patience: Duration::from_millis(20), ..Uploads::default() };
        assert_eq!(context(&uploads, "a").await, "context deadline exceeded");
        let error = uploads.build("b").await.map_or_else(|error| error.message, |_| "a build".to_owned());
        assert_eq!(error, "context deadline exceeded");
        assert!(uploads.waiting().is_empty());
        let uploads = Uploads::default();
        let given_up = tokio::time::timeout(Duration::from_millis(20), uploads.context("c")).await;
        assert!(given_up.is_err() && uploads.waiting().is_empty());
        // An upload that goes in the middle is told.
        let goes = async { drop(uploads.build("d").await) };
        let (text, ()) = tokio::join!(context(&uploads, "d"), goes);
        assert_eq!(text, "the upload of the build context has ended");
    }
}
