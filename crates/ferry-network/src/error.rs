//! What can go wrong, in the words that Docker's clients look for.

use std::{io, net::IpAddr, net::SocketAddr, path::PathBuf};

use crate::types::Protocol;

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel call failed.
    #[error("{call} {object}")]
    Kernel {
        /// What was tried.
        call: &'static str,
        /// On which object.
        object: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program that is needed could not be run.
    #[error("run {program}")]
    Program {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A firewall program refused what it was given.
    #[error("{program} failed: {text}")]
    Firewall {
        /// The program.
        program: String,
        /// What it printed.
        text: String,
    },
    /// A published port is held by another container of this instance.
    #[error("Bind for {host_ip}:{host_port} failed: port is already allocated")]
    PortAllocated {
        /// The host address asked for.
        host_ip: IpAddr,
        /// The host port asked for.
        host_port: u16,
    },
    /// A published port is held by somebody else on the host, or may not be bound.
    #[error("failed to bind host port {}/{protocol}: {reason}", SocketAddr::new(*host_ip, *host_port))]
    PortBind {
        /// The host address asked for.
        host_ip: IpAddr,
        /// The host port asked for.
        host_port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's reason, lower case.
        reason: String,
    },
    /// No port of the host's ephemeral range is free.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// A link of the wanted name exists and belongs to somebody else.
    #[error("link {link} exists and {owner}")]
    LinkTaken {
        /// The link's name.
        link: String,
        /// Who has it.
        owner: String,
    },
    /// A link that should be there is not.
    #[error("link {0} does not exist")]
    NoSuchLink(String),
    /// The link that a container's own is to live on is not there.
    #[error("the requested parent interface {0} was not found on the Docker host")]
    NoParent(String),
    /// The kernel cannot make links of a kind.
    #[error("the kernel has no {0} links: it is built without them and has no module for them")]
    NoKind(&'static str),
    /// The kernel cannot make packets wait, get lost or go another way.
    #[error("the kernel has no `{0}` to shape traffic with: it is built without it and has no module for it")]
    NoQueueing(&'static str),
    /// The kernel refused a link on a parent.
    #[error("failed to create the {kind} port on {parent}")]
    ChildRefused {
        /// `macvlan` or `ipvlan`.
        kind: &'static str,
        /// The parent.
        parent: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A bridge has as many ports as the kernel lets it have.
    #[error("bridge {0} is full: the kernel gives a bridge 1023 ports; put further containers into another network")]
    BridgeFull(String),
    /// Every subnet of the default pools meets a route or address of the host.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    NoSubnet,
    /// `ferry-netd` does not answer as it should.
    #[error("ferry-netd: {0}")]
    Netd(String),
    /// It ended, or stopped answering, while it was asked.
    #[error("ferry-netd ended while it was asked")]
    NetdLost(#[source] io::Error),
    /// A thread could not be started in a network namespace.
    #[error("enter network namespace")]
    Namespace(#[source] io::Error),
    /// A value is not acceptable.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn kernel(call: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel { call, object: object.into(), source }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
