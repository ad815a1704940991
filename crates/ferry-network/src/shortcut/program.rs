//! The programs' text. Pure.
//!
//! Numbers of registers, operations and helpers are those of `linux/bpf.h`; addresses and ports are in the network's order throughout.

use ferry_sys::bpf::Instruction;

/// Descriptors of the maps, and the namespace whose sockets are meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub(super) ports: i32,
    pub(super) addresses: i32,
    pub(super) asked: i32,
    pub(super) namespace: u64,
}

/// `struct bpf_sock_addr`.
mod context {
    pub(super) const ADDRESS: i16 = 4;
    /// Four numbers.
    pub(super) const ADDRESS6: i16 = 8;
    pub(super) const PORT: i16 = 24;
    pub(super) const PROTOCOL: i16 = 36;
    pub(super) const SOCKET: i16 = 64;
}
/// `struct bpf_sock`.
mod socket {
    pub(super) const LINK: i16 = 0;
    pub(super) const OWN_ADDRESS: i16 = 24;
    /// Four numbers.
    pub(super) const OWN_ADDRESS6: i16 = 28;
}

/// Helpers of the kernel.
mod helper {
    pub(super) const MAP_LOOKUP: i32 = 1;
    pub(super) const BIND: i32 = 64;
    pub(super) const SOCKET_STORAGE: i32 = 107;
    pub(super) const NAMESPACE_COOKIE: i32 = 122;
}

const LOAD_U32: u8 = 0x61;
const LOAD_U64: u8 = 0x79;
const STORE_U32: u8 = 0x63;
const STORE_NUMBER_U32: u8 = 0x62;
const STORE_NUMBER_U64: u8 = 0x7a;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const OR: u8 = 0x47;
const OR_REGISTER: u8 = 0x4f;
const CALL: u8 = 0x85;
const RETURN: u8 = 0x95;
const SET_U64: u8 = 0x18;
const JUMP: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
/// Of 32 bits, for numbers which as signed ones are below zero.
const IF_EQUAL_U32: u8 = 0x16;
const IF_OTHER: u8 = 0x55;
const IF_OTHER_REGISTER: u8 = 0x5d;

/// The stack's end.
const FRAME: u8 = 10;
/// What calls leave as they are.
const CONTEXT: u8 = 6;
const ADDRESS: u8 = 7;
const PORT: u8 = 8;
const TARGET: u8 = 9;

const TCP: i32 = 6;
/// The first byte of an address, and what it is in those of this machine alone.
const FIRST_BYTE: i32 = i32::from_ne_bytes([0xff, 0, 0, 0]);
const LOOPBACK: i32 = i32::from_ne_bytes([127, 0, 0, 0]);
const LOCALHOST: i32 = i32::from_ne_bytes([127, 0, 0, 1]);
/// The end of `::1`. As an address of IPv4 it is nobody's, so it stands for `::1` in maps.
const LOCALHOST6: i32 = i32::from_ne_bytes([0, 0, 0, 1]);
/// The third number of an IPv6 address that means one of IPv4.
const MAPPED: i32 = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// Behind the port in a key, for ports of IPv6 addresses.
pub(super) const KEY6: [u8; 2] = [6, 0];
const PORT_OF_6: i32 = i32::from_ne_bytes([0, 0, KEY6[0], KEY6[1]]);

/// On the stack: a key, and behind it a `struct sockaddr_in` or `struct sockaddr_in6`.
const KEY: i16 = -8;
const NAME: i16 = -24;
const NAME_BYTES: i32 = 16;
const NAME6: i16 = -36;
const NAME6_BYTES: i32 = 28;
const IPV4: u16 = 2;
const IPV6: u16 = 10;

const fn family_and_no_port(family: u16) -> i32 {
    let [first, second] = family.to_ne_bytes();
    i32::from_ne_bytes([first, second, 0, 0])
}

/// Leads a connection to a published port of an address of this machine to the container, as the firewall's translation would.
pub(super) fn connect4(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.add(LOAD_U32, 1, CONTEXT, context::PROTOCOL, 0).jump(IF_OTHER, 1, TCP, "end");
    // One that is bound to a link stays there, and one that is bound to an address keeps it.
    text.add(LOAD_U64, 1, CONTEXT, context::SOCKET, 0).jump(IF_EQUAL, 1, 0, "end");
    text.add(LOAD_U32, 2, 1, socket::LINK, 0).jump(IF_OTHER, 2, 0, "other");
    text.add(LOAD_U32, ADDRESS, 1, socket::OWN_ADDRESS, 0).jump(IF_EQUAL, ADDRESS, 0, "free");
    // But it may have got that address here, for a connection that came to nothing: then it is as free as it was.
    text.asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, 1, 0, 0, 0).jump_unless_same(1, ADDRESS, "other");
    text.add(STORE_NUMBER_U64, 0, 0, 0, 0).add(SET, 1, 0, 0, 0).bind(1).jump(IF_OTHER, 0, 0, "end");
    text.label("free").add(COPY, 1, CONTEXT, 0, 0).call(helper::NAMESPACE_COOKIE);
    text.number(1, 0, around.namespace).jump_unless_same(0, 1, "end");
    text.add(LOAD_U32, ADDRESS, CONTEXT, context::ADDRESS, 0).add(LOAD_U32, PORT, CONTEXT, context::PORT, 0);
    text.add(STORE_U32, FRAME, ADDRESS, KEY, 0).add(STORE_U32, FRAME, PORT, KEY + 4, 0);
    text.look_up(around.ports).jump(IF_OTHER, 0, 0, "found");
    // Published on every address.
    text.add(STORE_NUMBER_U32, FRAME, 0, KEY, 0).look_up(around.ports).jump(IF_EQUAL, 0, 0, "other");
    text.label("found").add(COPY, TARGET, 0, 0, 0);
    text.add(COPY, 1, ADDRESS, 0, 0).add(AND, 1, 0, 0, FIRST_BYTE).jump(IF_EQUAL, 1, LOOPBACK, "lead");
    text.add(STORE_U32, FRAME, ADDRESS, KEY, 0).look_up(around.addresses).jump(IF_EQUAL, 0, 0, "other");
    // Whoever connects to an address of the machine has that address. The kernel refuses if it is not ours any more.
    text.bind(ADDRESS).jump(IF_OTHER, 0, 0, "other");
    text.label("lead").turn(around.asked, context::ADDRESS);
    text.end()
}

/// Leads sockets for IPv6 that connect to a published port of a loopback address, `::1` or one of IPv4, as [`connect4`] does; to containers
/// that have IPv4 alone.
pub(super) fn connect6(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.add(LOAD_U32, 1, CONTEXT, context::PROTOCOL, 0).jump(IF_OTHER, 1, TCP, "end");
    text.add(LOAD_U64, 1, CONTEXT, context::SOCKET, 0).jump(IF_EQUAL, 1, 0, "end");
    text.add(LOAD_U32, 2, 1, socket::LINK, 0).jump(IF_OTHER, 2, 0, "other");
    text.add(LOAD_U32, ADDRESS, 1, socket::OWN_ADDRESS6, 0);
    for part in 1..4 {
        text.add(LOAD_U32, 2, 1, socket::OWN_ADDRESS6 + 4 * part, 0).add(OR_REGISTER, ADDRESS, 2, 0, 0);
    }
    // Who was led had no address of its own but what it was given here.
    text.jump(IF_EQUAL, ADDRESS, 0, "free").asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, 1, 0, 0, 0).jump(IF_EQUAL, 1, 0, "end");
    text.add(STORE_NUMBER_U64, 0, 0, 0, 0).bind6(0).jump(IF_OTHER, 0, 0, "end");
    text.label("free").add(COPY, 1, CONTEXT, 0, 0).call(helper::NAMESPACE_COOKIE);
    text.number(1, 0, around.namespace).jump_unless_same(0, 1, "end");
    text.add(LOAD_U32, 1, CONTEXT, context::ADDRESS6, 0).jump(IF_OTHER, 1, 0, "other");
    text.add(LOAD_U32, 1, CONTEXT, context::ADDRESS6 + 4, 0).jump(IF_OTHER, 1, 0, "other");
    text.add(LOAD_U32, ADDRESS, CONTEXT, context::ADDRESS6 + 12, 0).add(LOAD_U32, PORT, CONTEXT, context::PORT, 0);
    text.add(STORE_U32, FRAME, ADDRESS, KEY, 0).add(STORE_U32, FRAME, PORT, KEY + 4, 0);
    text.add(LOAD_U32, 1, CONTEXT, context::ADDRESS6 + 8, 0).jump(IF_EQUAL_U32, 1, MAPPED, "mapped");
    text.jump(IF_OTHER, 1, 0, "other").jump(IF_OTHER, ADDRESS, LOCALHOST6, "other");
    text.add(COPY, 1, PORT, 0, 0).add(OR, 1, 0, 0, PORT_OF_6).add(STORE_U32, FRAME, 1, KEY + 4, 0);
    text.jump(JUMP, 0, 0, "look");
    text.label("mapped").add(COPY, 1, ADDRESS, 0, 0).add(AND, 1, 0, 0, FIRST_BYTE).jump(IF_OTHER, 1, LOOPBACK, "other");
    text.label("look").look_up(around.ports).jump(IF_OTHER, 0, 0, "lead");
    text.add(STORE_NUMBER_U32, FRAME, 0, KEY, 0).look_up(around.ports).jump(IF_EQUAL, 0, 0, "other");
    text.label("lead").add(COPY, TARGET, 0, 0, 0).jump(IF_OTHER, ADDRESS, LOCALHOST6, "turn");
    // One that is for IPv6 alone cannot be led to an address of IPv4, and is refused any of them for its own.
    text.bind6(MAPPED).jump(IF_OTHER, 0, 0, "other");
    text.label("turn").add(SET, 1, 0, 0, MAPPED).add(STORE_U32, CONTEXT, 1, context::ADDRESS6 + 8, 0);
    text.turn(around.asked, context::ADDRESS6 + 12);
    text.end()
}

/// Answers whom a socket is connected to as if it had not been led.
pub(super) fn peer_name4(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, ADDRESS, 0, 0, 0).jump(IF_EQUAL, ADDRESS, 0, "end").add(LOAD_U32, PORT, 0, 4, 0);
    text.add(STORE_U32, CONTEXT, ADDRESS, context::ADDRESS, 0).add(STORE_U32, CONTEXT, PORT, context::PORT, 0);
    text.end()
}

/// Answers who a socket is: connected to a loopback address it would have one itself.
pub(super) fn socket_name4(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, 1, 0, 0, 0).add(AND, 1, 0, 0, FIRST_BYTE).jump(IF_OTHER, 1, LOOPBACK, "end");
    text.add(LOAD_U32, 1, CONTEXT, context::ADDRESS, 0)
        .add(AND, 1, 0, 0, FIRST_BYTE)
        .jump(IF_EQUAL, 1, LOOPBACK, "end");
    text.add(SET, 1, 0, 0, LOCALHOST).add(STORE_U32, CONTEXT, 1, context::ADDRESS, 0);
    text.end()
}

/// [`peer_name4`] for a socket for IPv6.
pub(super) fn peer_name6(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, ADDRESS, 0, 0, 0).jump(IF_EQUAL, ADDRESS, 0, "end").add(LOAD_U32, PORT, 0, 4, 0);
    text.add(STORE_U32, CONTEXT, PORT, context::PORT, 0);
    text.answer6();
    text.end()
}

/// [`socket_name4`] for a socket for IPv6, which is led from loopback addresses only.
pub(super) fn socket_name6(around: &Surroundings) -> Vec<Instruction> {
    let mut text = Text::begin();
    text.asked(around.asked, false).jump(IF_EQUAL, 0, 0, "end");
    text.add(LOAD_U32, ADDRESS, 0, 0, 0).jump(IF_EQUAL, ADDRESS, 0, "end");
    text.jump(IF_EQUAL, ADDRESS, LOCALHOST6, "six").add(SET, ADDRESS, 0, 0, LOCALHOST);
    text.label("six").answer6();
    text.end()
}

/// Instructions whose jumps know where they lead once all are there.
struct Text {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, &'static str)>,
    labels: Vec<(usize, &'static str)>,
}

impl Text {
    fn begin() -> Self {
        let mut text = Self { instructions: Vec::new(), jumps: Vec::new(), labels: Vec::new() };
        text.add(COPY, CONTEXT, 1, 0, 0);
        text
    }

    fn add(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> &mut Self {
        self.instructions.push(Instruction { code, registers: to | from << 4, offset, immediate });
        self
    }

    fn call(&mut self, helper: i32) -> &mut Self {
        self.add(CALL, 0, 0, 0, helper)
    }

    /// A number of 64 bits takes two places; `kind` 1 is the descriptor of a map.
    fn number(&mut self, to: u8, kind: u8, number: u64) -> &mut Self {
        let half = |number: u64| (number & u64::from(u32::MAX)) as u32 as i32;
        self.add(SET_U64, to, kind, 0, half(number)).add(0, 0, 0, 0, half(number >> 32))
    }

    fn map(&mut self, to: u8, map: i32) -> &mut Self {
        self.number(to, 1, u64::from(map.unsigned_abs()))
    }

    /// Looks the key on the stack up; register 0 points to what was found.
    fn look_up(&mut self, map: i32) -> &mut Self {
        self.map(1, map).add(COPY, 2, FRAME, 0, 0).add(ADD, 2, 0, 0, KEY.into()).call(helper::MAP_LOOKUP)
    }

    /// Turns the connection to the target, an address in that place of the context, and notes what was asked for. At "other" nothing is
    /// turned, and what an earlier connection may have noted is forgotten.
    fn turn(&mut self, asked: i32, address: i16) -> &mut Self {
        self.add(LOAD_U32, 1, TARGET, 0, 0).add(STORE_U32, CONTEXT, 1, address, 0);
        self.add(LOAD_U32, 1, TARGET, 4, 0).add(STORE_U32, CONTEXT, 1, context::PORT, 0);
        self.asked(asked, true).jump(IF_EQUAL, 0, 0, "end");
        self.add(STORE_U32, 0, ADDRESS, 0, 0).add(STORE_U32, 0, PORT, 4, 0).jump(JUMP, 0, 0, "end");
        self.label("other").asked(asked, false).jump(IF_EQUAL, 0, 0, "end");
        self.add(STORE_NUMBER_U64, 0, 0, 0, 0)
    }

    /// Gives the socket the address in a register, or none for 0; register 0 is 0 when that is done.
    fn bind(&mut self, address: u8) -> &mut Self {
        self.add(STORE_NUMBER_U32, FRAME, 0, NAME, family_and_no_port(IPV4));
        self.add(STORE_U32, FRAME, address, NAME + 4, 0).add(STORE_NUMBER_U64, FRAME, 0, NAME + 8, 0);
        self.add(COPY, 1, CONTEXT, 0, 0).add(COPY, 2, FRAME, 0, 0).add(ADD, 2, 0, 0, NAME.into());
        self.add(SET, 3, 0, 0, NAME_BYTES).call(helper::BIND)
    }

    /// Gives a socket for IPv6 no address: none at all, or with [`MAPPED`] none of IPv4; register 0 is 0 when that is done.
    fn bind6(&mut self, kind: i32) -> &mut Self {
        for (at, number) in (0..).step_by(4).zip([family_and_no_port(IPV6), 0, 0, 0, kind, 0, 0]) {
            self.add(STORE_NUMBER_U32, FRAME, 0, NAME6 + at, number);
        }
        self.add(COPY, 1, CONTEXT, 0, 0).add(COPY, 2, FRAME, 0, 0).add(ADD, 2, 0, 0, NAME6.into());
        self.add(SET, 3, 0, 0, NAME6_BYTES).call(helper::BIND)
    }

    /// Answers the address in its register: `::1` or one of IPv4.
    fn answer6(&mut self) -> &mut Self {
        self.add(SET, 1, 0, 0, 0);
        self.add(STORE_U32, CONTEXT, 1, context::ADDRESS6, 0).add(STORE_U32, CONTEXT, 1, context::ADDRESS6 + 4, 0);
        self.jump(IF_EQUAL, ADDRESS, LOCALHOST6, "native").add(SET, 1, 0, 0, MAPPED);
        self.label("native").add(STORE_U32, CONTEXT, 1, context::ADDRESS6 + 8, 0);
        self.add(STORE_U32, CONTEXT, ADDRESS, context::ADDRESS6 + 12, 0)
    }

    /// What a socket asked for, an address and a port; register 0 points to it.
    fn asked(&mut self, map: i32, create: bool) -> &mut Self {
        self.map(1, map).add(LOAD_U64, 2, CONTEXT, context::SOCKET, 0).jump(IF_EQUAL, 2, 0, "end");
        self.add(SET, 3, 0, 0, 0).add(SET, 4, 0, 0, create.into()).call(helper::SOCKET_STORAGE)
    }

    fn jump(&mut self, code: u8, register: u8, number: i32, label: &'static str) -> &mut Self {
        self.jumps.push((self.instructions.len(), label));
        self.add(code, register, 0, 0, number)
    }

    fn jump_unless_same(&mut self, one: u8, two: u8, label: &'static str) -> &mut Self {
        self.jumps.push((self.instructions.len(), label));
        self.add(IF_OTHER_REGISTER, one, two, 0, 0)
    }

    fn label(&mut self, label: &'static str) -> &mut Self {
        self.labels.push((self.instructions.len(), label));
        self
    }

    /// Whatever happened, the call goes on.
    fn end(mut self) -> Vec<Instruction> {
        self.label("end").add(SET, 0, 0, 0, 1).add(RETURN, 0, 0, 0, 0);
        for (at, label) in &self.jumps {
            let to = self.labels.iter().find(|(_, named)| named == label).map_or(0, |(to, _)| *to);
            self.instructions[*at].offset = (to as i64 - *at as i64 - 1) as i16;
        }
        self.instructions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings = Surroundings { ports: 3, addresses: 4, asked: 5, namespace: 0x1_0000_0002 };

    #[test]
    fn jumps_lead_forward_to_instructions() {
        let four = [connect4(&AROUND), peer_name4(&AROUND), socket_name4(&AROUND)];
        let six = [connect6(&AROUND), peer_name6(&AROUND), socket_name6(&AROUND)];
        for program in four.into_iter().chain(six) {
            for (at, instruction) in program.iter().enumerate() {
                let is_jump = [JUMP, IF_EQUAL, IF_EQUAL_U32, IF_OTHER, IF_OTHER_REGISTER].contains(&instruction.code);
                if is_jump {
                    assert!(instruction.offset >= 0, "{at}: {instruction:?}");
                    let to = at + 1 + instruction.offset as usize;
                    assert!(to < program.len(), "{at}: {instruction:?}");
                    // Never into the second half of a number.
                    assert!(program[to].code != 0, "{at}: {instruction:?}");
                }
            }
            assert_eq!(program.last().map(|instruction| instruction.code), Some(RETURN));
        }
    }

    #[test]
    fn only_sockets_of_the_namespace_are_led() {
        for program in [connect4(&AROUND), connect6(&AROUND)] {
            let at =
                program.iter().position(|i| i.code == CALL && i.immediate == helper::NAMESPACE_COOKIE).expect("asked");
            assert_eq!((program[at + 1].immediate, program[at + 2].immediate), (2, 1));
            assert_eq!(program[at + 3].code, IF_OTHER_REGISTER);
            assert!(
                program[..at]
                    .iter()
                    .all(|instruction| instruction.immediate != helper::MAP_LOOKUP || instruction.code != CALL)
            );
        }
    }
}
