//! The name servers behind ours: those that a container was given, or the host's, whose file is followed.

use std::{net::SocketAddr, time::SystemTime};

use crate::{egress, files, types::ResolverSpec};

const PORT: u16 = 53;

/// The host's servers as last read.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    changed: Option<SystemTime>,
    host: Vec<SocketAddr>,
}

impl Servers {
    /// Servers to ask for a name for a container, in order; none where its networks have no way out, or it may not ask for the name.
    pub(crate) fn of(&mut self, resolver: &ResolverSpec, name: &str) -> Vec<SocketAddr> {
        if !resolver.forwards {
            return Vec::new();
        }
        let mut servers = self.all_of(resolver);
        if let Some(nets) = &resolver.asked_in
            && !resolver.watched.iter().any(|watched| egress::matches(watched, name))
        {
            servers.retain(|server| nets.iter().any(|net| net.contains(&server.ip())));
        }
        servers
    }

    fn all_of(&mut self, resolver: &ResolverSpec) -> Vec<SocketAddr> {
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
