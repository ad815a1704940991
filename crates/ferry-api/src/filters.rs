//! Filters of lists and events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// Filters by name; each holds a set of values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

/// A filter that cannot be used; its text is Docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// The parameter is not one of the two JSON forms.
    Malformed(String),
    /// The list has no filter of that name.
    UnknownName(String),
    /// The filter takes no such values.
    BadValue {
        /// Name of the filter.
        name: String,
        /// Values given.
        values: Vec<String>,
    },
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(_) => write!(f, "invalid filter"),
            Self::UnknownName(name) => write!(f, "invalid filter '{name}'"),
            Self::BadValue { name, values } => write!(f, "invalid filter '{name}=[{}]'", values.join(" ")),
        }
    }
}

impl std::error::Error for FilterError {}

impl Filters {
    /// Reads the query parameter: `{"a":["b"]}`, the older `{"a":{"b":true}}`, or nothing.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value: Value = serde_json::from_str(text).map_err(|error| FilterError::Malformed(error.to_string()))?;
        let Value::Object(map) = value else {
            return if value.is_null() { Ok(Self::default()) } else { Err(malformed(text)) };
        };
        let mut filters = Self::default();
        for (name, values) in map {
            let values: BTreeSet<String> = match values {
                Value::Null => BTreeSet::new(),
                Value::Array(items) => items
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| malformed(text))?,
                Value::Object(items) => {
                    if !items.values().all(Value::is_boolean) {
                        return Err(malformed(text));
                    }
                    items.into_iter().map(|(value, _)| value).collect()
                }
                _ => return Err(malformed(text)),
            };
            filters.fields.insert(name, values);
        }
        Ok(filters)
    }

    /// Writes the query parameter in the form that every daemon reads; empty for no filter.
    #[must_use]
    pub fn to_parameter(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        let map: BTreeMap<&str, BTreeMap<&str, bool>> = self
            .fields
            .iter()
            .map(|(name, values)| (name.as_str(), values.iter().map(|value| (value.as_str(), true)).collect()))
            .collect();
        serde_json::to_string(&map).unwrap_or_default()
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.entry(name.into()).or_default().insert(value.into());
    }

    /// Removes a filter.
    pub fn remove(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Tells whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Tells whether there is a filter of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Returns the values of a filter, sorted.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Checks that every filter is one of `accepted`.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), FilterError> {
        match self.fields.keys().find(|name| !accepted.contains(&name.as_str())) {
            Some(name) => Err(FilterError::UnknownName(name.clone())),
            None => Ok(()),
        }
    }

    /// Tells whether `source` is one of the values, or there is no such filter.
    #[must_use]
    pub fn matches_exactly(&self, name: &str, source: &str) -> bool {
        self.fields.get(name).is_none_or(|values| values.is_empty() || values.contains(source))
    }

    /// Tells whether every `key` or `key=value` of the filter is among `labels`, or there is no such filter.
    #[must_use]
    pub fn matches_labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(name).all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Returns the one truth value of a filter, or `default` when there is none.
    ///
    /// # Errors
    /// When its values are not one of `1`, `true`, `0`, `false`.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool, FilterError> {
        let Some(values) = self.fields.get(name).filter(|values| !values.is_empty()) else { return Ok(default) };
        let is_true = values.contains("1") || values.contains("true");
        let is_false = values.contains("0") || values.contains("false");
        if is_true == is_false {
            return Err(FilterError::BadValue { name: name.to_owned(), values: values.iter().cloned().collect() });
        }
        Ok(is_true)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut filters = Self::default();
        for (name, value) in pairs {
            filters.add(name, value);
        }
        filters
    }
}

fn malformed(text: &str) -> FilterError {
    FilterError::Malformed(format!("expected a map of names to lists of values, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = Filters::parse(r#"{"status":["exited","created"],"label":["a=b"]}"#).unwrap();
        let old = Filters::parse(r#"{"status":{"exited":true,"created":true},"label":{"a=b":true}}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.get("status").collect::<Vec<_>>(), ["created", "exited"]);
        assert_eq!(new.to_parameter(), r#"{"label":{"a=b":true},"status":{"created":true,"exited":true}}"#);
        assert!(Filters::parse("").unwrap().is_empty());
        assert_eq!(Filters::parse("{}").unwrap().to_parameter(), "");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["[]", "x", r#"{"a":"b"}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#] {
            assert!(matches!(Filters::parse(text), Err(FilterError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn texts_are_those_of_docker() {
        let filters = Filters::parse(r#"{"nope":["a"],"dangling":["maybe"]}"#).unwrap();
        assert_eq!(filters.validate(&["dangling"]).unwrap_err().to_string(), "invalid filter 'nope'");
        assert_eq!(filters.bool_or("dangling", false).unwrap_err().to_string(), "invalid filter 'dangling=[maybe]'");
    }

    #[test]
    fn labels_match_by_key_or_by_key_and_value() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let matches = |wanted: &[&str]| {
            wanted.iter().map(|value| ("label", *value)).collect::<Filters>().matches_labels("label", &labels)
        };
        assert!(matches(&[]) && matches(&["a"]) && matches(&["a=b"]));
        assert!(!matches(&["a=c"]) && !matches(&["a", "z"]));
    }
}
