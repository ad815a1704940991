//! The short way from this machine's own programs to published ports.
//!
//! What the firewall does to each packet of a connection to `127.0.0.1:8080` or another address of the host is done once here, when a
//! program connects: it is connected to the container itself. Programs cannot tell (they are answered what they asked for), and the
//! container sees whom it would have seen. Where it cannot be done (an old kernel, no right to, no cgroups of version 2) connections go
//! by the firewall's translation, which is there in any case: nobody depends on this.
//!
//! The programs (eBPF) live as long as `ferry-netd` holds their links, so they outlive the daemon, whose successor makes them anew. The
//! maps belong to the daemon: which port leads where, and the host's addresses, which a thread follows. Between a change of those and
//! its note, and with no daemon, the kernel has the last word on what is an address of this machine.

mod program;

use std::{
    collections::HashSet,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
};

use ferry_sys::bpf::{AddressHook, AddressProgram, HashMap, SocketStorage, namespace_cookie};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};

use crate::{
    netd::{client::Client, protocol::Publication},
    netlink::{self, Netlink},
    types::Protocol,
};

/// Where cgroups of version 2 are, alone and beside version 1.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// `CGROUP2_SUPER_MAGIC`
const CGROUP2: i64 = 0x6367_7270;
/// Every port of an address some times over.
const PORTS: u32 = 1 << 18;
const ADDRESSES: u32 = 1 << 14;
/// `RTNLGRP_IPV4_IFADDR`
const ADDRESS_GROUP: u32 = 5;
const STACK_BYTES: usize = 256 * 1024;

/// The short ways of one instance, as far as there are any.
#[derive(Debug)]
pub(crate) struct Shortcuts {
    /// Not where the firewall translates nothing, and not after it could not be done once.
    are_wanted: bool,
    programs: Option<Programs>,
    /// The process holds the programs' links.
    are_attached: bool,
}

impl Shortcuts {
    /// There are none yet.
    pub(crate) fn new(are_wanted: bool) -> Self {
        Self { are_wanted, programs: None, are_attached: false }
    }

    /// Takes the place of those that an earlier daemon made, which a living process holds.
    pub(crate) fn take_over<'a>(&mut self, client: &mut Client, held: impl Iterator<Item = &'a Publication>) {
        held.for_each(|publication| self.lead(client, publication));
        if !self.are_attached {
            give_back(client);
        }
    }

    /// Leads connections to a container's ports, for which there must be a process.
    pub(crate) fn lead(&mut self, client: &mut Client, publication: &Publication) {
        if !self.are_wanted || entries(publication).next().is_none() {
            return;
        }
        if let Err(error) = self.note(publication) {
            self.give_up(client, &error);
        } else if !self.are_attached {
            self.attach(client);
        }
    }

    /// Leads them no more.
    pub(crate) fn leave(&mut self, client: &mut Client, publication: &Publication) {
        let left = self.programs.as_ref().map_or(Ok(()), |programs| programs.leave(publication));
        if let Err(error) = left {
            self.give_up(client, &error);
        }
    }

    /// Goes on with a process that was started just now.
    pub(crate) fn process_started(&mut self, client: &mut Client) {
        self.are_attached = false;
        if self.programs.is_some() {
            self.attach(client);
        }
    }

    fn note(&mut self, publication: &Publication) -> io::Result<()> {
        if self.programs.is_none() {
            self.programs = Some(Programs::open()?);
        }
        self.programs.as_ref().map_or(Ok(()), |programs| programs.lead(publication))
    }

    fn attach(&mut self, client: &mut Client) {
        match self.programs.as_ref().map(Programs::attach).transpose() {
            Ok(links) => match client.shorten(&links.unwrap_or_default()) {
                Ok(()) => self.are_attached = true,
                // Of an earlier version, or killed meanwhile: then it is tried again with the next one.
                Err(error) => tracing::debug!(%error, "ferry-netd does not hold the short way to published ports"),
            },
            Err(error) => self.give_up(client, &error),
        }
    }

    fn give_up(&mut self, client: &mut Client, error: &io::Error) {
        tracing::debug!(%error, "there is no short way to published ports");
        *self = Self::new(false);
        give_back(client);
    }
}

/// What the process holds may lead to containers that have gone.
fn give_back(client: &mut Client) {
    if let Err(error) = client.shorten(&[]) {
        tracing::debug!(%error, "ferry-netd has no short way to give up");
    }
}

/// The maps and programs of one daemon.
#[derive(Debug)]
struct Programs {
    ports: HashMap<8, 8>,
    programs: Vec<AddressProgram>,
    /// Its closing ends the thread that follows addresses.
    _stop: OwnedFd,
}

impl Programs {
    /// Loads the programs for the calling thread's namespace. They do nothing before [`Self::attach`].
    fn open() -> io::Result<Self> {
        let ports = HashMap::new(c"ferry_ports", PORTS)?;
        let addresses = HashMap::new(c"ferry_addresses", ADDRESSES)?;
        let asked = SocketStorage::new(c"ferry_asked")?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let around = program::Surroundings {
            ports: ports.as_fd().as_raw_fd(),
            addresses: addresses.as_fd().as_raw_fd(),
            asked: asked.as_fd().as_raw_fd(),
            namespace: namespace_cookie(&socket)?,
        };
        let programs = vec![
            AddressProgram::load(c"ferry_peer", AddressHook::PeerName4, &program::peer_name4(&around))?,
            AddressProgram::load(c"ferry_name", AddressHook::SocketName4, &program::socket_name4(&around))?,
            // Attached last: what is led is to be answered for.
            AddressProgram::load(c"ferry_connect", AddressHook::Connect4, &program::connect4(&around))?,
        ];
        let stop = follow_addresses(addresses)?;
        Ok(Self { ports, programs, _stop: stop })
    }

    /// Has the programs run for the whole machine, while somebody holds what is returned.
    fn attach(&self) -> io::Result<Vec<OwnedFd>> {
        let cgroup = open_cgroup()?;
        self.programs.iter().map(|program| program.attach(cgroup.as_fd())).collect()
    }

    /// Leads connections to a container's ports.
    fn lead(&self, publication: &Publication) -> io::Result<()> {
        entries(publication).try_for_each(|(from, to)| self.ports.insert(&from, &to))
    }

    /// Leads them no more.
    fn leave(&self, publication: &Publication) -> io::Result<()> {
        entries(publication).map(|(from, _)| self.ports.remove(&from)).fold(Ok(()), Result::and)
    }
}

/// What leads where: TCP by IPv4, as far as it is translated.
fn entries(publication: &Publication) -> impl Iterator<Item = ([u8; 8], [u8; 8])> {
    let target = publication.target.v4;
    publication.ports.iter().filter_map(move |held| {
        let port = &held.port;
        match (port.host_ip, target) {
            (IpAddr::V4(from), Some(to)) if port.protocol == Protocol::Tcp && port.host_port != 0 => {
                Some((place(from, port.host_port), place(to, port.container_port)))
            }
            _ => None,
        }
    })
}

/// As the programs read it: the address, the port, and two bytes of nothing.
fn place(address: Ipv4Addr, port: u16) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    [a, b, c, d, high, low, 0, 0]
}

fn open_cgroup() -> io::Result<File> {
    for path in CGROUPS {
        let Ok(folder) = File::open(path) else { continue };
        #[expect(clippy::useless_conversion, reason = "the type of the field is not the same on every machine")]
        if rustix::fs::fstatfs(&folder).is_ok_and(|found| i64::from(found.f_type) == CGROUP2) {
            return Ok(folder);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no cgroups of version 2"))
}

/// Keeps the map of the host's addresses true in a thread, until what is returned is closed.
fn follow_addresses(map: HashMap<4, 4>) -> io::Result<OwnedFd> {
    // Listened to before they are listed: what changes in between is heard.
    let changes = Netlink::open_group(None, ADDRESS_GROUP)?;
    let lists = Netlink::open(None)?;
    let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut addresses = Addresses { map, lists, known: HashSet::new() };
    addresses.renew()?;
    thread::Builder::new()
        .name("ferry-addresses".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || addresses.follow(changes, &stopped))?;
    Ok(stop)
}

struct Addresses {
    map: HashMap<4, 4>,
    lists: Netlink,
    known: HashSet<Ipv4Addr>,
}

impl Addresses {
    fn follow(mut self, mut changes: Netlink, stopped: &OwnedFd) {
        loop {
            let mut fds = [PollFd::new(&changes, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            let polled = rustix::io::retry_on_intr(|| poll(&mut fds, None));
            if polled.is_err() || !fds[1].revents().is_empty() {
                return;
            }
            // What happened does not matter, nor whether something was missed.
            let _ = changes.events();
            if let Err(error) = self.renew() {
                tracing::debug!(%error, "addresses of the host are not known");
                self.forget();
            }
        }
    }

    fn renew(&mut self) -> io::Result<()> {
        let listed = netlink::route::addresses(&mut self.lists)?;
        let now: HashSet<_> = listed
            .into_iter()
            .filter_map(|(_, net)| match net.addr() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
            .collect();
        for gone in self.known.difference(&now) {
            self.map.remove(&gone.octets())?;
        }
        for new in now.difference(&self.known) {
            self.map.insert(&new.octets(), &[0; 4])?;
        }
        self.known = now;
        Ok(())
    }

    /// Connections to addresses that may not be ours go by the firewall.
    fn forget(&mut self) {
        for address in self.known.drain() {
            let _ = self.map.remove(&address.octets());
        }
    }
}
