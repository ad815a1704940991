//! Where images come from: repositories they were pulled from or pushed to, builds that made them.

use std::collections::BTreeSet;

use ferry_api::image::{BuildIdentity, Identity, PullIdentity};
use ferry_spec::Digest;
use ferry_store::{ImageRecord, Origins};

use super::State;
use crate::clock;

/// What is known of an image by all its names.
pub(super) fn of(state: &State, id: &Digest) -> Origins {
    of_records(state.names.values().filter(|record| record.target.digest == *id))
}

/// Returns what a client is told of an image by its records; nothing when nothing is known.
pub(super) fn identity<'a>(records: impl IntoIterator<Item = &'a ImageRecord>) -> Option<Identity> {
    let origins = of_records(records);
    let repositories: BTreeSet<String> = origins.repositories.iter().map(|name| without_port(name)).collect();
    let pull = repositories.into_iter().map(|repository| PullIdentity { repository }).collect();
    let build = origins
        .builds
        .into_iter()
        .map(|(reference, made_ns)| BuildIdentity { reference, created_at: clock::rfc3339(made_ns) })
        .collect();
    Some(Identity { pull, build }).filter(|identity| *identity != Identity::default())
}

/// Docker keeps the registry's host alone, and tells that.
fn without_port(repository: &str) -> String {
    let Some((registry, path)) = repository.split_once('/') else { return repository.to_owned() };
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{host}/{path}"),
        _ => repository.to_owned(),
    }
}

fn of_records<'a>(records: impl IntoIterator<Item = &'a ImageRecord>) -> Origins {
    let mut all = Origins::default();
    for record in records {
        all.extend(&record.origins);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_without_the_port() {
        for (name, told) in [
            ("docker.io/library/app", "docker.io/library/app"),
            ("localhost:5000/team/app", "localhost/team/app"),
            ("[::1]:5000/app", "[::1]/app"),
            ("[fd00::1]/app", "[fd00::1]/app"),
        ] {
            assert_eq!(without_port(name), told);
        }
    }
}
