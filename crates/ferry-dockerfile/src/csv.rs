//! One line of comma-separated values, the form of `--mount` and `--device`.

/// Why a line is no list of values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// Nothing at all; Go's text.
    #[error("EOF")]
    Empty,
    /// A quote within a value that does not begin with one.
    #[error("parse error on line 1, column {0}: bare \" in non-quoted-field")]
    BareQuote(usize),
    /// Text after the closing quote, or none.
    #[error("parse error on line 1, column {0}: extraneous or missing \" in quoted-field")]
    Quote(usize),
}

/// Splits a line at its commas; a value in double quotes may hold commas, and quotes written twice.
pub fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let column = line.len() - rest.len() + 1;
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted, column)?;
            fields.push(field);
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        }
        let (field, after) = match rest.split_once(',') {
            Some((field, after)) => (field, Some(after)),
            None => (rest, None),
        };
        if let Some(place) = field.find('"') {
            return Err(CsvError::BareQuote(column + place));
        }
        fields.push(field.to_owned());
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Reads a value after its opening quote; returns what follows the comma behind it.
fn quoted_field(text: &str, column: usize) -> Result<(String, Option<&str>), CsvError> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(CsvError::Quote(column + 1 + text.len() - rest.len()));
        };
        field.push_str(part);
        if after.is_empty() {
            return Ok((field, None));
        }
        if let Some(after) = after.strip_prefix(',') {
            return Ok((field, Some(after)));
        }
        let Some(after) = after.strip_prefix('"') else {
            return Err(CsvError::Quote(column + text.len() - after.len()));
        };
        field.push('"');
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_at_commas_outside_quotes() {
        for (line, expected) in [
            ("a,b", vec!["a", "b"]),
            ("a", vec!["a"]),
            ("a,", vec!["a", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
        ] {
            assert_eq!(fields(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn stray_quotes_are_refused() {
        assert_eq!(fields("a\"b"), Err(CsvError::BareQuote(2)));
        assert_eq!(fields("\"a\"b"), Err(CsvError::Quote(3)));
        assert_eq!(fields("\"a"), Err(CsvError::Quote(2)));
        assert_eq!(fields(""), Err(CsvError::Empty));
    }
}
