//! Pushing through the service.

use ferry_spec::Platform;

use super::{Fake, Service, collect, said, service, simple, two_platforms};
use crate::images::{PullRequest, PushRequest};

async fn push(service: &Service, reference: &str, tag: &str, platform: Option<&str>) -> Vec<String> {
    let platform = platform.map(|text| Platform::parse(text).unwrap());
    let request = PushRequest {
        reference: reference.to_owned(),
        tag: tag.to_owned(),
        platform,
        auth: None,
        ..PushRequest::default()
    };
    said(&collect(service.images.push(request).await.unwrap()).await)
}

async fn pulled(service: &Service, fake: &Fake, rest: &str, platform: &str) {
    let reference = format!("{}/{rest}", fake.host);
    let platform = Some(Platform::parse(platform).unwrap());
    collect(service.images.pull(PullRequest { reference, platform, ..PullRequest::default() }).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_to_another_registry_and_is_the_same() {
    let (from, to, service) = (Fake::start().await, Fake::start().await, service());
    let target = simple(&from, "app", "1");
    service.pull(&from, "app:1").await.unwrap();
    let name = format!("{}/team/app", to.host);
    service.images.tag(&format!("{}/app:1", from.host), &name, "v1").await.unwrap();
    service.images.tag(&format!("{}/app:1", from.host), &name, "v2").await.unwrap();
    let first = push(&service, &name, "v1", None).await;
    let digest = format!("v1: digest: {} size: {}", target.digest, target.size);
    assert_eq!(first[0], format!("The push refers to repository [{name}]"));
    assert!(first[1].ends_with(": Pushed"), "{first:?}");
    assert_eq!(first[2], digest);
    assert_eq!(to.pushed_manifest("team/app", "v1").unwrap().0, target.media_type);
    let all = push(&service, &name, "", None).await;
    assert!(all.iter().any(|line| line.ends_with(": Layer already exists")), "{all:?}");
    assert!(all.contains(&digest) && all.contains(&digest.replace("v1:", "v2:")), "{all:?}");
    let mounted = format!("{}/other", to.host);
    service.images.tag(&format!("{name}:v1"), &mounted, "1").await.unwrap();
    let lines = push(&service, &mounted, "1", None).await;
    assert!(lines.iter().any(|line| line.ends_with(": Mounted from team/app")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_pushed_whole_or_for_the_platform_that_is_here() {
    let (from, to, service) = (Fake::start().await, Fake::start().await, service());
    let target = two_platforms(&from, "multi", "1");
    pulled(&service, &from, "multi:1", "linux/amd64").await;
    let name = format!("{}/multi", to.host);
    service.images.tag(&format!("{}/multi:1", from.host), &name, "1").await.unwrap();
    let partly = push(&service, &name, "1", None).await;
    let (kind, bytes) = to.pushed_manifest("multi", "1").unwrap();
    let digest = ferry_spec::Digest::sha256(&bytes);
    assert!(kind != target.media_type && digest != target.digest);
    assert_eq!(partly.last().unwrap(), &format!("1: digest: {digest} size: {}", bytes.len()));

    let none = push(&service, &name, "1", Some("linux/arm64")).await;
    assert!(none.last().unwrap().ends_with("does not provide the specified platform (linux/arm64)"), "{none:?}");
    let one = push(&service, &name, "1", Some("linux/amd64")).await;
    assert_eq!(one.last().unwrap(), partly.last().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_is_not_pushed() {
    let (to, service) = (Fake::start().await, service());
    let name = format!("{}/nothing", to.host);
    assert_eq!(push(&service, &name, "1", None).await[1], format!("error: tag does not exist: {name}:1"));
    let all = push(&service, &name, "", None).await;
    assert_eq!(all[1], format!("error: An image does not exist locally with the tag: {name}"));
    assert_eq!(to.seen().len(), 0);
}
