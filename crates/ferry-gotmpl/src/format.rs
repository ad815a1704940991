//! Go's `fmt`: the default format, `%q` and `printf` verbs.

use crate::Value;

/// Formats a value as `%v` does.
pub(crate) fn plain(value: &Value) -> String {
    let mut out = String::new();
    write_plain(&mut out, value, false);
    out
}

fn write_plain(out: &mut String, value: &Value, names: bool) {
    match value {
        Value::Missing | Value::Nil | Value::NilPointer(_) | Value::Lookup(_) | Value::KeyTitle => {
            out.push_str("<nil>")
        }
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Uint(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float_general(*number)),
        Value::Text(text) => out.push_str(text),
        Value::NilList => out.push_str("[]"),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_plain(out, item, names);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (index, (key, item)) in map.entries.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_plain(out, item, names);
            }
            out.push(']');
        }
        Value::Struct(record) if record.text.is_some() => out.push_str(record.text.as_deref().unwrap_or_default()),
        Value::Struct(record) => {
            out.push('{');
            for (index, (name, item)) in record.fields.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                if names {
                    out.push_str(name);
                    out.push(':');
                }
                write_plain(out, item, names);
            }
            out.push('}');
        }
    }
}

/// Formats a float as `%v` does: the shortest form, with an exponent from 1e21 on.
pub(crate) fn float_general(number: f64) -> String {
    float_shortest(number, 21)
}

/// Formats a float as Go's JSON encoder does.
pub(crate) fn float_json(number: f64) -> String {
    let text = float_shortest(number, 21);
    // The encoder writes e-7 where `%v` writes e-07.
    match text.split_once("e-0") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent}"),
        None => text,
    }
}

fn float_shortest(number: f64, limit: i32) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if number == 0.0 || (-4..limit).contains(&exponent) { format!("{number}") } else { exponent_form(&scientific) }
}

fn exponent_form(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Quotes text as `%q` does.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", control as u32));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// Formats as `print` does: blanks between operands when neither is text.
pub(crate) fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Text(_));
        if index > 0 && !text(value) && !text(&values[index - 1]) {
            out.push(' ');
        }
        write_plain(&mut out, value, false);
    }
    out
}

/// Formats as `println` does: blanks between all operands and a newline.
pub(crate) fn println(values: &[Value]) -> String {
    let mut out = values.iter().map(plain).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats as `printf` does.
pub(crate) fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    let mut next = 0;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let spec = read_spec(&mut letters, values, &mut next);
        let Some(verb) = letters.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.get(next) {
            Some(value) => out.push_str(&verb_text(&spec, verb, value)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
        next += 1;
    }
    if next < values.len() {
        let extra: Vec<String> = values[next..].iter().map(typed).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn read_spec(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, values: &[Value], next: &mut usize) -> Spec {
    let mut spec = Spec::default();
    while let Some(letter) = letters.peek() {
        match letter {
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            '#' => spec.sharp = true,
            ' ' => spec.space = true,
            '0' => spec.zero = true,
            _ => break,
        }
        letters.next();
    }
    spec.width = read_number(letters, values, next, &mut spec.minus);
    if letters.next_if_eq(&'.').is_some() {
        spec.precision = Some(read_number(letters, values, next, &mut false).unwrap_or(0));
    }
    spec
}

fn read_number(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &[Value],
    next: &mut usize,
    minus: &mut bool,
) -> Option<usize> {
    if letters.next_if_eq(&'*').is_some() {
        let value = values.get(*next);
        *next += 1;
        if let Some(Value::Int(number)) = value {
            *minus |= *number < 0;
            return usize::try_from(number.unsigned_abs()).ok();
        }
        return None;
    }
    let mut number = None;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        number = Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize).min(100_000));
        letters.next();
    }
    number
}

fn typed(value: &Value) -> String {
    match value {
        Value::Missing | Value::Nil => "<nil>".to_owned(),
        other => format!("{}={}", other.type_name(), plain(other)),
    }
}

fn verb_text(spec: &Spec, verb: char, value: &Value) -> String {
    let bad = || match value {
        Value::Missing | Value::Nil => format!("%!{verb}(<nil>)"),
        _ => format!("%!{verb}({})", typed(value)),
    };
    let (text, number) = match (verb, value) {
        ('v', Value::Float(_) | Value::Int(_)) if spec.precision.is_some() => (plain(value), true),
        ('v', Value::Text(text)) if spec.sharp => (quote(text), false),
        ('v', _) => {
            let mut out = String::new();
            write_plain(&mut out, value, spec.plus);
            (out, matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_)))
        }
        ('T', _) => (value.type_name(), false),
        ('t', Value::Bool(truth)) => (truth.to_string(), false),
        ('s', Value::Text(text)) => (truncate(text, spec.precision), false),
        ('q', Value::Text(text)) => (quote(&truncate(text, spec.precision)), false),
        ('x', Value::Text(text)) => (text.bytes().map(|byte| format!("{byte:02x}")).collect(), false),
        ('X', Value::Text(text)) => (text.bytes().map(|byte| format!("{byte:02X}")).collect(), false),
        (_, Value::Int(number)) => match integer(spec, verb, *number) {
            Some(text) => (text, verb != 'c' && verb != 'q'),
            None => return bad(),
        },
        (_, Value::Uint(number)) => match verb {
            'd' => (number.to_string(), true),
            'x' => (format!("{number:x}"), true),
            _ => return bad(),
        },
        ('f' | 'F', Value::Float(number)) => (format!("{number:.*}", spec.precision.unwrap_or(6)), true),
        ('e', Value::Float(number)) => (exponent_form(&format!("{number:.*e}", spec.precision.unwrap_or(6))), true),
        ('g', Value::Float(number)) => (float_general(*number), true),
        (_, Value::NilList) => return "[]".to_owned(),
        (_, Value::List(items)) => {
            let items: Vec<String> = items.iter().map(|item| verb_text(spec, verb, item)).collect();
            return format!("[{}]", items.join(" "));
        }
        (_, Value::Map(map)) => {
            let key_text = |key: &str| verb_text(spec, verb, &Value::text(key));
            let items: Vec<String> = map
                .entries
                .iter()
                .map(|(key, item)| format!("{}:{}", key_text(key), verb_text(spec, verb, item)))
                .collect();
            return format!("map[{}]", items.join(" "));
        }
        ('s', Value::Struct(record)) if record.text.is_some() => (record.text.clone().unwrap_or_default(), false),
        (_, Value::Struct(record)) => {
            let items: Vec<String> = record.fields.iter().map(|(_, item)| verb_text(spec, verb, item)).collect();
            return format!("{{{}}}", items.join(" "));
        }
        _ => return bad(),
    };
    pad(spec, text, number)
}

fn integer(spec: &Spec, verb: char, number: i64) -> Option<String> {
    let sign = match (number < 0, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let magnitude = number.unsigned_abs();
    Some(match verb {
        'd' => format!("{sign}{:0>1$}", magnitude.to_string(), spec.precision.unwrap_or(0)),
        'x' => format!("{sign}{}{magnitude:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{sign}{}{magnitude:X}", if spec.sharp { "0X" } else { "" }),
        'o' => format!("{sign}{magnitude:o}"),
        'b' => format!("{sign}{magnitude:b}"),
        'c' => u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        'q' => format!("'{}'", u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')),
        'U' => format!("U+{magnitude:04X}"),
        _ => return None,
    })
}

fn truncate(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |limit| text.chars().take(limit).collect())
}

fn pad(spec: &Spec, text: String, number: bool) -> String {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if spec.zero && number {
        let (sign, digits) = match text.as_bytes().first() {
            Some(b'-' | b'+') => text.split_at(1),
            _ => ("", text.as_str()),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    let filler = if spec.zero { "0" } else { " " };
    format!("{}{text}", filler.repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printf_follows_go() {
        let values = |items: &[Value]| items.to_vec();
        for (format, items, expected) in [
            ("%5d|%-5d|%05d", values(&[7.into(), 7.into(), 7.into()]), "    7|7    |00007"),
            ("%s %q", values(&["a".into(), "b\n".into()]), "a \"b\\n\""),
            ("%d", values(&["a".into()]), "%!d(string=a)"),
            ("%s", values(&[]), "%!s(MISSING)"),
            ("x", values(&[1.into()]), "x%!(EXTRA int=1)"),
            ("%.2f", values(&[Value::Float(1.239)]), "1.24"),
            ("%v%%", values(&[true.into()]), "true%"),
            ("%x", values(&["hi".into()]), "6869"),
            ("%-6s|", values(&["ab".into()]), "ab    |"),
            ("%", values(&[]), "%!(NOVERB)"),
        ] {
            assert_eq!(printf(format, &items), expected, "{format}");
        }
    }

    #[test]
    fn floats_follow_go() {
        assert_eq!(float_general(1e21), "1e+21");
        assert_eq!(float_general(0.00001), "1e-05");
        assert_eq!(float_general(1.5), "1.5");
        assert_eq!(float_json(0.000_000_1), "1e-7");
    }
}
