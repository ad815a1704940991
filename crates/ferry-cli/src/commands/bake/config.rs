//! Groups and targets of all files together: matrices spread out, inheritance followed, overrides applied. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::evaluate::text;
use super::file::{Block, Definitions};
use super::target::{self, Target};

/// A group: what is said of it, and what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) description: String,
    pub(super) targets: Vec<String>,
}

/// Everything that can be built.
#[derive(Debug, Clone, Default)]
pub(super) struct Config {
    pub(super) groups: Vec<(String, Group)>,
    pub(super) targets: Vec<(String, Target)>,
}

/// Targets that inherit from each other, or take from each other: what is further apart was written by nobody.
pub(super) const DEEPEST: usize = 500;

/// Targets on the way to one that inherits from them: what each came to, nothing for those that are not done.
#[derive(Default)]
struct Inherited {
    targets: HashMap<String, Option<Target>>,
    depth: usize,
}

/// One `--set`, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Override {
    pattern: String,
    key: String,
    value: Option<String>,
    appends: bool,
}

impl Override {
    /// Reads `TARGET.KEY[.NAME][+]=VALUE`.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let (key, value) = match written.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (written, None),
        };
        let (key, appends) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
        let Some((pattern, key)) = key.split_once('.') else {
            return Err(format!("invalid override key {key}, expected target.name"));
        };
        if value.is_none() && !key.starts_with("args.") {
            return Err(format!("invalid override {written}, expected target.name=value"));
        }
        Ok(Self { pattern: pattern.to_owned(), key: key.to_owned(), value, appends })
    }
}

impl Config {
    /// Reads groups and targets out of what files define.
    pub(super) fn read(&mut self, definitions: &Definitions<'_>) -> Result<(), String> {
        for block in &definitions.targets {
            check_name(&block.name)?;
            self.spread(definitions, block)?;
        }
        for block in &definitions.groups {
            let given = |name: &str| definitions.attribute_of(block, name, &[]);
            let members = match given("targets")? {
                Some(Value::Array(items)) => items.iter().map(text).collect::<Result<Vec<_>, _>>()?,
                _ => return Err(format!("group {:?} has no list of targets", block.name)),
            };
            let description = given("description")?.map(|value| text(&value)).transpose()?.unwrap_or_default();
            self.add_group(&block.name, Group { description, targets: members });
        }
        Ok(())
    }

    /// Adds a target, over one of the same name.
    pub(super) fn add_target(&mut self, name: &str, new: Target) {
        match self.targets.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => target::merge(known, &new),
            None => self.targets.push((name.to_owned(), new)),
        }
    }

    pub(super) fn add_group(&mut self, name: &str, new: Group) {
        match self.groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => {
                let fresh = new.targets.into_iter().filter(|one| !known.targets.contains(one)).collect::<Vec<_>>();
                known.targets.extend(fresh);
            }
            None => self.groups.push((name.to_owned(), new)),
        }
    }

    /// One target for each combination of its matrix.
    fn spread(&mut self, definitions: &Definitions<'_>, block: &Block) -> Result<(), String> {
        let read = |own: &[(String, Value)]| definitions.attributes(block, own, &target::ATTRIBUTES);
        let matrix = match definitions.attribute_of(block, "matrix", &[])? {
            None => {
                let attributes = read(&[])?;
                self.add_target(&block.name, target::typed(&block.name, attributes)?);
                return Ok(());
            }
            Some(Value::Object(axes)) => axes,
            Some(_) => return Err("Invalid matrix; The matrix must be a map.".to_owned()),
        };
        let mut made = Vec::new();
        for own in combinations(&matrix)? {
            let name = definitions.attribute_of(block, "name", &own)?;
            let name =
                name.ok_or_else(|| format!("Missing name; target {:?} with a matrix needs a name", block.name))?;
            let name = text(&name)?;
            check_name(&name)?;
            if made.contains(&name) {
                return Err(format!("Duplicate target; {name:?} is made twice by the matrix of {:?}", block.name));
            }
            let attributes = read(&own)?;
            self.add_target(&name, target::typed(&name, attributes)?);
            made.push(name);
        }
        if made != [block.name.clone()] {
            self.add_group(&block.name, Group { description: String::new(), targets: made });
        }
        Ok(())
    }

    /// The names that a pattern stands for.
    pub(super) fn matching(&self, pattern: &str) -> Result<Vec<String>, String> {
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![pattern.to_owned()]);
        }
        let names = self.groups.iter().map(|(name, _)| name).chain(self.targets.iter().map(|(name, _)| name));
        let found: Vec<String> = names.filter(|name| fits(pattern, name)).cloned().collect();
        if found.is_empty() { Err(format!("could not find any target matching {pattern:?}")) } else { Ok(found) }
    }

    /// The targets and groups that a name leads to.
    pub(super) fn members(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let (mut targets, mut groups) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut left = vec![name];
        while let Some(name) = left.pop() {
            match self.groups.iter().find(|(known, _)| known == name) {
                // A target may have the name of the group that it is in.
                Some((_, group)) if seen.insert(name) => {
                    groups.push(name.to_owned());
                    left.extend(group.targets.iter().rev().map(String::as_str));
                }
                _ => targets.push(name.to_owned()),
            }
        }
        (targets, groups)
    }

    /// A target with everything that it inherits and that is set for it.
    pub(super) fn resolve(
        &self,
        name: &str,
        overrides: &[Override],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Target, String> {
        let mut resolved = self.inherited(name, overrides, variable, &mut Inherited::default())?;
        resolved.remove("inherits");
        resolved.entry("context").or_insert_with(|| Value::from("."));
        if resolved.get("dockerfile").and_then(Value::as_str).unwrap_or_default().is_empty() {
            resolved.insert("dockerfile".to_owned(), Value::from("Dockerfile"));
        }
        Ok(resolved)
    }

    fn inherited(
        &self,
        name: &str,
        overrides: &[Override],
        variable: &dyn Fn(&str) -> Option<String>,
        known: &mut Inherited,
    ) -> Result<Target, String> {
        let found = self.targets.iter().find(|(known, _)| known == name);
        let (_, own) = found.ok_or_else(|| format!("failed to find target {name}"))?;
        if known.depth == DEEPEST {
            return Err(format!("target {name} is inherited through more than {DEEPEST} others"));
        }
        let mut whole = Target::new();
        known.targets.insert(name.to_owned(), None);
        known.depth += 1;
        for parent in own.get("inherits").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !known.targets.contains_key(parent) {
                self.inherited(parent, overrides, variable, known)?;
            }
            // One that inherits from this one gives nothing to it.
            if let Some(Some(parent)) = known.targets.get(parent) {
                target::merge(&mut whole, parent);
            }
        }
        known.depth -= 1;
        target::merge(&mut whole, own);
        self.apply(name, overrides, variable, &mut whole)?;
        target::normalize(&mut whole);
        known.targets.insert(name.to_owned(), Some(whole.clone()));
        Ok(whole)
    }

    fn apply(
        &self,
        name: &str,
        overrides: &[Override],
        variable: &dyn Fn(&str) -> Option<String>,
        whole: &mut Target,
    ) -> Result<(), String> {
        let mut by_key: BTreeMap<&str, (Vec<String>, bool)> = BTreeMap::new();
        let is_exact = |pattern: &str| self.targets.iter().any(|(known, _)| known == pattern);
        for one in overrides {
            let is_meant = if is_exact(&one.pattern) { one.pattern == name } else { fits(&one.pattern, name) };
            if !is_meant {
                continue;
            }
            let value = match (&one.value, one.key.strip_prefix("args.")) {
                (Some(value), _) => value.clone(),
                (None, Some(argument)) => match variable(argument) {
                    Some(value) => value,
                    None => continue,
                },
                (None, None) => continue,
            };
            let entry = by_key.entry(&one.key).or_default();
            entry.0.push(value);
            entry.1 |= one.appends;
        }
        by_key.into_iter().try_for_each(|(key, (values, appends))| target::set(whole, key, &values, appends))
    }

    /// Says which overrides are for nothing that there is.
    pub(super) fn check_overrides(&self, overrides: &[Override]) -> Result<(), String> {
        let for_nothing = overrides.iter().find(|one| !self.targets.iter().any(|(name, _)| fits(&one.pattern, name)));
        match for_nothing {
            Some(one) => Err(format!("could not find any target matching '{}'", one.pattern)),
            None => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(is_fine) {
        true => Ok(()),
        false => Err(format!("invalid name {name:?}: only \"[a-zA-Z0-9_-]+\" are allowed")),
    }
}

/// Every combination of the values of a matrix.
fn combinations(axes: &Map<String, Value>) -> Result<Vec<Vec<(String, Value)>>, String> {
    let mut all: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for (name, values) in axes {
        let Value::Array(values) = values else { return Err(format!("Invalid matrix; {name:?} must be a list.")) };
        let with = |one: &Vec<(String, Value)>, value: &Value| {
            let mut one = one.clone();
            one.push((name.clone(), value.clone()));
            one
        };
        all = all.iter().flat_map(|one| values.iter().map(|value| with(one, value)).collect::<Vec<_>>()).collect();
    }
    Ok(all)
}

/// Matches `*`, `?` and `[a-z]`.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    fits_from(&pattern, &name)
}

fn fits_from(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|skipped| fits_from(rest, &name[skipped..])),
        (['?', rest @ ..], [_, name @ ..]) => fits_from(rest, name),
        (['[', rest @ ..], [first, name @ ..]) => {
            let Some(end) = rest.iter().position(|c| *c == ']') else { return false };
            let set = &rest[..end];
            let (set, negated) = if set.first() == Some(&'^') { (&set[1..], true) } else { (set, false) };
            let in_range = set.windows(3).any(|range| range[1] == '-' && (range[0]..=range[2]).contains(first));
            (in_range || set.contains(first)) != negated && fits_from(&rest[end + 1..], name)
        }
        ([wanted, pattern @ ..], [found, name @ ..]) => wanted == found && fits_from(pattern, name),
        _ => false,
    }
}
