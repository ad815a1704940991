//! Settings of the image store: limits, the budget of the disk, which bytes are kept.

use ferry_engine::config::{ImageLimits, ImageStoreConfig};

use super::ConfigError;
use super::resolve::{Reader, bad, ram_in_bytes};

/// Reads what does not change while the daemon runs.
pub(super) fn image_store(read: &Reader<'_>) -> Result<ImageStoreConfig, ConfigError> {
    Ok(ImageStoreConfig { limits: limits(read)?, keep_blobs: read.flag("keep-blobs", true) })
}

/// Reads the budget: a size, with nothing and `0` for none.
pub(super) fn disk_budget(read: &Reader<'_>) -> Result<Option<u64>, ConfigError> {
    let bytes = read.bytes("disk-budget", 0)?;
    u64::try_from(bytes)
        .map(|bytes| Some(bytes).filter(|bytes| *bytes > 0))
        .map_err(|_| bad("disk-budget", &bytes.to_string(), "it must not be negative"))
}

fn limits(read: &Reader<'_>) -> Result<ImageLimits, ConfigError> {
    let mut limits = ImageLimits::default();
    for (name, text) in read.map("image-limit") {
        let wrong = |reason: &str| bad("image-limit", &format!("{name}={text}"), reason);
        let size = || ram_in_bytes(&text).and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let bytes = || size().ok_or_else(|| wrong("expected a size such as 64m"));
        let count = || text.parse::<u64>().ok().filter(|count| *count > 0).ok_or_else(|| wrong("expected a number"));
        match name.as_str() {
            "unpacked-bytes" => limits.unpacked_bytes = bytes()?,
            "header-bytes" => limits.header_bytes = bytes()?,
            "ratio-from-bytes" => limits.ratio_from_bytes = bytes()?,
            "entries" => limits.entries = count()?,
            "ratio" => limits.ratio = count()?,
            "path-depth" => limits.path_depth = usize::try_from(count()?).unwrap_or(usize::MAX),
            _ => {
                return Err(wrong(
                    "expected unpacked-bytes, entries, path-depth, header-bytes, ratio or ratio-from-bytes",
                ));
            }
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::super::parse::{Setting, Settings};
    use super::*;

    fn settings(name: &'static str, setting: Setting) -> Settings {
        Settings::from_iter([(name, setting)])
    }

    #[test]
    fn limits_are_read_by_name() {
        let given = |key: &str, value: &str| {
            let map = IndexMap::from([(key.to_owned(), value.to_owned())]);
            let settings = settings("image-limit", Setting::Map(map));
            limits(&Reader(&settings))
        };
        assert_eq!(given("unpacked-bytes", "64m").unwrap().unpacked_bytes, 64 << 20);
        assert_eq!(given("entries", "1000").unwrap().entries, 1000);
        for (key, value) in [("entries", "0"), ("entries", "many"), ("ratio-from-bytes", "-1"), ("layers", "3")] {
            assert!(given(key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn no_budget_is_the_default() {
        let read = |text: &str| {
            let settings = settings("disk-budget", Setting::Text(text.to_owned()));
            disk_budget(&Reader(&settings)).unwrap()
        };
        assert_eq!(disk_budget(&Reader(&Settings::new())).unwrap(), None);
        assert_eq!((read("0"), read("20g")), (None, Some(20 << 30)));
    }
}
