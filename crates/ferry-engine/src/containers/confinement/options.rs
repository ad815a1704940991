//! The words of `SecurityOpt`. Pure.

use ferry_api::container::HostConfig;

use crate::error::{Error, Result};

/// What `SecurityOpt` asks for; what is not said is open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    /// Whether programs may gain rights by running others.
    pub(crate) no_new_privileges: Option<bool>,
    /// Whether the container may make cgroups below its own.
    pub(crate) writable_cgroups: Option<bool>,
    /// AppArmor profile by name; empty is the default.
    pub(crate) apparmor: String,
    /// `unconfined`, `builtin`, or a profile as JSON; empty is the engine's.
    pub(crate) seccomp: String,
    /// SELinux label parts, such as `type:x`.
    pub(crate) labels: Vec<String>,
}

impl SecurityOptions {
    /// Reads the options of a container.
    ///
    /// # Errors
    /// InvalidArgument in Docker's words.
    pub(crate) fn parse(host: &HostConfig) -> Result<Self> {
        let mut options = Self::default();
        for option in host.security_opt.iter().flatten() {
            options.add(option)?;
        }
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        // With Docker's status too.
        let second = || Error::internal(format!("invalid --security-opt 2: {option:?}"));
        match option {
            "no-new-privileges" => self.no_new_privileges = Some(true),
            "writable-cgroups" => self.writable_cgroups = Some(true),
            "disable" => self.labels.push("disable".to_owned()),
            _ => {
                let (key, value) = option
                    .split_once('=')
                    .or_else(|| option.split_once(':'))
                    .ok_or_else(|| Error::internal(format!("invalid --security-opt 1: {option:?}")))?;
                match key {
                    "label" => self.labels.push(value.to_owned()),
                    "apparmor" => value.clone_into(&mut self.apparmor),
                    "seccomp" => value.clone_into(&mut self.seccomp),
                    "no-new-privileges" => self.no_new_privileges = Some(go_bool(value).ok_or_else(second)?),
                    "writable-cgroups" => self.writable_cgroups = Some(go_bool(value).ok_or_else(second)?),
                    // The client turns it into empty lists of paths; to whoever sends it all the same it means the same.
                    "systempaths" if value == "unconfined" => {}
                    _ => return Err(second()),
                }
            }
        }
        Ok(())
    }
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<SecurityOptions> {
        let security_opt = Some(options.iter().map(|option| (*option).to_owned()).collect());
        SecurityOptions::parse(&HostConfig { security_opt, ..HostConfig::default() })
    }

    #[test]
    fn words_are_dockers() {
        let options = parse(&[
            "no-new-privileges",
            "apparmor=mine",
            "seccomp:unconfined",
            "label=type:svirt_t",
            "label:disable",
            "writable-cgroups=false",
            "systempaths=unconfined",
        ])
        .unwrap();
        assert_eq!((options.no_new_privileges, options.writable_cgroups), (Some(true), Some(false)));
        assert_eq!((options.apparmor.as_str(), options.seccomp.as_str()), ("mine", "unconfined"));
        assert_eq!(options.labels, ["type:svirt_t", "disable"]);
        assert_eq!(parse(&["no-new-privileges:false"]).unwrap().no_new_privileges, Some(false));
        assert_eq!(parse(&["writable-cgroups"]).unwrap().writable_cgroups, Some(true));
    }

    #[test]
    fn other_words_are_refused_as_docker_does() {
        for (option, text) in [
            ("nonsense", "invalid --security-opt 1: \"nonsense\""),
            ("a=b", "invalid --security-opt 2: \"a=b\""),
            ("no-new-privileges=maybe", "invalid --security-opt 2: \"no-new-privileges=maybe\""),
            ("systempaths=other", "invalid --security-opt 2: \"systempaths=other\""),
        ] {
            assert_eq!(parse(&[option]).unwrap_err().text(), text);
        }
        // What a label may say is up to SELinux.
        assert_eq!(parse(&["label=colour:red"]).unwrap().labels, ["colour:red"]);
    }
}
