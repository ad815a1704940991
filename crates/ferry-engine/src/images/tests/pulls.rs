//! Pulls that work.

use std::sync::Arc;

use ferry_spec::{Platform, media_type};
use tokio::sync::Semaphore;

use super::super::names::short;
use super::super::{ListOptions, PullRequest};
use super::fake::{Fake, Origin};
use super::{client_config, collect, said, service, service_with, simple, two_platforms, until};
use ferry_registry::{ClientConfig, Proxies};

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_list_is_pulled_for_this_host() {
    let fake = Fake::start().await;
    let service = service();
    let target = two_platforms(&fake, "team/app", "1");
    let messages = service.pull(&fake, "team/app:1").await.unwrap();
    let said = said(&messages);
    let name = format!("{}/team/app:1", fake.host);
    assert_eq!(said[0], "1: Pulling from team/app");
    assert_eq!(said.iter().filter(|text| text.ends_with("Pulling fs layer")).count(), 2);
    assert_eq!(said.iter().filter(|text| text.ends_with("Pull complete")).count(), 2);
    let end = [format!("Digest: {}", target.digest), format!("Status: Downloaded newer image for {name}")];
    assert_eq!(said[said.len() - 2..], end);

    let resolved = service.images.resolve(&name, None).unwrap();
    assert_eq!((resolved.id, resolved.platform.to_string().as_str()), (target.digest.clone(), "linux/amd64"));
    assert_eq!(resolved.reference_names.join(" "), name);
    let folders = service.store.layer_folders(&resolved.chain_id.unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(folders[0].join("arch")).unwrap(), "amd64");
    assert_eq!(std::fs::read_to_string(folders[1].join("base")).unwrap(), "shared");

    let other = Platform::parse("linux/arm64").unwrap();
    let error = service.images.resolve(&name, Some(&other)).unwrap_err();
    assert_eq!(
        error.text(),
        format!("image with reference {name} was found but does not provide the specified platform (linux/arm64)")
    );
    let request = PullRequest { reference: name.clone(), platform: Some(other.clone()), ..PullRequest::default() };
    collect(service.images.pull(request).await.unwrap()).await;
    assert_eq!(service.images.resolve(&name, Some(&other)).unwrap().platform, other);
    assert_eq!(service.images.resolve(&name, None).unwrap().platform.to_string(), "linux/amd64");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_here_is_not_fetched_again() {
    let fake = Fake::start().await;
    let service = service();
    let target = simple(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    let before = fake.seen().len();
    let said = said(&service.pull(&fake, "app:1").await.unwrap());
    assert_eq!(
        said,
        [
            "1: Pulling from app".to_owned(),
            format!("Digest: {}", target.digest),
            format!("Status: Image is up to date for {}/app:1", fake.host),
        ]
    );
    // A refusal, a token, and the HEAD that tells the digest.
    assert_eq!(fake.seen().len() - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_exist_already() {
    let fake = Fake::start().await;
    let service = service();
    two_platforms(&fake, "a", "1");
    service.pull(&fake, "a:1").await.unwrap();
    let (base, base_id) = super::layer(&fake, "base", "shared");
    let (top, top_id) = super::layer(&fake, "top", "new");
    fake.image("b", Some("1"), &super::config("amd64", &[base_id, top_id]), &[base.clone(), top]);
    let said = said(&service.pull(&fake, "b:1").await.unwrap());
    assert!(said.contains(&format!("{}: Already exists", short(base.digest.as_str()))), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_leaves_the_old_image_nameless() {
    let fake = Fake::start().await;
    let service = service();
    let old = simple(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    let (layer, diff_id) = super::layer(&fake, "file", "newer");
    let new = fake.image("app", Some("1"), &super::config("amd64", &[diff_id]), &[layer]);
    service.pull(&fake, "app:1").await.unwrap();
    let list = service.images.list(ListOptions::default()).await.unwrap();
    let find = |id: &str| list.iter().find(|image| image.id == id).unwrap();
    assert_eq!(find(new.digest.as_str()).repo_tags, [format!("{}/app:1", fake.host)]);
    assert!(find(old.digest.as_str()).repo_tags.is_empty());
    service.images.resolve(old.digest.hex(), None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pulls_fetch_each_blob_once() {
    let fake = Fake::start().await;
    let service = service();
    two_platforms(&fake, "app", "1");
    two_platforms(&fake, "app", "2");
    let pulls = (0..20).map(|n| service.pull(&fake, if n % 2 == 0 { "app:1" } else { "app:2" }));
    for pull in futures_util::future::join_all(pulls).await {
        let last = pull.unwrap().pop().unwrap();
        assert!(last.status.starts_with("Status: "), "{last:?}");
    }
    // Two layers; configurations come from there too.
    let layers: Vec<_> =
        fake.seen().into_iter().filter(|seen| seen.origin == Origin::Storage).map(|seen| seen.path).collect();
    let mut once = layers.clone();
    once.sort();
    once.dedup();
    assert_eq!(layers.len(), once.len(), "{layers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_ends_when_nobody_waits_for_it() {
    let fake = Fake::start().await;
    let service = service();
    simple(&fake, "app", "1");
    let gate = Arc::new(Semaphore::new(1));
    // The configuration passes, the layer does not.
    fake.fault(|faults| faults.hold_blobs = Some(Arc::clone(&gate)));
    let reference = format!("{}/app:1", fake.host);
    let request = PullRequest { reference: reference.clone(), ..PullRequest::default() };
    let first = service.images.pull(request.clone()).await.unwrap();
    let second = service.images.pull(request).await.unwrap();
    drop(first);
    assert_eq!(service.images.inner.transfers.lock().unwrap().len(), 1);
    drop(second);
    until("the transfer ends", async || service.images.inner.transfers.lock().unwrap().is_empty()).await;
    service.is_clean().await;
    gate.add_permits(10);
    service.pull(&fake, "app:1").await.unwrap();
    service.images.resolve(&reference, None).unwrap();
}

fn nowhere() -> ClientConfig {
    // Every host beyond this one is behind a proxy that is not there.
    let proxy = Some("http://127.0.0.1:1".to_owned());
    ClientConfig { proxies: Proxies { http: proxy.clone(), https: proxy, no_proxy: None }, ..client_config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_image_stands_in_for_its_registry() {
    let service = service_with(nowhere());
    let pull = |name: &str| service.images.pull(PullRequest { reference: name.to_owned(), ..PullRequest::default() });
    let said = said(&collect(pull("hello-world:latest").await.unwrap()).await);
    assert_eq!(said[0], "hello-world: registry not reachable, loading the copy bundled with ferry");
    assert_eq!(said.last().unwrap(), "Status: Downloaded newer image for hello-world:latest");
    let resolved = service.images.resolve("hello-world", None).unwrap();
    let folders = service.store.layer_folders(&resolved.chain_id.unwrap()).unwrap();
    assert!(folders[0].join("hello").is_file());
    assert_eq!(resolved.config.config.cmd.unwrap(), ["/hello"]);
    for other in ["hello-world:linux", "busybox:latest", "example.org/library/hello-world:latest"] {
        let error = pull(other).await.unwrap_err();
        assert!(error.text().contains("failed to do request: Head \"https://"), "{}", error.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_image_does_not_stand_in_for_a_registry_that_answers() {
    let fake = Fake::start().await;
    let mirrors = vec![format!("http://{}", fake.host)];
    let mut named = ferry_registry::Mirrors::default();
    named.add("docker.io", mirrors);
    let service = service_with(ClientConfig { mirrors: named, ..nowhere() });
    let request = PullRequest { reference: "hello-world:latest".to_owned(), ..PullRequest::default() };
    let error = service.images.pull(request.clone()).await.unwrap_err();
    assert_eq!(
        error.text(),
        "failed to resolve reference \"docker.io/library/hello-world:latest\": docker.io/library/hello-world:latest: not found"
    );
    let theirs = simple(&fake, "library/hello-world", "latest");
    collect(service.images.pull(request).await.unwrap()).await;
    assert_eq!(service.images.resolve("hello-world", None).unwrap().id, theirs.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_list_and_history_agree() {
    let fake = Fake::start().await;
    let service = service();
    let target = two_platforms(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    let name = format!("{}/app:1", fake.host);
    let list = service
        .images
        .list(ListOptions { manifests: true, shared_size: true, ..ListOptions::default() })
        .await
        .unwrap();
    let [image] = &list[..] else { panic!("{list:?}") };
    assert_eq!(image.id, target.digest.to_string());
    assert_eq!(image.repo_digests, [format!("{}/app@{}", fake.host, target.digest)]);
    assert_eq!((image.shared_size, image.created), (0, 1_767_323_045));
    let kinds: Vec<_> = image.manifests.iter().map(|one| (one.kind.as_str(), one.available)).collect();
    assert_eq!(kinds, [("image", false), ("image", true), ("attestation", false)]);
    assert_eq!(image.size, image.manifests.iter().map(|one| one.size.total).sum::<i64>());

    let inspect = service.images.inspect(&name, None).await.unwrap();
    assert_eq!((inspect.id.as_str(), inspect.architecture.as_str()), (target.digest.as_str(), "amd64"));
    assert_eq!(inspect.repo_tags.join(" "), name);
    assert_eq!(inspect.root_fs.layers.len(), 2);
    assert_eq!(inspect.size, image.manifests[1].size.total);
    let platform = Platform::parse("linux/amd64").unwrap();
    let narrow = service.images.inspect(&name, Some(&platform)).await.unwrap();
    assert_eq!(narrow.descriptor.unwrap().media_type, media_type::OCI_MANIFEST);

    let history = service.images.history(&name, None).await.unwrap();
    let steps: Vec<_> = history.iter().map(|step| (step.id.as_str(), step.size)).collect();
    assert_eq!(steps, [(target.digest.as_str(), 0), ("<missing>", 5), ("<missing>", 6)]);
    assert_eq!(history[0].tags.as_deref(), Some(&[name][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_may_link_to_files_of_layers_below() {
    let fake = Fake::start().await;
    let service = service();
    let mut parts: Vec<_> = (0..6).map(|n| super::layer(&fake, &format!("file{n}"), &n.to_string())).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_mode(0o644);
    header.set_size(0);
    builder.append_link(&mut header, "linked", "file4").unwrap();
    let linking = builder.into_inner().unwrap();
    let top = fake.blob(media_type::OCI_LAYER_GZIP, super::gzip(&linking));
    parts.push((top, ferry_spec::DiffId(ferry_spec::Digest::sha256(&linking))));
    let (layers, diff_ids): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    fake.image("app", Some("1"), &super::config("amd64", &diff_ids), &layers);
    let messages = service.pull(&fake, "app:1").await.unwrap();
    assert!(messages.last().unwrap().status.starts_with("Status: Downloaded"), "{messages:?}");
    let chain = service.images.resolve(&format!("{}/app:1", fake.host), None).unwrap().chain_id.unwrap();
    let folders = service.store.layer_folders(&chain).unwrap();
    assert_eq!(std::fs::read_to_string(folders[0].join("linked")).unwrap(), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_pulled_with_all_its_tags() {
    let fake = Fake::start().await;
    let service = service();
    for tag in ["1", "2", "3"] {
        simple(&fake, "app", tag);
    }
    let said = said(&service.pull(&fake, "app:").await.unwrap());
    for tag in ["1", "2", "3"] {
        assert!(said.contains(&format!("Status: Downloaded newer image for {}/app:{tag}", fake.host)), "{said:?}");
        service.images.resolve(&format!("{}/app:{tag}", fake.host), None).unwrap();
    }
}
