//! Signal names and numbers of Linux, as Docker's clients write them.

/// Name without `SIG`, and number; x86 and ARM agree.
const TABLE: [(&str, i32); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3`; `None` when there is no such signal.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = TABLE.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    real_time(name)
}

/// Writes a signal as people know it: `SIGTERM`, or `signal 40`.
#[must_use]
pub fn name(number: i32) -> String {
    match TABLE.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

fn real_time(name: &str) -> Option<i32> {
    let (base, rest, sign) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (RTMIN, rest, '+'),
        (_, Some(rest)) => (RTMAX, rest, '-'),
        _ => return None,
    };
    let offset = match rest.strip_prefix(sign) {
        Some(digits) => digits.parse::<i32>().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset))?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    Some(if sign == '+' { base + offset } else { base - offset })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_numbers_and_real_time() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN", Some(34)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIG", None),
            ("RTMIN-1", None),
            ("RTMIN+99", None),
            ("-9", None),
        ];
        for (text, signal) in cases {
            assert_eq!(parse(text), signal, "{text}");
        }
    }
}
