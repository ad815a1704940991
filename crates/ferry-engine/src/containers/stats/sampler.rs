//! One reader of a container's use for all who listen: it begins with the first of them and ends with the last.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferry_api::container::Stats;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::shape;
use crate::containers::{Container, Containers};

/// Docker's, too.
const INTERVAL: Duration = Duration::from_secs(1);

type Readings = watch::Sender<Option<Arc<Stats>>>;

/// The readings of one container while anybody listens.
#[derive(Default)]
pub(in crate::containers) struct Sampler(Mutex<Option<Arc<Readings>>>);

/// One listener. A slow one misses readings; it holds up nobody.
pub struct StatsSession {
    readings: watch::Receiver<Option<Arc<Stats>>>,
    previous: Option<Arc<Stats>>,
}

impl StatsSession {
    /// The next reading, with the one that this listener had before; `None` once the container is removed.
    pub async fn next(&mut self) -> Option<Stats> {
        self.readings.changed().await.ok()?;
        let now = self.readings.borrow_and_update().clone()?;
        let mut stats = Stats::clone(&now);
        if let Some(previous) = self.previous.replace(now) {
            stats.preread.clone_from(&previous.read);
            stats.precpu_stats = previous.cpu_stats.clone();
        }
        Some(stats)
    }
}

impl Sampler {
    /// Joins the readings that go on, or has them begun by `begin`.
    fn join(&self, begin: impl FnOnce(Arc<Readings>)) -> StatsSession {
        let mut current = self.0.lock().expect("no panic while held");
        let mut begin = Some(begin);
        let readings = current.get_or_insert_with(|| {
            let readings = Arc::new(watch::channel(None).0);
            if let Some(begin) = begin.take() {
                begin(Arc::clone(&readings));
            }
            readings
        });
        let mut receiver = readings.subscribe();
        if receiver.borrow().is_some() {
            // The last reading is at most a second old.
            receiver.mark_changed();
        }
        StatsSession { readings: receiver, previous: None }
    }

    /// Ends the readings unless somebody listens.
    fn ends(&self, readings: &Readings) -> bool {
        let mut current = self.0.lock().expect("no panic while held");
        // Nobody can join while the lock is held.
        let nobody = readings.receiver_count() == 0;
        if nobody {
            *current = None;
        }
        nobody
    }

    fn close(&self) {
        *self.0.lock().expect("no panic while held") = None;
    }
}

impl Containers {
    /// Listens from now on.
    pub(super) fn listen(&self, container: &Arc<Container>) -> StatsSession {
        container.sampler.join(|readings| {
            let (containers, container) = (self.clone(), Arc::clone(container));
            tokio::spawn(async move { containers.sample(&container, &readings).await });
        })
    }

    async fn sample(&self, container: &Arc<Container>, readings: &Readings) {
        let mut changes = container.watch();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = changes.wait_for(|change| change.removed) => return container.sampler.close(),
            }
            if container.sampler.ends(readings) {
                return;
            }
            let reading = match self.read_stats(container).await {
                Ok(reading) => reading,
                Err(error) => {
                    tracing::warn!(container = %container.name(), error = %error.text(), "reading skipped");
                    shape::nothing(container)
                }
            };
            readings.send_replace(Some(Arc::new(reading)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(total: u64) -> Option<Arc<Stats>> {
        let mut stats = Stats { read: format!("t{total}"), ..Stats::default() };
        stats.cpu_stats.cpu_usage.total_usage = total;
        Some(Arc::new(stats))
    }

    #[tokio::test]
    async fn listeners_share_the_readings_and_have_their_own_past() {
        let sampler = Sampler::default();
        let mut begun = None;
        let mut first = sampler.join(|readings| begun = Some(readings));
        let readings = begun.expect("the first listener begins");
        readings.send_replace(reading(1));
        let got = first.next().await.unwrap();
        assert_eq!((got.cpu_stats.cpu_usage.total_usage, got.preread.as_str()), (1, ""));
        let mut second = sampler.join(|_| panic!("one reader is enough"));
        assert_eq!(second.next().await.unwrap().read, "t1", "a late listener has the last reading at once");
        readings.send_replace(reading(2));
        readings.send_replace(reading(3));
        let got = second.next().await.unwrap();
        assert_eq!((got.read.as_str(), got.precpu_stats.cpu_usage.total_usage), ("t3", 1), "a slow one misses some");
        assert!(!sampler.ends(&readings));
        drop((first, second));
        assert!(sampler.ends(&readings));
    }

    #[tokio::test]
    async fn the_end_of_the_container_ends_the_session() {
        let sampler = Sampler::default();
        let mut begun = None;
        let mut session = sampler.join(|readings| begun = Some(readings));
        sampler.close();
        drop(begun);
        assert!(session.next().await.is_none());
    }
}
