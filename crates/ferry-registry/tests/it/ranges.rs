//! Large blobs over several connections.

use std::time::Duration;

use ferry_registry::{Client, ClientConfig, RangePolicy, Repository};
use ferry_spec::{Descriptor, media_type};

use crate::fake::{Fake, Origin};
use crate::{config, read, reference};

const SIZE: usize = 600_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|number| (number / 251) as u8 ^ number as u8).collect()
}

fn eager() -> RangePolicy {
    RangePolicy { helpers: 4, helpers_of_a_blob: 3, part_bytes: 60_000, patience: Duration::ZERO }
}

fn open(fake: &Fake, ranges: RangePolicy) -> Repository {
    let client = Client::new(ClientConfig { ranges, ..config() });
    client.repository(&reference(fake, "a:1"), None).unwrap()
}

/// The ranges that were asked for, in order of their beginnings; those up to the end have none.
fn ranges(fake: &Fake) -> Vec<(u64, Option<u64>)> {
    let mut ranges: Vec<_> = fake
        .seen()
        .into_iter()
        .filter(|seen| seen.origin == Origin::Storage)
        .filter_map(|seen| {
            let range = seen.range?;
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            Some((first.parse().unwrap(), last.parse().ok()))
        })
        .collect();
    ranges.sort_unstable();
    ranges
}

async fn slow_blob() -> (Fake, Descriptor) {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.trickle = true);
    let blob = fake.blob(media_type::OCI_LAYER_GZIP, content());
    (fake, blob)
}

#[tokio::test]
async fn a_slow_connection_is_helped() {
    let (fake, blob) = slow_blob().await;
    assert!(read(&open(&fake, eager()), &blob).await.unwrap() == content());
    let ranges = ranges(&fake);
    assert!(ranges.len() > 2, "{ranges:?}");
    assert!(ranges[0].0 > 0, "the first connection asked for all: {ranges:?}");
    for pair in ranges.windows(2) {
        assert!(pair[0].1.unwrap() < pair[1].0, "no byte is asked for twice: {ranges:?}");
    }
}

#[tokio::test]
async fn a_quick_connection_stays_alone() {
    let fake = Fake::start().await;
    let blob = fake.blob(media_type::OCI_LAYER_GZIP, content());
    let patient = RangePolicy { patience: Duration::from_secs(100), ..eager() };
    assert!(read(&open(&fake, patient), &blob).await.unwrap() == content());
    assert_eq!(ranges(&fake), []);
    assert_eq!(fake.bytes_sent(), SIZE as u64);
}

#[tokio::test]
async fn parts_that_break_off_go_on_and_what_cannot_be_helped_is_fetched_alone() {
    let (fake, blob) = slow_blob().await;
    fake.fault(|faults| faults.cuts = 3);
    assert!(read(&open(&fake, eager()), &blob).await.unwrap() == content());
    let (fake, blob) = slow_blob().await;
    fake.fault(|faults| faults.no_ranges = true);
    // As it ignores ranges, what comes trickles in whoever asks.
    fake.fault(|faults| faults.trickle = false);
    assert!(read(&open(&fake, eager()), &blob).await.unwrap() == content());
}

#[tokio::test]
async fn helpers_that_fail_cost_nothing_but_time() {
    let (fake, blob) = slow_blob().await;
    let repository = open(&fake, eager());
    let mut stream = repository.blob(&blob);
    let mut bytes = stream.next().await.unwrap().unwrap().to_vec();
    // Every helper is refused for good, which the first connection does not notice.
    fake.fault(|faults| faults.storage.extend([(403, None); 100]));
    while let Some(piece) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert!(bytes == content());
}

#[tokio::test]
async fn helpers_are_bounded_over_all_blobs() {
    let (fake, blob) = slow_blob().await;
    let repository = open(&fake, RangePolicy { helpers: 1, ..eager() });
    let reads = futures_util::future::join_all((0..3).map(|_| read(&repository, &blob))).await;
    for bytes in reads {
        assert!(bytes.unwrap() == content());
    }
}
