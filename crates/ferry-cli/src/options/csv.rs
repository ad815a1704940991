//! One row of comma-separated fields with quotes, as Go's `encoding/csv` reads it.

/// Splits a row.
pub(super) fn fields(row: &str) -> Result<Vec<String>, String> {
    if row.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut letters = row.chars().peekable();
    let mut field = String::new();
    let mut column = 1;
    let mut at_start = true;
    loop {
        if field.is_empty() && at_start && letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next() {
                    None => {
                        return Err(format!(
                            "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                        ));
                    }
                    Some('"') if letters.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(letter) => field.push(letter),
                }
            }
            if letters.peek().is_some_and(|letter| *letter != ',') {
                return Err(format!(
                    "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                ));
            }
        }
        match letters.next() {
            None => {
                fields.push(field);
                return Ok(fields);
            }
            Some(',') => {
                fields.push(std::mem::take(&mut field));
                at_start = true;
                column += 1;
                continue;
            }
            Some('"') => {
                return Err(format!("parse error on line 1, column {column}: bare \" in non-quoted-field"));
            }
            Some(letter) => field.push(letter),
        }
        at_start = false;
        column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quoted_fields_keep_commas() {
        assert_eq!(fields("a=1,\"b=x,y\",c").unwrap(), ["a=1", "b=x,y", "c"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert!(fields("a\"b").is_err());
        assert!(fields("\"a").is_err());
    }
}
