//! `--policy`: buildx lets policies written in Rego decide about what a build uses. Ferry evaluates none, and says so wherever one is asked for.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::flags::parse_bool;

/// What one `--policy` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Policy {
    files: Vec<String>,
    resets: bool,
    is_disabled: bool,
    /// How strict, or how talkative.
    has_more: bool,
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

impl Policy {
    fn read(text: &str) -> Result<Self> {
        let mut policy = Self::default();
        for field in ferry_dockerfile::csv::fields(text).map_err(failed)? {
            let wrong = || failed(format!("invalid value {field}"));
            let (key, value) = field.split_once('=').ok_or_else(wrong)?;
            let truth = || parse_bool(value).map_err(|reason| failed(format!("invalid value {field}: {reason}")));
            match key.trim().to_lowercase().as_str() {
                "filename" if value.is_empty() => return Err(wrong()),
                "filename" => policy.files.push(value.to_owned()),
                "reset" => policy.resets = truth()?,
                "disabled" => policy.is_disabled = truth()?,
                "strict" => policy.has_more = truth().map(|_| true)?,
                "log-level" => policy.has_more = true,
                _ => return Err(wrong()),
            }
        }
        Ok(policy)
    }
}

/// Reads the flags of `build`: that there is to be no policy is all that can be granted.
pub(super) fn check(given: &[String]) -> Result<()> {
    let policies = given.iter().map(|text| Policy::read(text)).collect::<Result<Vec<_>>>()?;
    match policies.iter().all(|policy| policy.is_disabled) {
        true => Ok(()),
        false => {
            Err(Failure::not_implemented("policies in Rego, `--policy` of build (`--policy disabled=true` is taken)"))
        }
    }
}

/// Reads the flags of `bake`, in buildx's words.
pub(in crate::commands) fn check_for_bake(given: &[String]) -> Result<()> {
    let policies = given.iter().map(|text| Policy::read(text)).collect::<Result<Vec<_>>>()?;
    for policy in &policies {
        if !policy.files.is_empty() {
            let hint = "define policy files in the bake definition";
            return Err(failed(format!("--policy does not accept filename; {hint}")));
        }
        if policy.resets {
            let hint = "define policy composition in the bake definition";
            return Err(failed(format!("--policy does not accept reset; {hint}")));
        }
        if policy.is_disabled && (policy.has_more || policies.len() > 1) {
            return Err(failed("disabled policy cannot be combined with other policy flags"));
        }
    }
    match policies.iter().all(|policy| policy.is_disabled) {
        true => Ok(()),
        false => {
            Err(Failure::not_implemented("policies in Rego, `--policy` of bake (`--policy disabled=true` is taken)"))
        }
    }
}

/// What is to be said of a policy that buildx would find beside a Dockerfile.
pub(super) fn found_beside(dockerfile: &Path) -> Option<String> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".rego");
    let beside = Path::new(&beside);
    beside.is_file().then(|| format!("the policy {} is not evaluated: ferry knows no Rego", beside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_refused_unless_there_is_to_be_none() {
        let all = |given: &[&str]| given.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        for given in [&[][..], &["disabled=true"], &["disabled=1,filename=p.rego"]] {
            assert!(check(&all(given)).is_ok(), "{given:?}");
        }
        for (given, error) in [
            (&["filename=p.rego"][..], "not implemented"),
            (&["strict=true"], "not implemented"),
            (&["disabled=false"], "not implemented"),
            (&["disabled=maybe"], "invalid value disabled=maybe: strconv.ParseBool"),
            (&["filename="], "invalid value filename="),
            (&["p.rego"], "invalid value p.rego"),
            (&["nothing=x"], "invalid value nothing=x"),
        ] {
            assert!(check(&all(given)).unwrap_err().message.contains(error), "{given:?}");
        }
        assert!(check_for_bake(&all(&["disabled=true"])).is_ok());
        for (given, error) in [
            (&["filename=p"][..], "--policy does not accept filename"),
            (&["reset=true"], "--policy does not accept reset"),
            (&["disabled=true", "strict=true"], "cannot be combined"),
            (&["strict=true"], "not implemented"),
        ] {
            assert!(check_for_bake(&all(given)).unwrap_err().message.contains(error), "{given:?}");
        }
    }
}
