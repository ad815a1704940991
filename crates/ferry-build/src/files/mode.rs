//! Permission bits in chmod's words.

use crate::failure::{Failure, Result};

/// Applies words such as `u=rwX,go=rX` to the bits of a file.
pub(crate) fn apply(words: &str, mut mode: u32, is_dir: bool) -> Result<u32> {
    let bad = || Failure::invalid(format!("invalid mode: {words:?}"));
    for clause in words.split(',') {
        let start = clause.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut rest) = clause.split_at(start);
        let mut whose = 0;
        for one in who.chars() {
            whose |= match one {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(bad()),
            };
        }
        if whose == 0 {
            whose = 0o7777;
        }
        while let Some(operator) = rest.chars().next() {
            if !matches!(operator, '+' | '-' | '=') {
                return Err(bad());
            }
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
            let bits = bits(&rest[1..end], mode, is_dir).ok_or_else(bad)? & whose;
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                // The sticky bit is nobody's in particular.
                _ => (mode & !(whose & 0o6777)) | bits,
            };
            rest = &rest[end..];
        }
    }
    Ok(mode & 0o7777)
}

fn bits(words: &str, mode: u32, is_dir: bool) -> Option<u32> {
    let mut bits = 0;
    for word in words.chars() {
        bits |= match word {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if is_dir || mode & 0o111 != 0 => 0o111,
            'X' => 0,
            's' => 0o6000,
            't' => 0o1000,
            'u' => spread(mode >> 6),
            'g' => spread(mode >> 3),
            'o' => spread(mode),
            _ => return None,
        };
    }
    Some(bits)
}

fn spread(three: u32) -> u32 {
    let three = three & 7;
    three << 6 | three << 3 | three
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_chmod_s() {
        for (words, mode, is_dir, expected) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("g-w,o=", 0o666, false, 0o640),
            ("a=r", 0o777, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
        ] {
            assert_eq!(apply(words, mode, is_dir).unwrap(), expected, "{words}");
        }
        for words in ["", "x", "u*r", "z+r", "u+q"] {
            assert!(apply(words, 0, false).is_err(), "{words}");
        }
    }
}
