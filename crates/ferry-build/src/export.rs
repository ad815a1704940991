//! From trees and plans to images.

use ferry_spec::image::{History, ImageConfig, RootFs};

use crate::clock::{now_ns, rfc3339};
use crate::tree::Layers;

/// What an exporter says of layers that no instruction made.
const EXPORTER: &str = "buildkit.exporter.image.v0";

/// Completes a configuration with the layers it is for.
///
/// Entries of the history get the times of their layers; those without a layer the time of the one before, or of the first new one. `epoch`
/// (seconds) is put in place of everything that was made since the base image.
pub(crate) fn complete(
    mut image: ImageConfig,
    layers: &Layers,
    base: Option<&ImageConfig>,
    epoch: Option<i64>,
) -> ImageConfig {
    let of_base = base.map_or(0, |base| base.history.len()).min(image.history.len());
    // That of the base image speaks of its layers alone.
    image.build_cache.clear();
    align(&mut image.history, layers);
    fill_times(&mut image.history);
    if let Some(epoch) = epoch {
        date(&mut image, of_base, epoch);
    }
    image.rootfs =
        RootFs { kind: "layers".to_owned(), diff_ids: layers.0.iter().map(|layer| layer.diff_id.clone()).collect() };
    if image.created.is_none() {
        image.created =
            image.history.iter().rev().find_map(|entry| entry.created.clone()).or_else(|| Some(rfc3339(now_ns())));
    }
    image
}

/// Puts a moment, in seconds, in place of when things were made, but for the first entries of the history, which are those of the base image.
pub(crate) fn date(image: &mut ImageConfig, of_base: usize, epoch: i64) {
    let epoch = epoch.saturating_mul(1_000_000_000);
    let text = rfc3339(epoch);
    for entry in image.history.iter_mut().skip(of_base) {
        if entry.created.as_deref().is_none_or(|created| is_after(created, epoch)) {
            entry.created = Some(text.clone());
        }
    }
    image.created = Some(text);
}

fn is_after(created: &str, epoch_ns: i64) -> bool {
    created.parse::<jiff::Timestamp>().is_ok_and(|time| time.as_nanosecond() > i128::from(epoch_ns))
}

/// As many entries with a layer as there are layers.
fn align(history: &mut Vec<History>, layers: &Layers) {
    let mut times = layers.0.iter().map(|layer| layer.created_ns.map(rfc3339));
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        match times.next() {
            Some(time) => entry.created = entry.created.take().or(time),
            None => entry.empty_layer = true,
        }
    }
    for time in times {
        history.push(History { created: time, comment: EXPORTER.to_owned(), ..History::default() });
    }
}

fn fill_times(history: &mut [History]) {
    let mut created: Option<String> = None;
    let mut is_missing = false;
    for entry in history.iter() {
        if entry.created.is_some() {
            created.clone_from(&entry.created);
            if is_missing {
                break;
            }
        } else {
            is_missing = true;
        }
    }
    is_missing = false;
    for entry in history.iter_mut() {
        if entry.created.is_some() {
            if is_missing {
                created.clone_from(&entry.created);
            }
        } else {
            is_missing = true;
            entry.created.clone_from(&created);
        }
    }
}

#[cfg(test)]
mod tests {
    use ferry_spec::{Descriptor, DiffId, Digest, media_type};

    use super::*;
    use crate::tree::BuiltLayer;

    fn layer(created_ns: Option<i64>) -> BuiltLayer {
        BuiltLayer {
            descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256(b"x"), 1),
            diff_id: DiffId(Digest::sha256(b"x")),
            created_ns,
            size_bytes: 0,
            foreign: created_ns.is_none(),
        }
    }

    fn entry(created: Option<&str>, empty_layer: bool) -> History {
        History { created: created.map(str::to_owned), empty_layer, ..History::default() }
    }

    #[test]
    fn entries_get_the_times_of_their_layers() {
        let base = ImageConfig { history: vec![entry(Some("2020-01-01T00:00:00Z"), false)], ..ImageConfig::default() };
        let history = vec![base.history[0].clone(), entry(None, true), entry(None, false), entry(None, true)];
        let image = ImageConfig { history, ..ImageConfig::default() };
        let layers = Layers::of(vec![layer(None), layer(Some(1_700_000_000_000_000_000))]);
        let done = complete(image.clone(), &layers, Some(&base), None);
        let times: Vec<_> = done.history.iter().map(|entry| entry.created.clone().unwrap()).collect();
        let made = "2023-11-14T22:13:20Z";
        assert_eq!(times, ["2020-01-01T00:00:00Z", made, made, made]);
        assert_eq!(done.created.as_deref(), Some(made));
        assert_eq!(done.rootfs.diff_ids.len(), 2);
        let done = complete(image, &layers, Some(&base), Some(1_600_000_000));
        assert_eq!(done.created.as_deref(), Some("2020-09-13T12:26:40Z"));
        assert_eq!(done.history[0].created.as_deref(), Some("2020-01-01T00:00:00Z"));
        assert_eq!(done.history[2].created.as_deref(), Some("2020-09-13T12:26:40Z"));
    }

    #[test]
    fn layers_and_entries_are_brought_together() {
        let layers = Layers::of(vec![layer(Some(0))]);
        let none = complete(ImageConfig::default(), &layers, None, None);
        assert_eq!(none.history[0].comment, EXPORTER);
        let many = ImageConfig { history: vec![entry(None, false), entry(None, false)], ..ImageConfig::default() };
        let many = complete(many, &layers, None, None);
        assert!(!many.history[0].empty_layer && many.history[1].empty_layer);
    }
}
