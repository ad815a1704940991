//! The closed list of normalisers: what may differ between two runs of one engine.
//!
//! 1. ids: 64 hex digits become `<id>`, a word of exactly 12 becomes `<id12>`;
//! 2. times: RFC 3339 and Go's `2006-01-02 15:04:05 +0000 UTC` become `<time>` (the zero time stays);
//! 3. durations people read (`2 seconds`, `About a minute`) become `<duration>`;
//! 4. addresses of container networks become `<ip>`, hardware addresses `<mac>`;
//! 5. ephemeral ports (32768 to 65535) become `<port>`;
//! 6. folders and sockets of the engine and `$HOME` become `<root>`, `<exec>`, `<host>`, `<home>`;
//! 7. runs of spaces become two, spaces at a line's end go: columns are as wide as what is in them;
//! 8. in inspected fields a process id that is not 0 becomes `<pid>`.
//!
//! Every normaliser leaves its own result alone, so normalised text can be normalised again.

use serde_json::Value;

/// What stands for the places of one engine.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Pairs of text and what stands for it, longest first.
    pub replacements: Vec<(String, &'static str)>,
}

/// Normalises text.
#[must_use]
pub fn text(raw: &str, places: &Places) -> String {
    let mut text = raw.replace("\r\n", "\n");
    for (place, name) in &places.replacements {
        text = text.replace(place, name);
    }
    let lines: Vec<String> = text.lines().map(|line| spaces(&tokens(&durations(&go_times(line))))).collect();
    lines.join("\n")
}

/// Normalises a JSON value, keys and all.
#[must_use]
pub fn json(value: &Value, places: &Places) -> Value {
    match value {
        Value::String(string) => Value::String(text(string, places)),
        Value::Array(list) => list.iter().map(|item| json(item, places)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let value = if key == "Pid" && value.as_u64().is_some_and(|pid| pid > 0) {
                    Value::String("<pid>".to_owned())
                } else {
                    json(value, places)
                };
                (text(key, places), value)
            })
            .collect(),
        other => other.clone(),
    }
}

/// Normalises the value at a dotted path: its last key decides about process ids.
#[must_use]
pub fn field(path: &str, value: &Value, places: &Places) -> Value {
    let key = path.rsplit('.').next().unwrap_or_default();
    json(&serde_json::json!({ key: value }), places)[key].clone()
}

fn spaces(line: &str) -> String {
    let mut out = String::new();
    let mut run = 0;
    for character in line.trim_end().chars() {
        if character == ' ' {
            run += 1;
            continue;
        }
        out.push_str(["", " ", "  "][run.min(2)]);
        run = 0;
        out.push(character);
    }
    out
}

/// Replaces `2006-01-02 15:04:05[.9] +0000 UTC`.
fn go_times(line: &str) -> String {
    const SHAPE: &str = "dddd-dd-dd dd:dd:dd";
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        if shaped(rest, SHAPE) && !rest.starts_with("0001-") {
            let after = rest[SHAPE.len()..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            let zone = after.strip_prefix(" +0000 UTC").or_else(|| after.strip_prefix(" +0000"));
            out.push_str("<time>");
            rest = zone.unwrap_or(after);
            continue;
        }
        let (head, tail) = rest.split_at(rest.chars().next().map_or(1, char::len_utf8));
        out.push_str(head);
        rest = tail;
    }
    out
}

fn shaped(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
}

fn durations(line: &str) -> String {
    let mut text = line.to_owned();
    for words in ["Less than a second", "About a minute", "About an hour"] {
        text = text.replace(words, "<duration>");
    }
    let mut out: Vec<&str> = Vec::new();
    for word in text.split(' ') {
        let bare = word.trim_end_matches([')', ',', '"']);
        let unit = matches!(bare, "second" | "seconds" | "minute" | "minutes" | "hour" | "hours" | "months" | "years");
        let counted = out.last().is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
        if unit && counted {
            out.pop();
            out.push("<duration>");
            if bare.len() < word.len() {
                out.push(&word[bare.len()..]);
            }
        } else {
            out.push(word);
        }
    }
    out.join(" ")
        .replace("<duration> )", "<duration>)")
        .replace("<duration> \"", "<duration>\"")
        .replace("<duration> ,", "<duration>,")
}

/// Cuts a line into words of letters, digits and what ids, times and addresses hold, and replaces
/// those that are such.
fn tokens(line: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for character in line.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '.' | ':' | '-' | '+' | '_') {
            word.push(character);
        } else {
            out.push_str(&token(&word));
            word.clear();
            out.push(character);
        }
    }
    out.push_str(&token(&word));
    out
}

fn token(word: &str) -> String {
    // What ends a sentence is no part of it.
    if let Some(bare) = word.strip_suffix('.').filter(|bare| !bare.is_empty()) {
        return format!("{}.", token(bare));
    }
    if shaped(word, "dddd-dd-ddTdd:dd:dd") && !word.starts_with("0001-") {
        return "<time>".to_owned();
    }
    if is_mac(word) {
        return "<mac>".to_owned();
    }
    // Parts between colons: `sha256:<id>`, `172.17.0.2:32768`, `0.0.0.0:8080`.
    let parts: Vec<String> = word.split(':').map(part).collect();
    parts.join(":")
}

fn part(part: &str) -> String {
    let hex = |length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    if hex(64) {
        return "<id>".to_owned();
    }
    if hex(12) {
        return "<id12>".to_owned();
    }
    if part.parse::<u32>().is_ok_and(|number| part.len() == 5 && (32_768..=65_535).contains(&number)) {
        return "<port>".to_owned();
    }
    if is_container_address(part) {
        return "<ip>".to_owned();
    }
    // `65535-tcp`, `32768-32770` and `<id>-json.log` keep what follows the dash.
    if let Some((head, tail)) = part.split_once('-')
        && (head.len() == 64 || head.len() == 5)
    {
        return format!("{}-{}", self::part(head), self::part(tail));
    }
    part.to_owned()
}

fn is_mac(word: &str) -> bool {
    let bytes: Vec<&str> = word.split(':').collect();
    bytes.len() == 6 && bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn is_container_address(word: &str) -> bool {
    word.parse::<std::net::Ipv4Addr>().is_ok_and(|address| {
        let [first, second, ..] = address.octets();
        (first == 172 && (16..32).contains(&second)) || (first == 192 && second == 168)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, wanted: &str) {
        let places = Places { replacements: vec![("/tmp/x/data".to_owned(), "<root>")] };
        let once = text(raw, &places);
        assert_eq!(once, wanted);
        assert_eq!(text(&once, &places), wanted, "a second time changes nothing");
    }

    #[test]
    fn ids() {
        let id = "0123456789abcdef".repeat(4);
        check(&format!("sha256:{id} {id} {}", &id[..12]), "sha256:<id> <id> <id12>");
        check(&format!("/tmp/x/data/containers/{id}/{id}-json.log"), "<root>/containers/<id>/<id>-json.log");
        check("abcdef 0123456789abcdef", "abcdef 0123456789abcdef");
        check(&format!("container {id}. Stop"), "container <id>. Stop");
    }

    #[test]
    fn times_but_not_the_zero_time() {
        check("\"2026-11-21T11:06:22.123456789Z\"", "\"<time>\"");
        check("2026-11-21 11:06:22 +0000 UTC", "<time>");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        check("2026-11-21T11:06:22.1Z hello", "<time> hello");
    }

    #[test]
    fn durations_people_read() {
        check("Up 2 seconds", "Up <duration>");
        check("Exited (0) Less than a second ago", "Exited (0) <duration> ago");
        check("Up 5 minutes (healthy)", "Up <duration> (healthy)");
        check("exit 3 now", "exit 3 now");
    }

    #[test]
    fn addresses_and_ports() {
        check("0.0.0.0:32768->80/tcp 127.0.0.1:8080", "0.0.0.0:<port>->80/tcp 127.0.0.1:8080");
        check("172.17.0.2/16 02:42:ac:11:00:02", "<ip>/16 <mac>");
        check("8.8.8.8", "8.8.8.8");
    }

    #[test]
    fn columns_lose_their_width() {
        check("NAME     IMAGE   ", "NAME  IMAGE");
        check("a b", "a b");
    }

    #[test]
    fn process_ids_in_fields() {
        let value = serde_json::json!({"Pid": 77, "Other": 77, "Stopped": {"Pid": 0}});
        let wanted = serde_json::json!({"Pid": "<pid>", "Other": 77, "Stopped": {"Pid": 0}});
        assert_eq!(json(&value, &Places::default()), wanted);
    }
}
