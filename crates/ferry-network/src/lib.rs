//! Networks of containers: bridges, endpoints, address pools, published ports, firewall.
//!
//! Owns every link, nftables table, rule, resolver and held socket of an engine instance, all marked with the
//! instance's id (`ferry:<instance>:<object>` as link alias, `ferry_<instance>` as table). Leaves out
//! which networks and containers there are: the engine tells it, and tells it again after a restart.
//!
//! Invariants:
//! - synchronous: every call blocks, none takes longer than a few kernel calls, unless a program of
//!   the host (`nft`, `iptables`) has to be run;
//! - a link, rule or socket without this instance's mark is never changed or removed;
//! - nothing waits for a network namespace to disappear: the kernel needs tens of milliseconds.

pub mod address_pool;
mod bridge;
mod child;
mod conntrack;
mod egress;
mod endpoint;
mod error;
pub mod files;
mod firewall;
mod learning;
pub mod mac;
mod netd;
mod netlink;
mod networking;
mod ports;
mod resolver;
mod sandbox;
mod shaping;
mod shortcut;
mod solicited;
mod subnet;
mod sysctl;
mod types;

pub use crate::{
    egress::{Count, Egress, EgressRule, EgressTarget, Flows},
    error::Error,
    netd::server::run as run_netd,
    networking::Networking,
    resolver::RESOLVER,
    sandbox::Sandbox,
    shaping::Shaping,
    types::{
        BridgeSpec, ChildKind, ChildSpec, EndpointSpec, FamilySpec, FirewallMark, GatewayMode, InstanceId,
        InvalidInstanceId, InvalidMac, IpvlanFlag, IpvlanMode, Live, MacAddr, MacvlanMode, Named, NetworkName, Options,
        ParentSpec, PortRequest, PortTarget, Protocol, PublishedPort, ResolverSpec, StaticRoute, Swept,
    },
};
