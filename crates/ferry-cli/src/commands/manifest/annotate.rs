//! `manifest annotate`

use ferry_spec::Platform;

use super::reference;
use super::store::Store;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Pairs that Go builds for, and images so can be for.
const PAIRS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

/// Runs `manifest annotate`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let (list_given, given) = (&parsed.args[0], &parsed.args[1]);
    let failed = |what: &str, given: &str, error: String| {
        Failure::new(format!("annotate: error parsing name for {what} {given}: {error}"))
    };
    let list = reference(list_given).map_err(|error| failed("manifest list", list_given, error))?;
    let name = reference(given).map_err(|error| failed("manifest", given, error))?;
    let store = Store::of(&context.config);
    let Some(mut image) = store.get(&list, &name)? else {
        return Err(Failure::new(format!("manifest for image {given} does not exist in {list_given}")));
    };
    let platform = image.descriptor.platform.get_or_insert_default();
    change(platform, parsed);
    if !is_known(platform) {
        let (os, architecture) = (parsed.text_or_empty("os"), parsed.text_or_empty("arch"));
        return Err(Failure::new(format!(
            "manifest entry for image has unsupported os/arch combination: {os}/{architecture}"
        )));
    }
    store.save(&list, &name, &image)?;
    Ok(0)
}

fn change(platform: &mut Platform, parsed: &Parsed) {
    let given = |name: &str| parsed.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(os) = given("os") {
        platform.os = os;
    }
    if let Some(architecture) = given("arch") {
        platform.architecture = architecture;
    }
    for feature in parsed.all("os-features").iter().flat_map(|list| list.split(',')) {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    platform.variant = given("variant").or(platform.variant.take());
    platform.os_version = given("os-version").or(platform.os_version.take());
}

fn is_known(platform: &Platform) -> bool {
    PAIRS.iter().any(|(os, all)| *os == platform.os && all.contains(&platform.architecture.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::MANIFEST_ANNOTATE;
    use crate::{flags, options};

    #[test]
    fn only_what_is_given_changes() {
        let words: Vec<String> =
            "--variant v8 --os-features a,b --os-features b".split(' ').map(str::to_owned).collect();
        let parsed = flags::parse(MANIFEST_ANNOTATE.flags, false, &words, options::checks::check).unwrap();
        let mut platform = Platform::parse("linux/arm64").unwrap();
        change(&mut platform, &parsed);
        assert_eq!((platform.to_string().as_str(), platform.os_features.len()), ("linux/arm64/v8", 2));
        assert!(is_known(&platform) && !is_known(&Platform::new("linux", "z80", None)));
    }
}
