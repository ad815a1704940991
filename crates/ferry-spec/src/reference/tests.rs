//! The vectors of the reference implementation, as tables.

use super::*;

const F64: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const HEX64: &str = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";

/// Input, then domain, path, tag, digest.
type Row = (String, &'static str, String, &'static str, String);

fn row(
    input: impl Into<String>,
    domain: &'static str,
    path: impl Into<String>,
    tag: &'static str,
    digest: &str,
) -> Row {
    (input.into(), domain, path.into(), tag, digest.to_owned())
}

#[test]
fn the_grammar_is_dockers() {
    let sha256 = format!("sha256:{F64}");
    let sha512 = format!("sha512:{F64}{F64}");
    let at = |name: &str| format!("{name}@sha256:{F64}");
    let long = "a/".repeat(127) + "a";
    let rows = [
        row("test_com", "", "test_com", "", ""),
        row("test.com:tag", "", "test.com", "tag", ""),
        row("test.com:5000", "", "test.com", "5000", ""),
        row("test.com/repo:tag", "test.com", "repo", "tag", ""),
        row("test:5000/repo", "test:5000", "repo", "", ""),
        row("test:5000/repo:tag", "test:5000", "repo", "tag", ""),
        row(at("test:5000/repo"), "test:5000", "repo", "", &sha256),
        row(at("test:5000/repo:tag"), "test:5000", "repo", "tag", &sha256),
        row("lowercase:Uppercase", "", "lowercase", "Uppercase", ""),
        row(format!("{long}:tag-puts-this-over-max"), "a", &long[2..], "tag-puts-this-over-max", ""),
        row("sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux", "", ""),
        row("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux", "some-long-tag", ""),
        row(
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io",
            "test.example.com/my-app",
            "test.example.com",
            "",
        ),
        row("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", ""),
        row(format!("xn--7o8h.com/myimage:xn--7o8h.com@{sha512}"), "xn--7o8h.com", "myimage", "xn--7o8h.com", &sha512),
        row("foo_bar.com:8080", "", "foo_bar.com", "8080", ""),
        row("foo/foo_bar.com:8080", "foo", "foo_bar.com", "8080", ""),
        row("192.168.1.1", "", "192.168.1.1", "", ""),
        row("192.168.1.1:tag", "", "192.168.1.1", "tag", ""),
        row("192.168.1.1:5000", "", "192.168.1.1", "5000", ""),
        row("192.168.1.1/repo", "192.168.1.1", "repo", "", ""),
        row("192.168.1.1:5000/repo", "192.168.1.1:5000", "repo", "", ""),
        row("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050", ""),
        row("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "", ""),
        row("[2001:db8:1:2:3:4:5:6]/repo:tag", "[2001:db8:1:2:3:4:5:6]", "repo", "tag", ""),
        row("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000", "repo", "", ""),
        row("[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000", "repo", "tag", ""),
        row(at("[2001:db8::1]:5000/repo"), "[2001:db8::1]:5000", "repo", "", &sha256),
        row(at("[2001:db8::1]:5000/repo:tag"), "[2001:db8::1]:5000", "repo", "tag", &sha256),
        row("[2001:db8::]:5000/repo", "[2001:db8::]:5000", "repo", "", ""),
        row("[::1]:5000/repo", "[::1]:5000", "repo", "", ""),
    ];
    for (input, domain, path, tag, digest) in rows {
        let parts = parse_parts(&input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(parts.domain.unwrap_or(""), domain, "{input}");
        assert_eq!(parts.path, path, "{input}");
        assert_eq!(parts.tag.unwrap_or(""), tag, "{input}");
        assert_eq!(parts.digest.map(|d| d.to_string()).unwrap_or_default(), digest, "{input}");
    }
}

#[test]
fn what_is_outside_the_grammar_is_told_apart() {
    use ReferenceError as E;
    let cases = [
        (String::new(), E::Empty),
        (":justtag".to_owned(), E::Format),
        (format!("@sha256:{F64}"), E::Format),
        (format!("repo@sha256:{}", &F64[..34]), E::Digest(DigestError::Length)),
        (format!("validname@invaliddigest:{F64}"), E::Digest(DigestError::Unsupported)),
        ("Uppercase:tag".to_owned(), E::Uppercase),
        ("test:5000/Uppercase/lowercase:tag".to_owned(), E::Uppercase),
        ("a/".repeat(129) + "a:tag", E::TooLong),
        ("aa/asdf$$^/aa".to_owned(), E::Format),
        ("[2001:db8::1]".to_owned(), E::Format),
        ("[2001:db8::1]:5000".to_owned(), E::Format),
        ("[2001:db8::1]:tag".to_owned(), E::Format),
        ("[fe80::1%eth0]:5000/repo".to_owned(), E::Format),
        ("[fe80::1%@invalidzone]:5000/repo".to_owned(), E::Format),
    ];
    for (input, expected) in cases {
        assert_eq!(parse_parts(&input).err(), Some(expected), "{input}");
    }
}

#[test]
fn valid_names_are_normalised() {
    for name in [
        "docker/docker",
        "library/debian",
        "debian",
        "docker.io/docker/docker",
        "docker.io/library/debian",
        "docker.io/debian",
        "index.docker.io/docker/docker",
        "index.docker.io/library/debian",
        "index.docker.io/debian",
        "127.0.0.1:5000/docker/docker",
        "127.0.0.1:5000/library/debian",
        "127.0.0.1:5000/debian",
        "192.168.0.1",
        "192.168.0.1:80",
        "192.168.0.1:8/debian",
        "192.168.0.2:25000/debian",
        "thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev",
        "[fc00::1]:5000/docker",
        "[fc00::1]:5000/docker/docker",
        "[fc00:1:2:3:4:5:6:7]:5000/library/debian",
        "Docker/docker",
        "DOCKER/docker",
        "docker-rules/docker",
        "docker---rules/docker",
        "d/docker",
        "jess/t",
        "dock__er/docker",
    ] {
        assert!(Reference::parse(name).is_ok(), "{name}");
    }
    assert!(Reference::parse(&format!("docker.io/{HEX64}")).is_ok());
}

#[test]
fn invalid_names_are_refused() {
    let long = "this_is_not_a_valid_namespace_because_its_lenth_is_greater_than_255_".repeat(4) + "/docker";
    let names = [
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        "[fc00::1]",
        "[fc00::1]:5000",
        "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian",
        "[2001:db8:3:4::192.0.2.33]:5000/debian",
        HEX64,
        "docker-/docker",
        "-docker-/docker",
        "____/____",
        "_docker/_docker",
        "dock..er/docker",
        "dock_.er/docker",
        "dock-.er/docker",
        "docker/",
        &long,
        "../../x:y",
        "a\nb",
        "a\x1b[31m",
        "a:",
        "a@",
        "a b",
        "é",
        "",
        ".",
        "a:b:c",
    ];
    for name in names {
        assert!(Reference::parse(name).is_err(), "{name:?}");
    }
}

#[test]
fn familiar_and_full_names() {
    // Familiar name, full name, another spelling, domain, path.
    let rows = [
        ("fooo/bar", "docker.io/fooo/bar", "index.docker.io/fooo/bar", "docker.io", "fooo/bar"),
        ("ubuntu", "docker.io/library/ubuntu", "library/ubuntu", "docker.io", "library/ubuntu"),
        ("nonlibrary/ubuntu", "docker.io/nonlibrary/ubuntu", "", "docker.io", "nonlibrary/ubuntu"),
        ("other/library", "docker.io/other/library", "", "docker.io", "other/library"),
        (
            "127.0.0.1:8000/private/moonbase",
            "127.0.0.1:8000/private/moonbase",
            "",
            "127.0.0.1:8000",
            "private/moonbase",
        ),
        ("127.0.0.1:8000/privatebase", "127.0.0.1:8000/privatebase", "", "127.0.0.1:8000", "privatebase"),
        ("example.com/private/moonbase", "example.com/private/moonbase", "", "example.com", "private/moonbase"),
        ("example.com:8000/privatebasee", "example.com:8000/privatebasee", "", "example.com:8000", "privatebasee"),
        (
            "ubuntu-12.04-base",
            "docker.io/library/ubuntu-12.04-base",
            "index.docker.io/library/ubuntu-12.04-base",
            "docker.io",
            "library/ubuntu-12.04-base",
        ),
        ("foo", "docker.io/library/foo", "docker.io/foo", "docker.io", "library/foo"),
        ("library/foo/bar", "docker.io/library/foo/bar", "", "docker.io", "library/foo/bar"),
        ("store/foo/bar", "docker.io/store/foo/bar", "", "docker.io", "store/foo/bar"),
        ("Foo/bar", "Foo/bar", "", "Foo", "bar"),
        ("FOO/bar", "FOO/bar", "", "FOO", "bar"),
        ("test_com/foo", "docker.io/test_com/foo", "", "docker.io", "test_com/foo"),
        ("localhost/foo", "localhost/foo", "", "localhost", "foo"),
        ("LOCALHOST/foo", "LOCALHOST/foo", "", "LOCALHOST", "foo"),
        ("[::1]:5000/x", "[::1]:5000/x", "", "[::1]:5000", "x"),
    ];
    for (familiar, full, other, domain, path) in rows {
        for spelling in [familiar, full, other].into_iter().filter(|text| !text.is_empty()) {
            let reference = Reference::parse(spelling).unwrap();
            assert_eq!(reference.familiar_name(), familiar, "{spelling}");
            assert_eq!(reference.to_string(), full, "{spelling}");
            assert_eq!(reference.domain(), domain, "{spelling}");
            assert_eq!(reference.path(), path, "{spelling}");
        }
    }
}

#[test]
fn identifiers_and_digests_are_told_from_names() {
    let digest = format!("sha256:{HEX64}");
    assert!(matches!(AnyReference::parse(HEX64), Ok(AnyReference::Digest(d)) if d.as_str() == digest));
    assert!(matches!(AnyReference::parse(&digest), Ok(AnyReference::Digest(d)) if d.as_str() == digest));
    for name in ["redis", "dbcc1", &HEX64[1..]] {
        let AnyReference::Named(reference) = AnyReference::parse(name).unwrap() else { panic!("{name}") };
        assert_eq!(reference.to_string(), format!("docker.io/library/{name}"));
    }
}

#[test]
fn errors_read_as_dockers() {
    let text = |name: &str| Reference::parse(name).unwrap_err().to_string();
    assert_eq!(text("Foo"), "invalid reference format: repository name (library/Foo) must be lowercase");
    assert_eq!(text("user/Foo:tag"), "invalid reference format: repository name (user/Foo) must be lowercase");
    assert_eq!(text("a:b:c"), "invalid reference format");
    assert_eq!(text(""), "invalid reference format");
    assert_eq!(text(HEX64), format!("invalid repository name ({HEX64}), cannot specify 64-byte hexadecimal strings"));
    assert_eq!(text(&"a/".repeat(200)), "invalid reference format");
    assert_eq!(text(&format!("x/{}", "a".repeat(300))), "repository name must not be more than 255 characters");
    assert_eq!(text("a@sha256:abc"), "invalid reference format");
    assert_eq!(text(&format!("a@md5:{F64}")), "unsupported digest algorithm");
}

#[test]
fn tags_and_digests_are_kept_and_set() {
    let text = format!("busybox:1@sha256:{F64}");
    let both = Reference::parse(&text).unwrap();
    assert_eq!(both.to_string(), format!("docker.io/library/{text}"));
    assert_eq!(both.familiar(), text);
    assert_eq!(both.clone().digest_over_tag().familiar(), format!("busybox@sha256:{F64}"));
    assert_eq!(both.repository().with_default_tag().familiar(), "busybox:latest");
    assert_eq!(
        Reference::parse_with_default_tag("hello-world").unwrap().to_string(),
        "docker.io/library/hello-world:latest"
    );
    assert_eq!(both.repository().with_tag("-foo"), Err(ReferenceError::Tag));
    assert_eq!(both.repository().with_tag(&"a".repeat(129)), Err(ReferenceError::Tag));
    assert_eq!(both.repository().with_tag("v1.0-x_Y").unwrap().familiar(), "busybox:v1.0-x_Y");
    let json = serde_json::to_string(&both).unwrap();
    assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), both);
}

#[test]
fn whatever_parses_is_read_again_from_what_it_prints() {
    const PIECES: &[&str] = &[
        "a",
        "Z",
        "9",
        "/",
        "//",
        ":",
        "@",
        ".",
        "..",
        "_",
        "__",
        "-",
        "--",
        "[",
        "]",
        "::1",
        "é",
        "\n",
        "\0",
        " ",
        "%",
        "localhost",
        "docker.io",
        "index.docker.io",
        "library/",
        "latest",
        "5000",
        "sha256:",
        F64,
        HEX64,
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut parsed = 0;
    for _ in 0..200_000 {
        let mut text = String::new();
        loop {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push_str(PIECES[usize::try_from(seed >> 8).unwrap() % PIECES.len()]);
            if seed.is_multiple_of(4) {
                break;
            }
        }
        let Ok(reference) = Reference::parse(&text) else { continue };
        parsed += 1;
        assert_eq!(Reference::parse(&reference.to_string()).as_ref(), Ok(&reference), "{text:?}");
        // What looks like an id, or begins like a domain, is a name only behind its own domain; Docker shortens it all the same.
        let first = reference.path().split('/').next().unwrap_or_default();
        let looks_else = is_identifier(&reference.familiar()) || first.contains('.') || first == "localhost";
        if !looks_else {
            assert_eq!(Reference::parse(&reference.familiar()).as_ref(), Ok(&reference), "{text:?}");
        }
        assert!(!reference.to_string().contains(['\n', '\0', ' ', '%']), "{text:?}");
    }
    assert!(parsed > 10_000, "{parsed}");
}
