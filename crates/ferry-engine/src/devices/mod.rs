//! Devices that a driver gives: `--gpus`, and `--device vendor.com/class=name` of the container device interface (CDI).
//!
//! Specifications are read anew for each container and each `info`: they are few, and whoever writes one expects it to count at once.

mod cdi;
mod edits;

use std::path::PathBuf;

use ferry_api::container::DeviceRequest;
use ferry_api::system::DeviceInfo;
use ferry_spec::runtime::Spec;

use crate::error::{Error, Result};

use self::cdi::Registry;

/// Devices of drivers that this host has.
pub(crate) struct Devices {
    folders: Vec<PathBuf>,
}

/// What `info` tells.
pub(crate) struct Listing {
    /// Every device.
    pub(crate) devices: Vec<DeviceInfo>,
    /// Specifications that cannot be used.
    pub(crate) warnings: Vec<String>,
}

/// Vendors whose devices answer to `--gpus`, in the order in which they are looked for.
const GPU_VENDORS: [&str; 2] = ["nvidia.com", "amd.com"];

impl Devices {
    /// Looks into these folders, a later one before an earlier one.
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Puts the devices of requests into a configuration. Blocks.
    ///
    /// # Errors
    /// Docker's texts for what cannot be had.
    pub(crate) fn inject(&self, requests: &[DeviceRequest], spec: &mut Spec) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let registry = Registry::read(&self.folders);
        for request in requests {
            let names = names(request, &registry)?;
            registry
                .inject(&names, spec)
                .map_err(|error| Error::internal(format!("CDI device injection failed: {error}")))?;
        }
        Ok(())
    }

    /// Lists what there is. Blocks.
    pub(crate) fn list(&self) -> Listing {
        let registry = Registry::read(&self.folders);
        let device = |id: String| DeviceInfo { source: "cdi".to_owned(), id };
        let warning = |(path, error): &(PathBuf, String)| {
            format!("CDI: Error associated with spec file {}: {error}", path.display())
        };
        Listing {
            devices: registry.names().map(device).collect(),
            warnings: registry.errors.iter().map(warning).collect(),
        }
    }
}

/// The qualified names that a request stands for.
fn names(request: &DeviceRequest, registry: &Registry) -> Result<Vec<String>> {
    let ids = request.device_ids.clone().unwrap_or_default();
    if request.driver == "cdi" {
        if request.count != 0 {
            return Err(Error::internal("unexpected count in CDI device request"));
        }
        if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(Error::internal("unexpected options in CDI device request"));
        }
        return Ok(ids);
    }
    let kind = gpu_kind(request, registry)?;
    if request.count != 0 && !ids.is_empty() {
        return Err(Error::internal("cannot set both Count and DeviceIDs on device request"));
    }
    let wanted = match request.count {
        0 => ids,
        count if count < 0 => vec!["all".to_owned()],
        count => (0..count).map(|number| number.to_string()).collect(),
    };
    let qualified = |id: String| if id.contains('=') { id } else { format!("{kind}={id}") };
    Ok(wanted.into_iter().map(qualified).collect())
}

/// Which kind of devices a request without a name means.
fn gpu_kind(request: &DeviceRequest, registry: &Registry) -> Result<String> {
    let known: &[&str] = match request.driver.as_str() {
        "" if asks_for_gpus(request) => &GPU_VENDORS,
        "nvidia" | "nvidia.cdi" => &GPU_VENDORS[..1],
        "amd" => &GPU_VENDORS[1..],
        _ => return Err(no_driver(request)),
    };
    let mut kinds = known.iter().map(|vendor| format!("{vendor}/gpu"));
    kinds
        .find(|kind| registry.has_kind(kind))
        .ok_or_else(|| Error::internal("failed to discover GPU vendor from CDI: no known GPU vendor found"))
}

/// One of the lists of capabilities holds nothing that a GPU has not.
fn asks_for_gpus(request: &DeviceRequest) -> bool {
    const OF_GPUS: [&str; 9] =
        ["gpu", "nvidia", "amd", "compute", "compat32", "graphics", "utility", "video", "display"];
    let mut lists = request.capabilities.iter().flatten();
    lists.any(|list| list.iter().all(|capability| OF_GPUS.contains(&capability.as_str())))
}

fn no_driver(request: &DeviceRequest) -> Error {
    let lists: Vec<String> =
        request.capabilities.iter().flatten().map(|list| format!("[{}]", list.join(" "))).collect();
    Error::internal(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        lists.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPUS: &str = r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": "0", "containerEdits": {"env": ["GPU=0"]}}, {"name": "all", "containerEdits": {"env": ["GPU=all"]}}]}"#;

    fn devices(text: &str) -> (tempfile::TempDir, Devices) {
        let dir = tempfile::tempdir().unwrap();
        if !text.is_empty() {
            std::fs::write(dir.path().join("a.json"), text).unwrap();
        }
        let devices = Devices::new(vec![dir.path().join("none"), dir.path().to_owned()]);
        (dir, devices)
    }

    fn injected(devices: &Devices, request: DeviceRequest) -> Result<Vec<String>> {
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        devices.inject(&[request], &mut spec)?;
        Ok(spec.process.unwrap().env)
    }

    fn gpus(count: i64, ids: &[&str]) -> DeviceRequest {
        DeviceRequest {
            count,
            device_ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }
    }

    #[test]
    fn gpus_are_devices_of_a_known_vendor() {
        let (_dir, devices) = devices(GPUS);
        assert_eq!(injected(&devices, gpus(-1, &[])).unwrap(), ["GPU=all"]);
        assert_eq!(injected(&devices, gpus(1, &[])).unwrap(), ["GPU=0"]);
        assert_eq!(injected(&devices, gpus(0, &["nvidia.com/gpu=0"])).unwrap(), ["GPU=0"]);
        let both = injected(&devices, gpus(1, &["0"])).unwrap_err().text();
        assert_eq!(both, "cannot set both Count and DeviceIDs on device request");
        let missing = injected(&devices, gpus(0, &["7"])).unwrap_err().text();
        assert_eq!(missing, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7");
    }

    #[test]
    fn without_a_driver_docker_says_so() {
        let (_dir, devices) = devices("");
        let text = |request| injected(&devices, request).unwrap_err().text();
        assert_eq!(text(gpus(1, &[])), "failed to discover GPU vendor from CDI: no known GPU vendor found");
        let other = DeviceRequest { driver: "nope".into(), ..gpus(1, &[]) };
        assert_eq!(text(other), "could not select device driver \"nope\" with capabilities: [[gpu]]");
        let named = |count| DeviceRequest {
            driver: "cdi".into(),
            count,
            device_ids: Some(vec!["v.com/c=n".into()]),
            ..DeviceRequest::default()
        };
        assert_eq!(text(named(0)), "CDI device injection failed: unresolvable CDI devices v.com/c=n");
        assert_eq!(text(named(1)), "unexpected count in CDI device request");
        assert!(devices.list().devices.is_empty() && devices.list().warnings.is_empty());
    }

    #[test]
    fn specifications_that_cannot_be_read_are_told() {
        let (dir, devices) = devices(r#"{"cdiVersion": "0.6.0", "kind": "nope", "devices": []}"#);
        let listing = devices.list();
        let path = dir.path().join("a.json");
        assert!(listing.warnings[0].starts_with(&format!("CDI: Error associated with spec file {}: ", path.display())));
        std::fs::write(&path, GPUS).unwrap();
        let ids: Vec<String> = devices.list().devices.into_iter().map(|device| device.id).collect();
        assert_eq!(ids, ["nvidia.com/gpu=0", "nvidia.com/gpu=all"]);
    }
}
