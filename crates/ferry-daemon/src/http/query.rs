//! Query strings by Go's rules.

use super::error::ApiError;

/// The parameters of a request, in order, keys repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(ApiError::invalid("invalid semicolon separator in query"));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(key, true)?, unescape(value, true)?));
        }
        Ok(Self(pairs))
    }

    /// Tells whether a parameter is there, empty or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Returns the first value of a parameter, or nothing at all.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// Returns the first value of a parameter unless it is empty.
    pub(crate) fn non_empty(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|value| !value.is_empty())
    }

    /// Returns every value of a parameter.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Reads a truth value as Docker does: everything but ``, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Reads a truth value with a default for a parameter that is not there.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.flag(key) } else { default }
    }

    /// Reads a whole number, if there is one.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.non_empty(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    }

    /// Reads a number that must be there, such as a window's height; `what` names it in the error.
    pub(crate) fn size(&self, key: &str, what: &str) -> Result<u32, ApiError> {
        let text = self.get(key);
        let refuse = |reason: &str| ApiError::invalid(format!("invalid {what} {text:?}: {reason}"));
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse("invalid syntax"));
        }
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => Err(refuse("value out of range")),
        }
    }
}

/// Resolves `%XX`, and `+` as a blank in queries; what is not UTF-8 then is replaced.
pub(crate) fn unescape(text: &str, plus_is_blank: bool) -> Result<String, ApiError> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let digits = tail.get(..2).and_then(hex_pair).ok_or_else(|| bad_escape(rest))?;
                bytes.push(digits);
                &tail[2..]
            }
            b'+' if plus_is_blank => {
                bytes.push(b' ');
                tail
            }
            other => {
                bytes.push(other);
                tail
            }
        };
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| (digit as char).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(value(*high)? * 16 + value(*low)?).ok()
}

fn bad_escape(rest: &[u8]) -> ApiError {
    let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned();
    ApiError::invalid(format!("invalid URL escape {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn truth_is_docker_s() {
        for text in ["a=1", "a=true", "a=True", "a=t", "a=yes", "a=x", "a=%20on+"] {
            assert!(query(text).flag("a"), "{text}");
        }
        for text in ["", "a", "a=", "a=0", "a=no", "a=FALSE", "a=None", "a=+0+"] {
            assert!(!query(text).flag("a"), "{text}");
        }
        assert!(query("").flag_or("a", true) && !query("a").flag_or("a", true));
    }

    #[test]
    fn values_are_unescaped_and_keys_repeat() {
        let parsed = query("name=a%2Fb+c&t=1&t=2&&empty");
        assert_eq!(parsed.get("name"), "a/b c");
        assert_eq!(parsed.all("t").collect::<Vec<_>>(), ["1", "2"]);
        assert!(parsed.has("empty") && parsed.non_empty("empty").is_none());
    }

    #[test]
    fn bad_queries_are_refused_with_go_s_texts() {
        let text = |query: &str| Query::parse(query).unwrap_err().message;
        assert_eq!(text("a=%zz"), "invalid URL escape \"%zz\"");
        assert_eq!(text("a=%2"), "invalid URL escape \"%2\"");
        assert_eq!(text("a=1;b=2"), "invalid semicolon separator in query");
        assert_eq!(query("t=abc").integer("t").unwrap_err().message, "strconv.Atoi: parsing \"abc\": invalid syntax");
    }

    #[test]
    fn sizes_say_what_is_wrong() {
        let text = |value: &str| query(&format!("h={value}")).size("h", "resize height").unwrap_err().message;
        assert_eq!(query("h=24").size("h", "resize height").unwrap(), 24);
        assert_eq!(text(""), "invalid resize height \"\": invalid syntax");
        assert_eq!(text("x"), "invalid resize height \"x\": invalid syntax");
        assert_eq!(text("-1"), "invalid resize height \"-1\": value out of range");
        assert_eq!(text("4294967296"), "invalid resize height \"4294967296\": value out of range");
    }
}
