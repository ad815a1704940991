//! `-v` and `--volumes-from`: texts with colons.

use ferry_spec::path::clean_rooted;

use super::{Asked, PROPAGATIONS, anonymous_volume, destination_path, record, volume_kind};
use crate::containers::record::MountKind;
use crate::error::{Error, Result};
use crate::volumes;

/// Reads `[source:]destination[:options]`.
///
/// # Errors
/// Docker's texts; a form that cannot be read is Docker's 500.
pub(super) fn parse(text: &str, driver: &str) -> Result<Asked> {
    let invalid = || Error::internal(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        // A destination with options is none: an unnamed volume has no options.
        [_, mode] if Options::parse(mode).is_some() => return Err(invalid()),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if parts[0].is_empty() {
        return Err(invalid());
    }
    let options = Options::parse(mode).ok_or_else(|| Error::internal(format!("invalid mode: {mode}")))?;
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    let misfit = |field: &str| {
        invalid().with_source(Error::invalid(format!(
            "invalid mount config for type \"{kind}\": field {field} must not be specified"
        )))
    };
    if is_bind && !options.copy_up {
        return Err(misfit("VolumeOptions"));
    }
    if !is_bind && options.own {
        return Err(Error::internal(format!("invalid mode: {mode}")));
    }
    if !is_bind && options.propagation.is_some() {
        return Err(misfit("BindOptions"));
    }
    let destination = destination_path(destination).map_err(|error| {
        let reason = format!("invalid mount config for type \"{kind}\": {}", error.text());
        invalid().with_source(Error::invalid(reason))
    })?;
    if is_bind {
        let kind = MountKind::Bind { source: clean_rooted(source), create_source: true };
        let mut mount = record(kind, destination, mode, options.writable);
        mount.propagation = options.propagation.unwrap_or("rprivate").to_owned();
        mount.own = options.own;
        let mut asked = Asked::new(mount);
        asked.propagation_asked = options.propagation.is_some();
        return Ok(asked);
    }
    if source.is_empty() {
        let mut asked = anonymous_volume(destination, driver);
        if matches!(driver, "" | volumes::LOCAL) {
            "z".clone_into(&mut asked.mount.mode);
        }
        return Ok(asked);
    }
    volumes::validate_name_for(source, driver)?;
    // Labels are for what is here.
    let is_local = matches!(driver, "" | volumes::LOCAL);
    let mode = if mode.is_empty() && is_local { "z" } else { mode };
    let mut asked = Asked::new(record(volume_kind(source), destination, mode, options.writable));
    asked.copy_up = options.copy_up;
    driver.clone_into(&mut asked.volume.driver);
    Ok(asked)
}

/// Reads `container[:mode]`: which container, and whether its mounts may be written.
///
/// # Errors
/// InvalidArgument with Docker's texts.
pub(in crate::containers) fn volumes_from(text: &str) -> Result<(&str, bool)> {
    if text.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string".to_owned()));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    // Propagation and copying are those of the other container.
    match Options::parse(mode) {
        Some(Options { writable, copy_up: true, propagation: None, own: false }) => Ok((container, writable)),
        _ => Err(Error::invalid(format!("invalid mode: {mode}"))),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Options<'a> {
    writable: bool,
    copy_up: bool,
    propagation: Option<&'a str>,
    /// Ferry's own word.
    own: bool,
}

impl<'a> Options<'a> {
    /// One word of each sort at most.
    fn parse(text: &'a str) -> Option<Self> {
        let mut options = Self { writable: true, copy_up: true, propagation: None, own: false };
        if text.is_empty() {
            return Some(options);
        }
        let (mut access, mut label, mut consistency) = (0, 0, 0);
        for option in text.split(',') {
            match option {
                "rw" | "ro" => {
                    access += 1;
                    options.writable = option == "rw";
                }
                // What labels mean is read from the mode when it is mounted; consistency is for other systems.
                "z" | "Z" => label += 1,
                "consistent" | "cached" | "delegated" => consistency += 1,
                "nocopy" if options.copy_up => options.copy_up = false,
                "own" if !options.own => options.own = true,
                _ if PROPAGATIONS.contains(&option) && options.propagation.is_none() => {
                    options.propagation = Some(option);
                }
                _ => return None,
            }
        }
        (access <= 1 && label <= 1 && consistency <= 1).then_some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::MountRecord;

    fn mount_of(text: &str) -> MountRecord {
        parse(text, "").unwrap().mount
    }

    #[test]
    fn forms_of_v() {
        let bind = mount_of("/host:/c");
        assert!(matches!(bind.kind, MountKind::Bind { ref source, create_source: true } if source == "/host"));
        let named = mount_of("data:/c:ro");
        assert!(matches!(named.kind, MountKind::Volume { ref name, anonymous: false, .. } if name == "data"));
        assert_eq!((named.writable, named.mode.as_str()), (false, "ro"));
        assert_eq!(mount_of("data:/c").mode, "z");
        assert!(matches!(mount_of("/c").kind, MountKind::Volume { anonymous: true, .. }));
        assert_eq!(mount_of("/a/../b//c/:/d/./e").destination, "/d/e");
        assert_eq!(mount_of("/a:/b:rslave,ro").propagation, "rslave");
        assert!(!parse("data:/c:nocopy", "").unwrap().copy_up);
        assert!(mount_of("/a:/b:own,ro").own && parse("data:/c:own", "").is_err());
        assert_eq!(parse("data:/c", "other").unwrap().volume.driver, "other");
    }

    #[test]
    fn bad_forms_are_named() {
        let misfit = "invalid mount config for type";
        for (text, message) in [
            (
                "/a:b",
                "'/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            ("/a:/", "'/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"),
            (":/b", "':/b'"),
            ("", "''"),
            ("/b:ro", "'/b:ro'"),
            ("/a:/b:ro:x", "'/a:/b:ro:x'"),
            ("/a:/b:nocopy", &format!("'/a:/b:nocopy': {misfit} \"bind\": field VolumeOptions must not be specified")),
            ("ab:/b:shared", &format!("'ab:/b:shared': {misfit} \"volume\": field BindOptions must not be specified")),
        ] {
            assert_eq!(
                parse(text, "").unwrap_err().text(),
                format!("invalid volume specification: {message}"),
                "{text}"
            );
        }
        for mode in ["nope", "ro,rw", "z,Z", "nocopy,nocopy", "shared,slave", "default", "cached,delegated"] {
            assert_eq!(parse(&format!("/a:/b:{mode}"), "").unwrap_err().text(), format!("invalid mode: {mode}"));
        }
    }

    #[test]
    fn volumes_from_takes_access_alone() {
        assert_eq!(volumes_from("a").unwrap(), ("a", true));
        assert_eq!(volumes_from("a:ro").unwrap(), ("a", false));
        assert_eq!(volumes_from("a:ro,z").unwrap(), ("a", false));
        for mode in ["nope", "nocopy", "rshared", "ro:x"] {
            assert_eq!(volumes_from(&format!("a:{mode}")).unwrap_err().text(), format!("invalid mode: {mode}"));
        }
        assert_eq!(volumes_from("").unwrap_err().text(), "volumes-from specification cannot be an empty string");
    }
}
