//! Who builds: what clients decide by.

use std::collections::BTreeMap;

use ferry_buildkit_proto::grpc::Status;
use ferry_buildkit_proto::messages::control::{
    BuildkitVersion, InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, WorkerRecord,
};
use ferry_buildkit_proto::messages::ops;
use ferry_spec::platform::Platform;

use super::BuildKit;
use crate::failure::Failure;

/// Where labels of workers begin.
const LABEL: &str = "org.mobyproject.buildkit.worker.";

/// Who builds.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// The program's version.
    pub version: String,
    /// What it was made from.
    pub revision: String,
}

impl Worker {
    pub(super) fn info(&self, InfoRequest {}: InfoRequest) -> InfoResponse {
        InfoResponse { buildkit_version: Some(self.buildkit_version()) }
    }

    fn buildkit_version(&self) -> BuildkitVersion {
        BuildkitVersion {
            package: "ferry".to_owned(),
            version: format!("v{}-ferry", self.version),
            revision: self.revision.clone(),
            dockerfile_version: String::new(),
        }
    }

    fn labels(&self, host_gateway: Option<String>) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = [
            ("executor", "oci".to_owned()),
            ("hostname", rustix::system::uname().nodename().to_string_lossy().into_owned()),
            ("network", "host".to_owned()),
            // By this clients know that images are kept with their indexes, and may have several platforms.
            ("snapshotter", "overlayfs".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{LABEL}{name}"), value))
        .collect();
        if let Some(address) = host_gateway {
            labels.insert(format!("{LABEL}moby.host-gateway-ip"), address);
        }
        labels
    }
}

impl BuildKit {
    pub(super) async fn list_workers(&self, _request: ListWorkersRequest) -> Result<ListWorkersResponse, Status> {
        Ok(ListWorkersResponse { record: vec![self.worker_record().await?] })
    }

    pub(super) async fn worker_record(&self) -> Result<WorkerRecord, Status> {
        let info = self.builder.ground().engine.system.info().await;
        let info = info.map_err(|error| super::status_of(&Failure::from(error)))?;
        Ok(WorkerRecord {
            id: info.id,
            labels: self.worker.labels(self.host_gateway().await),
            platforms: vec![platform(&Platform::host())],
            buildkit_version: Some(self.worker.buildkit_version()),
        })
    }
}

impl BuildKit {
    /// The address by which steps reach the host: `--add-host NAME:host-gateway` means it, and clients look it up here.
    async fn host_gateway(&self) -> Option<String> {
        // A host may have no default bridge.
        let bridge = self.builder.ground().engine.networks.inspect("bridge", "").await.ok()?;
        let gateways = bridge.ipam.config.into_iter().flatten().map(|subnet| subnet.gateway);
        gateways.into_iter().find(|gateway| gateway.parse::<std::net::Ipv4Addr>().is_ok())
    }
}

fn platform(platform: &Platform) -> ops::Platform {
    ops::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: String::new(),
    }
}
