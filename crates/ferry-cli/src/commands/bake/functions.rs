//! The library of functions that bake files may call. Pure, but for the clock, the host's paths and random identifiers.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::evaluate::{from_number, number, text, truth};
use super::library;

pub(super) type Outcome = Result<Value, String>;

/// Calls a function by its name.
pub(super) fn call(name: &str, arguments: &[Value]) -> Outcome {
    texts(name, arguments)
        .or_else(|| lists(name, arguments))
        .or_else(|| objects(name, arguments))
        .or_else(|| numbers(name, arguments))
        .or_else(|| encodings(name, arguments))
        .or_else(|| library::call(name, arguments))
        .unwrap_or_else(|| Err(format!("Call to unknown function; There is no function named {name:?}.")))
        .map_err(|error| if error.starts_with("Call to unknown") { error } else { format!("{name}: {error}") })
}

pub(super) fn argument(arguments: &[Value], at: usize) -> Result<&Value, String> {
    arguments.get(at).ok_or_else(|| format!("argument {} is missing", at + 1))
}

pub(super) fn word(arguments: &[Value], at: usize) -> Result<String, String> {
    argument(arguments, at).and_then(text)
}

pub(super) fn list(arguments: &[Value], at: usize) -> Result<Vec<Value>, String> {
    match argument(arguments, at)? {
        Value::Array(items) => Ok(items.clone()),
        other => Err(format!("a list is required, not {other}")),
    }
}

fn object(arguments: &[Value], at: usize) -> Result<Map<String, Value>, String> {
    match argument(arguments, at)? {
        Value::Object(fields) => Ok(fields.clone()),
        Value::Null => Ok(Map::new()),
        other => Err(format!("an object is required, not {other}")),
    }
}

pub(super) fn whole(arguments: &[Value], at: usize) -> Result<i64, String> {
    let value = argument(arguments, at).and_then(number)?;
    if value.fract() == 0.0 { Ok(value as i64) } else { Err(format!("a whole number is required, not {value}")) }
}

fn of_text(name: impl FnOnce() -> Result<String, String>) -> Option<Outcome> {
    Some(name().map(Value::String))
}

fn texts(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let first = || word(arguments, 0);
    match name {
        "upper" => of_text(|| Ok(first()?.to_uppercase())),
        "lower" => of_text(|| Ok(first()?.to_lowercase())),
        "title" => of_text(|| Ok(titled(&first()?))),
        "trimspace" => of_text(|| Ok(first()?.trim().to_owned())),
        "chomp" => of_text(|| Ok(first()?.trim_end_matches(['\n', '\r']).to_owned())),
        "trim" => of_text(|| {
            let cut = word(arguments, 1)?;
            Ok(first()?.trim_matches(|c| cut.contains(c)).to_owned())
        }),
        "trimprefix" => of_text(|| {
            let (text, cut) = (first()?, word(arguments, 1)?);
            Ok(text.strip_prefix(cut.as_str()).unwrap_or(&text).to_owned())
        }),
        "trimsuffix" => of_text(|| {
            let (text, cut) = (first()?, word(arguments, 1)?);
            Ok(text.strip_suffix(cut.as_str()).unwrap_or(&text).to_owned())
        }),
        "replace" => of_text(|| Ok(first()?.replace(&word(arguments, 1)?, &word(arguments, 2)?))),
        "reverse" if arguments.first().is_some_and(Value::is_string) => {
            of_text(|| Ok(first()?.chars().rev().collect()))
        }
        "strrev" => of_text(|| Ok(first()?.chars().rev().collect())),
        "strlen" => Some(first().map(|text| Value::from(text.chars().count()))),
        "substr" => of_text(|| {
            let (all, from, length): (Vec<char>, i64, i64) =
                (first()?.chars().collect(), whole(arguments, 1)?, whole(arguments, 2)?);
            let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
            let from = if from < 0 { (count + from).max(0) } else { from.min(count) };
            let to = if length < 0 { count } else { from.saturating_add(length).min(count) };
            Ok(all[usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)].iter().collect())
        }),
        "indent" => of_text(|| {
            let spaces = " ".repeat(width(whole(arguments, 0)?.max(0))?);
            Ok(word(arguments, 1)?.replace('\n', &format!("\n{spaces}")))
        }),
        "format" => of_text(|| formatted(&first()?, &arguments[1..])),
        "split" => Some((|| {
            let (separator, text) = (first()?, word(arguments, 1)?);
            let words: Vec<Value> = text.split(separator.as_str()).map(Value::from).collect();
            Ok(Value::Array(words))
        })()),
        "join" => of_text(|| {
            let separator = first()?;
            let mut words = Vec::new();
            for at in 1..arguments.len() {
                for item in list(arguments, at)? {
                    words.push(text(&item)?);
                }
            }
            Ok(words.join(&separator))
        }),
        "sanitize" => of_text(|| Ok(sanitized(&first()?))),
        "basename" => of_text(|| Ok(first()?.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned())),
        "dirname" => of_text(|| {
            let path = first()?;
            Ok(match path.trim_end_matches('/').rsplit_once('/') {
                Some(("", _)) => "/".to_owned(),
                Some((above, _)) => above.to_owned(),
                None => ".".to_owned(),
            })
        }),
        "homedir" => of_text(|| std::env::var("HOME").map_err(|_| "there is no home directory".to_owned())),
        "timestamp" => of_text(|| {
            Ok(jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())
                .map_err(|error| error.to_string())?
                .to_string())
        }),
        _ => None,
    }
}

fn titled(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins && c.is_alphabetic();
            begins = c.is_whitespace();
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

/// A text as the name of a target: whatever may not be in one is an underscore.
pub(super) fn sanitized(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

/// `%s %v %d %q %t %f %x %%`, as far as bake files use them.
pub(super) fn formatted(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = arguments.iter();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut width = String::new();
        while let Some(digit) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')) {
            width.push(digit);
        }
        let verb = chars.next().ok_or("the pattern ends in a %")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = rest.next().ok_or_else(|| format!("not enough arguments for {pattern:?}"))?;
        let written = match verb {
            's' => text(value)?,
            'v' => {
                if value.is_string() {
                    text(value)?
                } else {
                    value.to_string()
                }
            }
            'd' => from_number(number(value)?.trunc()).to_string(),
            't' => truth(value)?.to_string(),
            'q' => format!("{:?}", text(value)?),
            'x' => format!("{:x}", number(value)? as i64),
            'X' => format!("{:X}", number(value)? as i64),
            'f' => {
                let places = width.split_once('.').and_then(|(_, places)| places.parse::<i64>().ok()).unwrap_or(6);
                format!("{:.*}", self::width(places)?, number(value)?)
            }
            other => return Err(format!("unsupported format verb %{other}")),
        };
        out.push_str(&padded(&written, &width)?);
    }
    match rest.next() {
        Some(_) => Err(format!("too many arguments for {pattern:?}")),
        None => Ok(out),
    }
}

fn padded(text: &str, written: &str) -> Result<String, String> {
    let whole = written.split('.').next().unwrap_or_default();
    let (left, zeros) = (whole.starts_with('-'), whole.starts_with('0'));
    let digits = whole.trim_start_matches(['-', '+']);
    let wanted = if digits.is_empty() { 0 } else { width(digits.parse().unwrap_or(i64::MAX))? };
    let missing = wanted.saturating_sub(text.chars().count());
    let fill = if zeros && !left { "0" } else { " " }.repeat(missing);
    Ok(if left { format!("{text}{fill}") } else { format!("{fill}{text}") })
}

/// How wide something is to be made; nobody means what is wider than a page.
fn width(wanted: i64) -> Result<usize, String> {
    const WIDEST: usize = 10_000;
    let fits = usize::try_from(wanted).ok().filter(|width| *width <= WIDEST);
    fits.ok_or_else(|| format!("a width of {wanted} is not between 0 and {WIDEST}"))
}

/// Reads a whole number to a base. Above 36 capitals are digits of their own.
fn parsed(digits: &str, base: i64) -> Outcome {
    let wrong = || format!("cannot parse {digits:?} as a base {base} integer");
    let base = u32::try_from(base).ok().filter(|base| (2..=62).contains(base));
    let base = base.ok_or("base must be a whole number between 2 and 62 inclusive")?;
    let (is_negative, plain) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let mut number = if plain.is_empty() { None } else { Some(0_i64) };
    for letter in plain.chars() {
        let digit = match letter {
            'A'..='Z' if base > 36 => Some(u32::from(letter) - u32::from('A') + 36),
            letter => letter.to_digit(36),
        };
        number = number.zip(digit.filter(|digit| *digit < base)).and_then(|(number, digit)| {
            let digit = if is_negative { -i64::from(digit) } else { i64::from(digit) };
            number.checked_mul(i64::from(base))?.checked_add(digit)
        });
    }
    number.map(Value::from).ok_or_else(wrong)
}

/// Values that are the same; numbers by what they are worth.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// What a collection holds at an index.
pub(super) fn at(value: &Value, index: &Value) -> Outcome {
    match value {
        Value::Array(items) => {
            let place = number(index)?;
            let found = (place >= 0.0 && place.fract() == 0.0).then(|| items.get(place as usize)).flatten();
            found.cloned().ok_or_else(|| format!("Invalid index; {index} is not in a list of {}", items.len()))
        }
        Value::Object(fields) => {
            let key = text(index)?;
            fields.get(&key).cloned().ok_or_else(|| format!("Unsupported attribute; there is no {key:?}"))
        }
        other => Err(format!("{other} has no attributes")),
    }
}

fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for item in items {
        if !all.iter().any(|known| equal(known, &item)) {
            all.push(item);
        }
    }
    all
}

fn flat(items: Vec<Value>) -> Vec<Value> {
    items
        .into_iter()
        .flat_map(|item| match item {
            Value::Array(inner) => flat(inner),
            other => vec![other],
        })
        .collect()
}

fn lists(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let first = || list(arguments, 0);
    let made = |made: Result<Vec<Value>, String>| Some(made.map(Value::Array));
    match name {
        "concat" => made((0..arguments.len()).try_fold(Vec::new(), |mut all, at| {
            all.extend(list(arguments, at)?);
            Ok(all)
        })),
        "contains" => Some((|| {
            let wanted = argument(arguments, 1)?;
            Ok(Value::Bool(first()?.iter().any(|item| equal(item, wanted))))
        })()),
        "distinct" => made(first().map(distinct)),
        "flatten" => made(first().map(flat)),
        "compact" => made(
            first()
                .map(|items| items.into_iter().filter(|item| !item.is_null() && item.as_str() != Some("")).collect()),
        ),
        "reverse" | "reverselist" => made(first().map(|items| items.into_iter().rev().collect())),
        "sort" => made((|| {
            let mut words = first()?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            words.sort();
            Ok(words.into_iter().map(Value::from).collect())
        })()),
        "element" => Some((|| {
            let (items, place) = (first()?, whole(arguments, 1)?);
            let count = i64::try_from(items.len()).unwrap_or(0);
            if count == 0 {
                return Err("an empty list has no elements".to_owned());
            }
            Ok(items[usize::try_from(place.rem_euclid(count)).unwrap_or(0)].clone())
        })()),
        "index" => Some((|| at(argument(arguments, 0)?, argument(arguments, 1)?))()),
        "indexof" => Some((|| {
            let wanted = argument(arguments, 1)?;
            let found = first()?.iter().position(|item| equal(item, wanted));
            found.map(Value::from).ok_or_else(|| "item not found".to_owned())
        })()),
        "hasindex" => Some((|| Ok(Value::Bool(at(argument(arguments, 0)?, argument(arguments, 1)?).is_ok())))()),
        "slice" => made((|| {
            let (items, from) = (first()?, usize::try_from(whole(arguments, 1)?).unwrap_or(0));
            let to = if arguments.len() > 2 { usize::try_from(whole(arguments, 2)?).unwrap_or(0) } else { items.len() };
            items
                .get(from..to)
                .map(<[Value]>::to_vec)
                .ok_or_else(|| format!("{from}..{to} is not in a list of {}", items.len()))
        })()),
        "range" => made((|| {
            let all = (0..arguments.len()).map(|at| number(&arguments[at])).collect::<Result<Vec<_>, _>>()?;
            let (from, to, step) = match all[..] {
                [to] => (0.0, to, if to < 0.0 { -1.0 } else { 1.0 }),
                [from, to] => (from, to, if to < from { -1.0 } else { 1.0 }),
                [from, to, step] if step != 0.0 => (from, to, step),
                _ => return Err("one, two or three numbers are required".to_owned()),
            };
            let mut items = Vec::new();
            let mut here = from;
            while if step > 0.0 { here < to } else { here > to } {
                if items.len() > 10_000 {
                    return Err("more than 10000 numbers".to_owned());
                }
                items.push(from_number(here));
                here += step;
            }
            Ok(items)
        })()),
        "chunklist" => made((|| {
            let size =
                usize::try_from(whole(arguments, 1)?).ok().filter(|size| *size > 0).ok_or("a size is required")?;
            Ok(first()?.chunks(size).map(|chunk| Value::Array(chunk.to_vec())).collect())
        })()),
        "coalesce" => Some(
            arguments
                .iter()
                .find(|item| !item.is_null())
                .cloned()
                .ok_or_else(|| "no non-null arguments given".to_owned()),
        ),
        "coalescelist" => Some((|| {
            for at in 0..arguments.len() {
                let items = list(arguments, at)?;
                if !items.is_empty() {
                    return Ok(Value::Array(items));
                }
            }
            Err("no non-empty arguments given".to_owned())
        })()),
        "setunion" => made((0..arguments.len()).try_fold(Vec::new(), |mut all, at| {
            all.extend(list(arguments, at)?);
            Ok(distinct(all))
        })),
        "setintersection" => made((|| {
            let other = list(arguments, 1)?;
            Ok(first()?.into_iter().filter(|item| other.iter().any(|known| equal(known, item))).collect())
        })()),
        "setsubtract" => made((|| {
            let other = list(arguments, 1)?;
            Ok(first()?.into_iter().filter(|item| !other.iter().any(|known| equal(known, item))).collect())
        })()),
        "setproduct" => made((0..arguments.len()).try_fold(vec![Value::Array(Vec::new())], |all, at| {
            let items = list(arguments, at)?;
            let with = |one: &Value, item: &Value| {
                let mut one = one.as_array().cloned().unwrap_or_default();
                one.push(item.clone());
                Value::Array(one)
            };
            Ok(all.iter().flat_map(|one| items.iter().map(move |item| with(one, item)).collect::<Vec<_>>()).collect())
        })),
        _ => None,
    }
}

fn objects(name: &str, arguments: &[Value]) -> Option<Outcome> {
    match name {
        "length" => Some(match arguments.first() {
            Some(Value::Array(items)) => Ok(Value::from(items.len())),
            Some(Value::Object(fields)) => Ok(Value::from(fields.len())),
            Some(Value::String(text)) => Ok(Value::from(text.chars().count())),
            _ => Err("a collection is required".to_owned()),
        }),
        "keys" | "values" => Some(object(arguments, 0).map(|fields| {
            let mut all: Vec<_> = fields.into_iter().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Array(
                all.into_iter().map(|(key, value)| if name == "keys" { Value::String(key) } else { value }).collect(),
            )
        })),
        "lookup" => Some((|| {
            let (fields, key) = (object(arguments, 0)?, word(arguments, 1)?);
            fields.get(&key).or(arguments.get(2)).cloned().ok_or_else(|| format!("there is no {key:?}"))
        })()),
        "merge" => Some(
            (0..arguments.len())
                .try_fold(Map::new(), |mut all, at| {
                    all.extend(object(arguments, at)?);
                    Ok(all)
                })
                .map(Value::Object),
        ),
        "zipmap" => Some((|| {
            let keys = list(arguments, 0)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::Object(keys.into_iter().zip(list(arguments, 1)?).collect()))
        })()),
        _ => None,
    }
}

fn numbers(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let first = || argument(arguments, 0).and_then(number);
    let two = |apply: fn(f64, f64) -> f64| {
        Some((|| Ok(from_number(apply(first()?, argument(arguments, 1).and_then(number)?))))())
    };
    let compares = |apply: fn(&f64, &f64) -> bool| {
        Some((|| Ok(Value::Bool(apply(&first()?, &argument(arguments, 1).and_then(number)?))))())
    };
    let all = || arguments.iter().map(number).collect::<Result<Vec<_>, _>>();
    match name {
        "add" => two(|a, b| a + b),
        "subtract" => two(|a, b| a - b),
        "multiply" => two(|a, b| a * b),
        "divide" => two(|a, b| a / b),
        "modulo" => two(|a, b| a % b),
        "pow" => two(f64::powf),
        "log" => two(f64::log),
        "negate" => Some(first().map(|value| from_number(-value))),
        "absolute" | "abs" => Some(first().map(|value| from_number(value.abs()))),
        "int" => Some(first().map(|value| from_number(value.trunc()))),
        "ceil" => Some(first().map(|value| from_number(value.ceil()))),
        "floor" => Some(first().map(|value| from_number(value.floor()))),
        "signum" => Some(first().map(|value| from_number(if value == 0.0 { 0.0 } else { value.signum() }))),
        "max" => Some(all().map(|all| from_number(all.into_iter().fold(f64::NEG_INFINITY, f64::max)))),
        "min" => Some(all().map(|all| from_number(all.into_iter().fold(f64::INFINITY, f64::min)))),
        "parseint" => Some((|| parsed(&word(arguments, 0)?, whole(arguments, 1)?))()),
        "lessthan" => compares(f64::lt),
        "lessthanorequalto" => compares(f64::le),
        "greaterthan" => compares(f64::gt),
        "greaterthanorequalto" => compares(f64::ge),
        "equal" => Some((|| Ok(Value::Bool(equal(argument(arguments, 0)?, argument(arguments, 1)?))))()),
        "notequal" => Some((|| Ok(Value::Bool(!equal(argument(arguments, 0)?, argument(arguments, 1)?))))()),
        "and" => Some((|| Ok(Value::Bool(truth(argument(arguments, 0)?)? && truth(argument(arguments, 1)?)?)))()),
        "or" => Some((|| Ok(Value::Bool(truth(argument(arguments, 0)?)? || truth(argument(arguments, 1)?)?)))()),
        "not" => Some(argument(arguments, 0).and_then(truth).map(|value| Value::Bool(!value))),
        _ => None,
    }
}

fn encodings(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let first = || word(arguments, 0);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match name {
        "jsonencode" => of_text(|| serde_json::to_string(argument(arguments, 0)?).map_err(|error| error.to_string())),
        "jsondecode" => Some(first().and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))),
        "base64encode" => of_text(|| Ok(base64::engine::general_purpose::STANDARD.encode(first()?))),
        "base64decode" => of_text(|| {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(first()?).map_err(|error| error.to_string())?;
            String::from_utf8(bytes).map_err(|error| error.to_string())
        }),
        "urlencode" => of_text(|| {
            let escaped = |byte: u8| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                b' ' => "+".to_owned(),
                other => format!("%{other:02X}"),
            };
            Ok(first()?.bytes().map(escaped).collect())
        }),
        "csvdecode" => Some(first().map(|text| {
            let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
            let head = lines.next().unwrap_or_default();
            json!(
                lines
                    .map(|line| head.iter().cloned().zip(line.into_iter().map(Value::from)).collect::<Map<_, _>>())
                    .collect::<Vec<_>>()
            )
        })),
        "sha256" => of_text(|| Ok(hex(&sha2::Sha256::digest(first()?)))),
        "sha512" => of_text(|| Ok(hex(&sha2::Sha512::digest(first()?)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_bake() {
        for (name, arguments, expected) in [
            ("upper", json!(["abc"]), json!("ABC")),
            ("title", json!(["two words"]), json!("Two Words")),
            ("replace", json!(["a.b.c", ".", "-"]), json!("a-b-c")),
            ("format", json!(["%s-%03d %q %%", "x", 7, "y"]), json!("x-007 \"y\" %")),
            ("join", json!([",", ["a", "b"], ["c"]]), json!("a,b,c")),
            ("split", json!([",", "a,b"]), json!(["a", "b"])),
            ("substr", json!(["hello", 1, 3]), json!("ell")),
            ("sanitize", json!(["a/b.c"]), json!("a_b_c")),
            ("distinct", json!([["a", "b", "a"]]), json!(["a", "b"])),
            ("flatten", json!([[["a"], ["b", ["c"]]]]), json!(["a", "b", "c"])),
            ("element", json!([["a", "b"], 3]), json!("b")),
            ("range", json!([3]), json!([0, 1, 2])),
            ("setproduct", json!([["a", "b"], [1]]), json!([["a", 1], ["b", 1]])),
            ("merge", json!([{"a": 1}, {"b": 2}]), json!({"a": 1, "b": 2})),
            ("lookup", json!([{"a": 1}, "b", 3]), json!(3)),
            ("add", json!([1, 2.5]), json!(3.5)),
            ("notequal", json!([1, 2]), json!(true)),
            ("base64encode", json!(["hi"]), json!("aGk=")),
            ("sha256", json!([""]), json!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")),
        ] {
            assert_eq!(call(name, arguments.as_array().unwrap()).unwrap(), expected, "{name}");
        }
        for (name, arguments, error) in [
            ("indent", json!([1e300, "a\nb"]), "indent: a width of 9223372036854775807 is not between 0 and 10000"),
            (
                "format",
                json!(["%99999999999999999999d", 1]),
                "format: a width of 9223372036854775807 is not between 0 and 10000",
            ),
            ("format", json!(["%.70000f", 1]), "format: a width of 70000 is not between 0 and 10000"),
            ("parseint", json!(["1", 1]), "parseint: base must be a whole number between 2 and 62 inclusive"),
            ("parseint", json!(["1", 1e300]), "parseint: base must be a whole number between 2 and 62 inclusive"),
            ("parseint", json!(["g", 16]), "parseint: cannot parse \"g\" as a base 16 integer"),
            (
                "parseint",
                json!(["9223372036854775808", 10]),
                "parseint: cannot parse \"9223372036854775808\" as a base 10 integer",
            ),
            ("parseint", json!(["-", 10]), "parseint: cannot parse \"-\" as a base 10 integer"),
            ("slice", json!([["a"], 2, 1]), "slice: 2..1 is not in a list of 1"),
            ("chunklist", json!([["a"], 0]), "chunklist: a size is required"),
            ("element", json!([[], 1]), "element: an empty list has no elements"),
            ("range", json!([1e300]), "range: more than 10000 numbers"),
            ("format", json!([]), "format: argument 1 is missing"),
            ("formatlist", json!([]), "formatlist: argument 1 is missing"),
            (
                "formatdate",
                json!(["'\u{e4}", "2018-01-02T23:12:01Z"]),
                "formatdate: unterminated literal in format string",
            ),
        ] {
            assert_eq!(call(name, arguments.as_array().unwrap()).unwrap_err(), error, "{name}");
        }
        for (name, arguments, expected) in [
            ("substr", json!(["h\u{e4}llo", 1, 1e300]), json!("\u{e4}llo")),
            ("substr", json!(["h\u{e4}llo", -1e300, 2]), json!("h\u{e4}")),
            ("parseint", json!(["-9223372036854775808", 10]), json!(i64::MIN)),
            ("parseint", json!(["zZ", 62]), json!(35 * 62 + 61)),
            ("parseint", json!(["Ff", 16]), json!(255)),
            ("element", json!([["a", "b"], -1e300]), json!("a")),
            ("format", json!(["%-4d|%04d|%.1f", 1, 2, 3]), json!("1   |0002|3.0")),
        ] {
            assert_eq!(call(name, arguments.as_array().unwrap()).unwrap(), expected, "{name}");
        }
        let unknown = call("nope", &[]).unwrap_err();
        assert_eq!(unknown, "Call to unknown function; There is no function named \"nope\".");
    }
}
