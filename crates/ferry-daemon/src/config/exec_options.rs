//! `exec-opts`: who makes the cgroups of containers, in dockerd's words.

use ferry_engine::config::CgroupDriver;

use super::ConfigError;

const DRIVER: &str = "native.cgroupdriver";

/// Reads the options; of several drivers the first counts.
pub(super) fn cgroup_driver(options: &[String]) -> Result<CgroupDriver, ConfigError> {
    let mut driver = None;
    for option in options {
        let invalid = |reason: &str| ConfigError::InDockersWords(format!("invalid exec-opt ({option}): {reason}"));
        let (name, value) = option
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| invalid("must be formatted 'opt=value'"))?;
        if !name.eq_ignore_ascii_case(DRIVER) {
            return Err(invalid(&format!("unknown option: '{name}'")));
        }
        driver.get_or_insert(value);
    }
    let reason = match driver {
        None => return Ok(CgroupDriver::Unset),
        Some("cgroupfs") => return Ok(CgroupDriver::Cgroupfs),
        Some("systemd") => return Ok(CgroupDriver::Systemd),
        Some("none") => "option none is internally used and cannot be specified manually".to_owned(),
        Some(other) => format!("option {other} not supported"),
    };
    Err(ConfigError::InDockersWords(format!("failed to start daemon: {DRIVER} {reason}")))
}

/// Checks `cgroup-parent` against the driver.
pub(super) fn check_parent(driver: CgroupDriver, parent: Option<&str>) -> Result<(), ConfigError> {
    match parent {
        Some(parent) if !driver.takes_parent(parent) => {
            Err(ConfigError::InDockersWords(format!("failed to start daemon: {}", CgroupDriver::BAD_PARENT)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(options: &[&str]) -> Result<CgroupDriver, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        cgroup_driver(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn drivers_have_docker_s_names() {
        assert_eq!(driver(&[]), Ok(CgroupDriver::Unset));
        assert_eq!(driver(&["native.cgroupdriver=cgroupfs"]), Ok(CgroupDriver::Cgroupfs));
        assert_eq!(driver(&["Native.CgroupDriver=systemd"]), Ok(CgroupDriver::Systemd));
        let both = ["native.cgroupdriver=systemd", "native.cgroupdriver=cgroupfs"];
        assert_eq!(driver(&both), Ok(CgroupDriver::Systemd), "the first counts");
    }

    #[test]
    fn what_is_wrong_is_told_in_dockers_words() {
        for (option, text) in [
            ("native.cgroupdriver=foo", "failed to start daemon: native.cgroupdriver option foo not supported"),
            (
                "native.cgroupdriver=none",
                "failed to start daemon: native.cgroupdriver option none is internally used and cannot be specified manually",
            ),
            ("foo", "invalid exec-opt (foo): must be formatted 'opt=value'"),
            ("native.cgroupdriver=", "invalid exec-opt (native.cgroupdriver=): must be formatted 'opt=value'"),
            ("foo=bar", "invalid exec-opt (foo=bar): unknown option: 'foo'"),
        ] {
            assert_eq!(driver(&[option]), Err(text.to_owned()));
        }
    }

    #[test]
    fn systemd_takes_slices_alone() {
        let check = |driver, parent| check_parent(driver, parent).map_err(|error| error.to_string());
        assert_eq!(check(CgroupDriver::Systemd, Some("x.slice")), Ok(()));
        assert_eq!(check(CgroupDriver::Systemd, None), Ok(()));
        assert_eq!(check(CgroupDriver::Unset, Some("/x")), Ok(()));
        let text =
            "failed to start daemon: cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"";
        for bad in ["x", "/x", ".slice"] {
            assert_eq!(check(CgroupDriver::Systemd, Some(bad)), Err(text.to_owned()), "{bad}");
        }
    }
}
