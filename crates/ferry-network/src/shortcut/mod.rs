//! The short way from this machine's own programs to published ports.
//!
//! What the firewall does to each packet of a connection to `127.0.0.1:8080` or another address of the host is done once here, when a
//! program connects: it is connected to the container itself. Programs cannot tell (they are answered what they asked for), and the
//! container sees whom it would have seen. Where it cannot be done (an old kernel, no right to, no cgroups of version 2) connections go
//! by the firewall's translation, which is there in any case: nobody depends on this.
//!
//! The programs (eBPF) live as long as `ferry-netd` holds their links, so they outlive the daemon, whose successor makes them anew. What
//! they noted with each socket it goes on from; the other maps are the daemon's own: which port leads where, and the host's addresses,
//! which a thread follows. Between a change of those and its note, and with no daemon, the kernel has the last word on what is an address
//! of this machine.

mod program;

use std::{
    collections::HashSet,
    ffi::CStr,
    fs::File,
    io, iter, mem,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
};

use ferry_sys::bpf::{AddressHook, AddressProgram, HashMap, Instruction, SocketStorage, namespace_cookie};
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
/// Programs of one family of addresses: two that answer names, and one that leads.
const FAMILY: usize = 3;

/// The short ways of one instance, as far as there are any.
#[derive(Debug)]
pub(crate) struct Shortcuts {
    /// Not where the firewall translates nothing, and not after it could not be done once.
    are_wanted: bool,
    programs: Option<Programs>,
    /// What the process holds of an earlier daemon's, but for the programs that lead.
    earlier: Vec<OwnedFd>,
    /// The process holds the programs' links.
    are_attached: bool,
}

impl Shortcuts {
    /// There are none yet.
    pub(crate) fn new(are_wanted: bool) -> Self {
        Self { are_wanted, programs: None, earlier: Vec::new(), are_attached: false }
    }

    /// Takes the place of those that an earlier daemon made, which a living process holds.
    pub(crate) fn take_over<'a>(&mut self, client: &mut Client, held: impl Iterator<Item = &'a Publication>) {
        self.earlier = client.shortened().unwrap_or_default();
        self.earlier.truncate(self.earlier.len() - self.earlier.len() / FAMILY);
        held.for_each(|publication| self.lead(client, publication));
        if !self.are_attached {
            self.earlier.clear();
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
            let noted = self.earlier.first().and_then(|first| SocketStorage::take(first.try_clone().ok()?).ok());
            self.programs = Some(Programs::open(noted)?);
        }
        self.programs.as_ref().map_or(Ok(()), |programs| programs.lead(publication))
    }

    fn attach(&mut self, client: &mut Client) {
        // Two programs that both lead would undo each other's notes; in between, connections are translated.
        let earlier = mem::take(&mut self.earlier);
        if !earlier.is_empty()
            && let Err(error) = client.shorten(&earlier)
        {
            tracing::debug!(%error, "ferry-netd goes on with an earlier short way to published ports");
        }
        match self.programs.as_ref().map(Programs::attach).transpose() {
            Ok(held) => match client.shorten(&held.unwrap_or_default()) {
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
    /// What sockets that were led had asked for.
    asked: SocketStorage,
    programs: Vec<AddressProgram>,
    /// Its closing ends the thread that follows addresses.
    _stop: OwnedFd,
}

impl Programs {
    /// Loads the programs for the calling thread's namespace. They do nothing before [`Self::attach`].
    fn open(noted: Option<SocketStorage>) -> io::Result<Self> {
        let ports = HashMap::new(c"ferry_ports", PORTS)?;
        let addresses = HashMap::new(c"ferry_addresses", ADDRESSES)?;
        let asked = noted.map_or_else(|| SocketStorage::new(c"ferry_asked"), Ok)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let around = program::Surroundings {
            ports: ports.as_fd().as_raw_fd(),
            addresses: addresses.as_fd().as_raw_fd(),
            asked: asked.as_fd().as_raw_fd(),
            namespace: namespace_cookie(&socket)?,
        };
        let mut programs = load(&around, &FOUR)?;
        match load(&around, &SIX) {
            Ok(six) => programs.extend(six),
            Err(error) => tracing::debug!(%error, "there is no short way to published ports by IPv6"),
        }
        // Attached last: what is led is to be answered for.
        programs.sort_by_key(|program| program.hook().is_connect());
        let stop = follow_addresses(addresses)?;
        Ok(Self { ports, asked, programs, _stop: stop })
    }

    /// Has the programs run for the whole machine, while somebody holds what is returned: what they note, and their links, last those
    /// of the ones which lead.
    fn attach(&self) -> io::Result<Vec<OwnedFd>> {
        let cgroup = open_cgroup()?;
        let links = self.programs.iter().map(|program| program.attach(cgroup.as_fd()));
        iter::once(self.asked.copy()).chain(links).collect()
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

type Write = fn(&program::Surroundings) -> Vec<Instruction>;

const FOUR: [(&CStr, AddressHook, Write); FAMILY] = [
    (c"ferry_peer4", AddressHook::PeerName4, program::peer_name4),
    (c"ferry_name4", AddressHook::SocketName4, program::socket_name4),
    (c"ferry_connect4", AddressHook::Connect4, program::connect4),
];
const SIX: [(&CStr, AddressHook, Write); FAMILY] = [
    (c"ferry_peer6", AddressHook::PeerName6, program::peer_name6),
    (c"ferry_name6", AddressHook::SocketName6, program::socket_name6),
    (c"ferry_connect6", AddressHook::Connect6, program::connect6),
];

fn load(around: &program::Surroundings, family: &[(&CStr, AddressHook, Write)]) -> io::Result<Vec<AddressProgram>> {
    family.iter().map(|(name, hook, write)| AddressProgram::load(name, *hook, &write(around))).collect()
}

/// What leads where: TCP to containers' IPv4 addresses, as far as it is translated or relayed.
fn entries(publication: &Publication) -> impl Iterator<Item = ([u8; 8], [u8; 8])> {
    let target = &publication.target;
    publication.ports.iter().filter_map(move |held| {
        let port = &held.port;
        let to = place(target.v4?, port.container_port, [0; 2]);
        if port.protocol != Protocol::Tcp || port.host_port == 0 {
            return None;
        }
        match port.host_ip {
            IpAddr::V4(from) => Some((place(from, port.host_port, [0; 2]), to)),
            // Of all addresses only `::1` is led, and not past a container's own IPv6 address.
            IpAddr::V6(from) if target.v6.is_none() && (from.is_unspecified() || from.is_loopback()) => {
                let [.., end] = from.octets();
                Some((place(Ipv4Addr::from_bits(end.into()), port.host_port, program::KEY6), to))
            }
            IpAddr::V6(_) => None,
        }
    })
}

/// As the programs read it: the address, the port, and what kind of address it is.
fn place(address: Ipv4Addr, port: u16, kind: [u8; 2]) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    [a, b, c, d, high, low, kind[0], kind[1]]
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
