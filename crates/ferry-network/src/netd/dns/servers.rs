//! The name servers behind ours: those that a container was given, or the host's, whose file is followed.

use std::{net::SocketAddr, time::SystemTime};

use crate::{files, types::ResolverSpec};

const PORT: u16 = 53;

/// The host's servers as last read.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    changed: Option<SystemTime>,
    host: Vec<SocketAddr>,
}

impl Servers {
    /// Servers to ask for a container, in order; none where its networks have no way out.
    pub(crate) fn of(&mut self, resolver: &ResolverSpec) -> Vec<SocketAddr> {
        if !resolver.forwards {
            return Vec::new();
        }
        if !resolver.servers.is_empty() {
            return resolver.servers.iter().map(|&server| SocketAddr::new(server, PORT)).collect();
        }
        let changed = std::fs::metadata("/etc/resolv.conf").and_then(|file| file.modified()).ok();
        if changed.is_none() || changed != self.changed {
            self.changed = changed;
            self.host = files::host_name_servers().into_iter().map(|server| SocketAddr::new(server, PORT)).collect();
        }
        self.host.clone()
    }
}
