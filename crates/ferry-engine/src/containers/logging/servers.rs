//! Options of the remote drivers, read and checked as Docker's drivers do.

use std::path::PathBuf;

use ferry_shim::forward::{Address, Fluentd, Gelf, GelfCompression, Syslog, SyslogFormat, TlsFiles};

use super::url::{self, Url};
use super::{COMMON, Checked, Options, values};

/// Facilities by number.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

const DAEMON_FACILITY: u8 = 3;

const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

/// Tries of fluentd without `fluentd-max-retries`: for ever.
const FLUENTD_RETRIES: u32 = i32::MAX.unsigned_abs();

fn text<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    options.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

/// Keys that belong to another part of the configuration, or to every driver.
fn is_common(key: &str) -> bool {
    COMMON.contains(&key) || matches!(key, "mode" | "max-buffer-size") || super::is_of_cache(key)
}

/// Reads the options of `syslog`.
pub(super) fn syslog(options: &Options) -> Checked<Syslog> {
    if let Some(key) = options.keys().find(|key| !is_common(key) && !SYSLOG.contains(&key.as_str())) {
        return Err(format!("unknown log opt '{key}' for syslog log driver"));
    }
    let address =
        text(options, "syslog-address").map_or(Ok(Address::LocalSyslog), |address| syslog_address(address, options))?;
    let facility = text(options, "syslog-facility").map_or(Ok(DAEMON_FACILITY), syslog_facility)?;
    let format = match text(options, "syslog-format") {
        None => SyslogFormat::Unix,
        Some("rfc3164") => SyslogFormat::Rfc3164,
        Some("rfc5424") => SyslogFormat::Rfc5424,
        Some("rfc5424micro") => SyslogFormat::Rfc5424Micro,
        Some(_) => return Err("Invalid syslog format".to_owned()),
    };
    Ok(Syslog { address, facility, format })
}

fn syslog_address(address: &str, options: &Options) -> Checked<Address> {
    let url = url::parse(address)?;
    let path = PathBuf::from(&url.path);
    if matches!(url.scheme.as_str(), "unix" | "unixgram") {
        if !path.exists() {
            return Err(format!("stat {}: no such file or directory", url.path));
        }
        return Ok(if url.scheme == "unix" { Address::Unix(path) } else { Address::UnixDatagram(path) });
    }
    let host = || host_with_port(&url, 514);
    match url.scheme.as_str() {
        "udp" => Ok(Address::Udp(host()?)),
        "tcp" => Ok(Address::Tcp(host()?)),
        "tcp+tls" => {
            let file = |name: &str| text(options, name).map(PathBuf::from);
            let files = TlsFiles {
                authorities: file("syslog-tls-ca-cert"),
                identity: file("syslog-tls-cert").zip(file("syslog-tls-key")),
                // As in Docker, the presence of the option counts.
                skip_verify: options.contains_key("syslog-tls-skip-verify"),
            };
            Ok(Address::Tls(host()?, files))
        }
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn host_with_port(url: &Url, port: u16) -> Checked<String> {
    Ok(match url.host_and_port()? {
        Some(_) => url.host.clone(),
        None => format!("{}:{port}", url.host),
    })
}

fn syslog_facility(facility: &str) -> Checked<u8> {
    let named = FACILITIES.iter().find(|(name, _)| *name == facility).map(|(_, number)| *number);
    let numbered = || facility.parse().ok().filter(|number| *number <= 23);
    named.or_else(numbered).ok_or_else(|| "invalid syslog facility".to_owned())
}

/// Reads the options of `fluentd`.
pub(super) fn fluentd(options: &Options) -> Checked<Fluentd> {
    const OWN: [&str; 10] = [
        "fluentd-address",
        "fluentd-async",
        "fluentd-async-reconnect-interval",
        "fluentd-buffer-limit",
        "fluentd-max-retries",
        "fluentd-read-timeout",
        "fluentd-request-ack",
        "fluentd-retry-wait",
        "fluentd-sub-second-precision",
        "fluentd-write-timeout",
    ];
    if let Some(key) = options.keys().find(|key| !is_common(key) && !OWN.contains(&key.as_str())) {
        return Err(format!("unknown log opt '{key}' for fluentd log driver"));
    }
    let given = options.get("fluentd-address").map_or("", String::as_str);
    let address = fluentd_address(given).map_err(|why| format!("invalid fluentd-address ({given}): {why}"))?;
    let buffer_limit = text(options, "fluentd-buffer-limit").map_or(Ok(1 << 20), values::binary_size)?;
    let retry_wait_ms = text(options, "fluentd-retry-wait").map_or(Ok(1000), milliseconds)?;
    let max_retries = text(options, "fluentd-max-retries").map_or(Ok(FLUENTD_RETRIES), |count| {
        u32::try_from(values::unsigned(count, 32)?)
            .ok()
            .filter(|count| *count <= FLUENTD_RETRIES)
            .ok_or_else(|| "invalid fluentd-max-retries: value out of range".to_owned())
    })?;
    let flag = |name: &str| text(options, name).map_or(Ok(false), values::boolean);
    let timeout = |name: &str| text(options, name).map_or(Ok(0), |value| fluentd_timeout(name, value));
    Ok(Fluentd {
        address,
        is_async: flag("fluentd-async")?,
        buffer_limit,
        // 0 is the library's own default.
        retry_wait_ms: if retry_wait_ms == 0 { 500 } else { retry_wait_ms },
        max_retries: if max_retries == 0 { 13 } else { max_retries },
        reconnect_interval_ms: fluentd_reconnect_interval(options)?,
        sub_second_precision: flag("fluentd-sub-second-precision")?,
        request_ack: flag("fluentd-request-ack")?,
        write_timeout_ms: timeout("fluentd-write-timeout")?,
        read_timeout_ms: timeout("fluentd-read-timeout")?,
    })
}

fn milliseconds(text: &str) -> Checked<u64> {
    Ok(u64::try_from(values::duration(text)? / 1_000_000).unwrap_or(0))
}

fn fluentd_timeout(name: &str, value: &str) -> Checked<u64> {
    let duration =
        values::duration(value).map_err(|why| format!("invalid value for {name}: value must be a duration: {why}"))?;
    u64::try_from(duration)
        .map(|nanoseconds| nanoseconds / 1_000_000)
        .map_err(|_| format!("invalid value for {name}: value must be a duration that is non-negative"))
}

fn fluentd_reconnect_interval(options: &Options) -> Checked<u64> {
    const NAME: &str = "fluentd-async-reconnect-interval";
    let Some(given) = text(options, NAME) else { return Ok(0) };
    let nanoseconds = values::duration(given).map_err(|why| format!("invalid value for {NAME}: {why}"))?;
    match nanoseconds {
        0 => Ok(0),
        100_000_000..=10_000_000_000 => Ok(u64::try_from(nanoseconds / 1_000_000).unwrap_or(0)),
        _ => Err(format!("invalid value for {NAME}: value ({given:?}) must be between 100ms and 10s")),
    }
}

fn fluentd_address(address: &str) -> Checked<Address> {
    if address.is_empty() {
        return Ok(Address::Tcp("127.0.0.1:24224".to_owned()));
    }
    let url = if address.contains("://") { url::parse(address)? } else { url::parse(&format!("tcp://{address}"))? };
    match url.scheme.as_str() {
        "unix" if url.path.trim_start_matches('/').is_empty() => return Err("path is empty".to_owned()),
        "unix" => return Ok(Address::Unix(PathBuf::from(url.path))),
        "tcp" | "tls" => {}
        other => return Err(format!("unsupported scheme: '{other}'")),
    }
    if !url.path.is_empty() {
        return Err("should not contain a path element".to_owned());
    }
    let (host, port) = match url.host_and_port()? {
        Some((host, port)) => (host, port),
        None => (url.host.as_str(), ""),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let port = if port.is_empty() {
        24224
    } else {
        values::unsigned(port, 16).map_err(|why| format!("invalid port: {why}"))?
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let server = format!("{host}:{port}");
    Ok(if url.scheme == "tls" { Address::Tls(server, TlsFiles::default()) } else { Address::Tcp(server) })
}

/// Reads the options of `gelf`.
pub(super) fn gelf(options: &Options) -> Checked<Gelf> {
    let given = text(options, "gelf-address").ok_or("gelf-address is a required parameter")?;
    let url = url::parse(given)?;
    if url.scheme != "udp" && url.scheme != "tcp" {
        return Err("gelf: endpoint needs to be TCP or UDP".to_owned());
    }
    if !matches!(url.host_and_port(), Ok(Some(_))) {
        return Err("gelf: please provide gelf-address as proto://host:port".to_owned());
    }
    let is_udp = url.scheme == "udp";
    let mut gelf = Gelf {
        address: if is_udp { Address::Udp(url.host.clone()) } else { Address::Tcp(url.host.clone()) },
        compression: GelfCompression::Gzip,
        compression_level: 1,
        max_reconnect: 3,
        reconnect_delay_s: 1,
    };
    for (key, value) in options {
        match key.as_str() {
            "gelf-address" => {}
            "gelf-compression-level" | "gelf-compression-type" if !is_udp => {
                return Err("compression is only supported on UDP".to_owned());
            }
            "gelf-compression-level" => {
                gelf.compression_level =
                    value.parse().ok().filter(|level| (-1..=9).contains(level)).ok_or_else(|| unknown(key, value))?;
            }
            "gelf-compression-type" => {
                gelf.compression = match value.as_str() {
                    "gzip" => GelfCompression::Gzip,
                    "zlib" => GelfCompression::Zlib,
                    "none" => GelfCompression::None,
                    _ => return Err(unknown(key, value)),
                };
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                if is_udp {
                    return Err(format!("{key:?} is only valid for TCP"));
                }
                let number: u32 = value.parse().map_err(|_| format!("{key:?} must be a positive integer"))?;
                if key == "gelf-tcp-max-reconnect" {
                    gelf.max_reconnect = number;
                } else {
                    gelf.reconnect_delay_s = number.into();
                }
            }
            _ if is_common(key) => {}
            _ => return Err(format!("unknown log opt {key:?} for gelf log driver")),
        }
    }
    Ok(gelf)
}

fn unknown(key: &str, value: &str) -> String {
    format!("unknown value {value:?} for log opt {key:?} for gelf log driver")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn refused<T: std::fmt::Debug>(read: fn(&Options) -> Checked<T>, cases: &[(&[(&str, &str)], &str)]) {
        for (pairs, expected) in cases {
            assert_eq!(read(&options(pairs)).expect_err("refused"), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn syslog_is_read() {
        let read = |pairs: &[(&str, &str)]| syslog(&options(pairs)).expect("read");
        assert_eq!(read(&[]).address, Address::LocalSyslog);
        assert_eq!(read(&[("syslog-address", "udp://h")]).address, Address::Udp("h:514".into()));
        let tls = read(&[
            ("syslog-address", "tcp+tls://h:6514"),
            ("syslog-tls-ca-cert", "/ca"),
            ("syslog-tls-cert", "/c"),
            ("syslog-tls-key", "/k"),
            ("syslog-facility", "local7"),
            ("syslog-format", "rfc5424micro"),
        ]);
        let files = TlsFiles {
            authorities: Some("/ca".into()),
            identity: Some(("/c".into(), "/k".into())),
            skip_verify: false,
        };
        assert_eq!(tls.address, Address::Tls("h:6514".into(), files));
        assert_eq!((tls.facility, tls.format), (23, SyslogFormat::Rfc5424Micro));
        assert_eq!(read(&[("syslog-facility", "17")]).facility, 17);
        refused(
            syslog,
            &[
                (&[("syslog-address", "http://h")], "unsupported scheme: 'http'"),
                (
                    &[("syslog-address", "127.0.0.1:514")],
                    "parse \"127.0.0.1:514\": first path segment in URL cannot contain colon",
                ),
                (&[("syslog-address", "unix:///nonexistent")], "stat /nonexistent: no such file or directory"),
                (&[("syslog-facility", "x")], "invalid syslog facility"),
                (&[("syslog-facility", "24")], "invalid syslog facility"),
                (&[("syslog-format", "x")], "Invalid syslog format"),
            ],
        );
    }

    #[test]
    fn fluentd_is_read() {
        let read = |pairs: &[(&str, &str)]| fluentd(&options(pairs)).expect("read");
        let default = read(&[]);
        assert_eq!(default.address, Address::Tcp("127.0.0.1:24224".into()));
        assert_eq!(
            (default.buffer_limit, default.retry_wait_ms, default.max_retries),
            (1 << 20, 1000, FLUENTD_RETRIES)
        );
        let all = read(&[
            ("fluentd-address", "tls://h:1"),
            ("fluentd-async", "true"),
            ("fluentd-async-reconnect-interval", "500ms"),
            ("fluentd-buffer-limit", "8k"),
            ("fluentd-max-retries", "2"),
            ("fluentd-retry-wait", "2s"),
            ("fluentd-sub-second-precision", "1"),
            ("fluentd-request-ack", "t"),
            ("fluentd-write-timeout", "3s"),
            ("fluentd-read-timeout", "4s"),
        ]);
        let expected = Fluentd {
            address: Address::Tls("h:1".into(), TlsFiles::default()),
            is_async: true,
            buffer_limit: 8192,
            retry_wait_ms: 2000,
            max_retries: 2,
            reconnect_interval_ms: 500,
            sub_second_precision: true,
            request_ack: true,
            write_timeout_ms: 3000,
            read_timeout_ms: 4000,
        };
        assert_eq!(all, expected);
        assert_eq!(read(&[("fluentd-address", "unix:///s")]).address, Address::Unix("/s".into()));
        assert_eq!(read(&[("fluentd-address", "h")]).address, Address::Tcp("h:24224".into()));
        refused(
            fluentd,
            &[
                (&[("fluentd-address", "x://h")], "invalid fluentd-address (x://h): unsupported scheme: 'x'"),
                (&[("fluentd-address", "h:1/p")], "invalid fluentd-address (h:1/p): should not contain a path element"),
                (&[("fluentd-address", "unix://")], "invalid fluentd-address (unix://): path is empty"),
                (&[("fluentd-async", "x")], "strconv.ParseBool: parsing \"x\": invalid syntax"),
                (&[("fluentd-retry-wait", "x")], "time: invalid duration \"x\""),
                (
                    &[("fluentd-async-reconnect-interval", "1h")],
                    "invalid value for fluentd-async-reconnect-interval: value (\"1h\") must be between 100ms and 10s",
                ),
                (
                    &[("fluentd-write-timeout", "-1s")],
                    "invalid value for fluentd-write-timeout: value must be a duration that is non-negative",
                ),
            ],
        );
    }

    #[test]
    fn gelf_is_read() {
        let udp = ("gelf-address", "udp://h:12201");
        let tcp = ("gelf-address", "tcp://h:12201");
        let read = |pairs: &[(&str, &str)]| gelf(&options(pairs)).expect("read");
        let level = read(&[udp, ("gelf-compression-type", "zlib"), ("gelf-compression-level", "9")]);
        assert_eq!((level.compression, level.compression_level), (GelfCompression::Zlib, 9));
        let stream = read(&[tcp, ("gelf-tcp-max-reconnect", "7"), ("gelf-tcp-reconnect-delay", "0")]);
        assert_eq!(
            (stream.address, stream.max_reconnect, stream.reconnect_delay_s),
            (Address::Tcp("h:12201".into()), 7, 0)
        );
        refused(
            gelf,
            &[
                (&[], "gelf-address is a required parameter"),
                (&[("gelf-address", "http://h:1")], "gelf: endpoint needs to be TCP or UDP"),
                (&[("gelf-address", "udp://h")], "gelf: please provide gelf-address as proto://host:port"),
                (
                    &[udp, ("gelf-compression-type", "x")],
                    "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
                ),
                (
                    &[udp, ("gelf-compression-level", "10")],
                    "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
                ),
                (&[tcp, ("gelf-compression-type", "gzip")], "compression is only supported on UDP"),
                (&[udp, ("gelf-tcp-max-reconnect", "1")], "\"gelf-tcp-max-reconnect\" is only valid for TCP"),
                (&[tcp, ("gelf-tcp-max-reconnect", "-1")], "\"gelf-tcp-max-reconnect\" must be a positive integer"),
            ],
        );
    }
}
