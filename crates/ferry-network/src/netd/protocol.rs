//! Messages between the daemon and `ferry-netd`: one JSON line each way, sockets beside the request.
//!
//! A daemon speaks to a process that an older or newer daemon may have started, so fields are only
//! ever added, with defaults.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Named, PortTarget, PublishedPort, ResolverSpec};

/// Sockets that travel with one request.
pub(crate) const SOCKETS_PER_REQUEST: usize = 200;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Hold these ports of a container, besides those that it has.
    Hold(Publication),
    /// Close all sockets of a container, and its relayed connections.
    Release {
        /// The container.
        container_id: String,
    },
    /// Hold what comes with this, in the place of what came before: with it programs of this machine have a short way to published ports.
    Shorten,
    /// Give copies of what is held so, which a daemon goes on from.
    Shortened,
    /// Tell what is held.
    List,
    /// Answer a container's questions: a datagram and a stream socket come the first time, none with a change.
    Resolve(ResolverSpec),
    /// These are a container's names in a network from now on.
    Join(Named),
    /// It has none there any more.
    Leave {
        /// The network.
        network_id: String,
        /// The container.
        container_id: String,
    },
    /// Close a container's resolver and forget its names.
    Forget {
        /// The container.
        container_id: String,
    },
    /// Tell which containers are answered.
    Resolvers,
    /// Tell over this connection from now on what addresses watched names have; each line is answered by a line.
    Watch,
    /// Say that there is somebody. One of an earlier version says that it does not understand, which is an answer, too.
    Ping,
}

/// Ports of a container, and where connections to them go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    pub(crate) container_id: String,
    #[serde(flatten)]
    pub(crate) target: PortTarget,
    pub(crate) ports: Vec<HeldPort>,
}

impl Publication {
    /// Returns the ports alone.
    pub(crate) fn published(&self) -> Vec<PublishedPort> {
        self.ports.iter().map(|held| held.port.clone()).collect()
    }
}

/// A port, and whether a socket holds it: the kernel may lack the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldPort {
    #[serde(flatten)]
    pub(crate) port: PublishedPort,
    pub(crate) has_socket: bool,
}

/// What a container is about to hear of a watched name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Learnt {
    pub(crate) container_id: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// How long it may keep them, in seconds.
    pub(crate) ttl_s: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// What is held, one publication for each container.
    Holding(Vec<Publication>),
    /// The containers that are answered.
    Resolving(Vec<String>),
    /// It could not be done.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::types::Protocol;

    #[test]
    fn messages_are_single_lines_that_read_back() {
        let port = PublishedPort {
            host_ip: "::".parse().expect("an address"),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            from: Vec::new(),
        };
        let publication = Publication {
            container_id: "c1".to_owned(),
            target: PortTarget { v4: Some(Ipv4Addr::new(172, 17, 0, 2)), ..PortTarget::default() },
            ports: vec![HeldPort { port, has_socket: true }],
        };
        let text = serde_json::to_string(&Request::Hold(publication.clone())).expect("serialisable");
        assert_eq!(
            text,
            r#"{"hold":{"container_id":"c1","v4":"172.17.0.2","v6":null,"ports":[{"host_ip":"::","host_port":8080,"container_port":80,"protocol":"tcp","has_socket":true}]}}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&text).expect("readable"), Request::Hold(publication));
        assert_eq!(serde_json::from_str::<Request>("\"list\"").expect("readable"), Request::List);
    }
}
