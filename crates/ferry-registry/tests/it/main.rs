//! The client against a registry of the Hub's shape.

mod fake;
mod pull;
mod push;
mod ranges;
mod rules;
mod trouble;
mod user;

use std::time::Duration;

use ferry_registry::{Client, ClientConfig, Credentials, Repository, Result, RetryPolicy, Timeouts};
use ferry_spec::{Descriptor, Reference};

use fake::Fake;

/// A client that waits briefly between tries.
fn client() -> Client {
    Client::new(config())
}

fn config() -> ClientConfig {
    ClientConfig {
        certificates: Vec::new(),
        retry: RetryPolicy { first_wait: Duration::from_millis(2), ..RetryPolicy::default() },
        timeouts: Timeouts { stall: Duration::from_millis(300), ..Timeouts::default() },
        ..ClientConfig::default()
    }
}

fn reference(fake: &Fake, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", fake.host)).unwrap()
}

fn open(fake: &Fake, rest: &str) -> (Reference, Repository) {
    let reference = reference(fake, rest);
    let repository = client().repository(&reference, None).unwrap();
    (reference, repository)
}

fn user() -> Credentials {
    Credentials { username: "user".into(), password: "pass".into(), ..Credentials::default() }
}

async fn read(repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let mut stream = repository.blob(descriptor);
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
