//! Who the user is: logging in.

use ferry_registry::Credentials;

use crate::fake::{Fake, Origin};
use crate::{client, user};

fn credentials(fake: &Fake, password: &str) -> Credentials {
    let server_address = format!("http://{}/v1/", fake.host);
    Credentials { password: password.to_owned(), server_address, ..user() }
}

#[tokio::test]
async fn passwords_are_checked() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.basic = true);
    assert_eq!(client().login(&credentials(&fake, "pass")).await.unwrap(), "");
    let error = client().login(&credentials(&fake, "wrong")).await.unwrap_err();
    let expected = format!("login attempt to http://{}/v2/ failed with status: 401 Unauthorized", fake.host);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_registry_that_lets_everybody_in_lets_this_user_in() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.open = true);
    assert_eq!(client().login(&credentials(&fake, "pass")).await.unwrap(), "");
    assert!(fake.seen().iter().all(|seen| seen.authorization.is_none()), "nobody asked for it");
}

#[tokio::test]
async fn token_servers_may_give_an_identity_token() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.refresh_token = Some("keep-me"));
    assert_eq!(client().login(&credentials(&fake, "pass")).await.unwrap(), "keep-me");
    let asked: Vec<_> = fake.seen().into_iter().filter(|seen| seen.origin == Origin::Token).collect();
    assert_eq!(asked[0].query, "service=registry.fake&account=user&client_id=docker&offline_token=true");
    assert_eq!(asked[0].authorization.as_deref(), Some("Basic dXNlcjpwYXNz"));

    fake.fault(|faults| {
        faults.token_refusal =
            Some(r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#)
    });
    let error = client().login(&credentials(&fake, "wrong")).await.unwrap_err();
    let expected = format!("Get \"http://{}/v2/\": unauthorized: incorrect username or password", fake.host);
    assert_eq!(error.to_string(), expected);
}
