//! The words of chmod: `u=rwX,go=rX`.

/// Tells whether a text is a list of clauses such as `u+x`, `a=r` or `g=u`.
pub(super) fn is_valid(text: &str) -> bool {
    !text.is_empty() && text.split(',').all(is_clause)
}

/// A clause: who, then one operator or several, each with permissions, which may be none.
fn is_clause(clause: &str) -> bool {
    let rest = clause.trim_start_matches(['a', 'u', 'g', 'o']);
    let mut actions = rest.split(['+', '-', '=']);
    // What is before the first operator is nothing, and there is one.
    actions.next() == Some("") && rest.starts_with(['+', '-', '=']) && actions.all(are_permissions)
}

fn are_permissions(text: &str) -> bool {
    text.chars().all(|c| matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o'))
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn clauses() {
        for text in ["u+x", "a=r", "go-w", "+x", "=", "u=rwX,go=rX", "u=rw+x", "g=u", "o+t", "u+s-x"] {
            assert!(is_valid(text), "{text}");
        }
        for text in ["", "u", "x", "u~x", "u+q", "u+x,", ",u+x", "u+x go+r"] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
