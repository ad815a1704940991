//! Names: tagging, finding, removing.

use ferry_api::filters::Filters;
use ferry_api::image::BuildIdentity;
use ferry_spec::Digest;
use ferry_store::Origins;

use super::super::{ListOptions, PushRequest};
use super::fake::Fake;
use super::{Service, collect, kind_of, service, simple};
use crate::ErrorKind;

/// A service with the image `app:1`; returns its id.
async fn with_app() -> (Service, Digest) {
    let fake = Fake::start().await;
    let service = service();
    let target = simple(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    service.images.tag(&format!("{}/app:1", fake.host), "app", "1").await.unwrap();
    remove(&service, &format!("{}/app:1", fake.host), false).await.unwrap();
    (service, target.digest)
}

/// Removes and returns what was said: `-` for untagged, `x` for deleted.
async fn remove(service: &Service, name: &str, force: bool) -> Result<Vec<String>, String> {
    let items = service.images.remove(name, force, true, Vec::new()).await.map_err(|error| error.text())?;
    Ok(items
        .into_iter()
        .map(
            |item| if item.deleted.is_empty() { format!("- {}", item.untagged) } else { format!("x {}", item.deleted) },
        )
        .collect())
}

async fn tag(service: &Service, source: &str, name: &str) {
    service.images.tag(source, name, "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_name_and_by_id() {
    let (service, id) = with_app().await;
    let config = service.images.resolve("app:1", None).unwrap().config_digest;
    let digest_name = format!("app@{id}");
    for text in [
        "app:1",
        "docker.io/library/app:1",
        id.as_str(),
        id.hex(),
        &id.hex()[..12],
        &id.as_str()[..20],
        &digest_name,
        config.as_str(),
        &config.hex()[..12],
    ] {
        assert_eq!(service.images.resolve(text, None).unwrap().id, id, "{text}");
    }
    let other = format!("other@{id}");
    for (text, expected) in
        [("app", "app:latest"), ("abcdef123456", "abcdef123456:latest"), (other.as_str(), other.as_str())]
    {
        assert_eq!(service.images.resolve(text, None).unwrap_err().text(), format!("No such image: {expected}"));
    }
    let error = service.images.resolve("App:1", None).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_alone_while_there_are_others() {
    let (service, id) = with_app().await;
    tag(&service, "app:1", "app:2").await;
    tag(&service, "app:1", "other:1").await;
    assert_eq!(remove(&service, "app:2", false).await.unwrap(), ["- app:2"]);
    assert_eq!(
        remove(&service, id.as_str(), false).await.unwrap_err(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &id.hex()[..12]
        )
    );
    assert_eq!(remove(&service, "app:1", false).await.unwrap(), ["- app:1"]);
    assert_eq!(remove(&service, "other:1", false).await.unwrap(), ["- other:1".to_owned(), format!("x {id}")]);
    assert_eq!(remove(&service, "other:1", false).await.unwrap_err(), "No such image: other:1");
    service.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_removed_with_all_its_names_by_force() {
    let (service, id) = with_app().await;
    tag(&service, "app:1", "other:1").await;
    let said = remove(&service, &id.hex()[..12], true).await.unwrap();
    assert_eq!(said, ["- app:1".to_owned(), "- other:1".to_owned(), format!("x {id}")]);
    service.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_keep_their_image() {
    let (service, id) = with_app().await;
    let container = "c".repeat(64);
    service.images.acquire(&id, &container);
    let (short_id, short_container) = (&id.hex()[..12], &container[..12]);
    assert_eq!(
        remove(&service, "app:1", false).await.unwrap_err(),
        format!(
            "conflict: unable to delete app:1 (must be forced) - container {short_container} is using its referenced image {short_id}"
        )
    );
    assert_eq!(
        remove(&service, id.hex(), false).await.unwrap_err(),
        format!(
            "conflict: unable to delete {short_id} (must be forced) - image is being used by stopped container {short_container}"
        )
    );
    service.images.set_running(&container, true);
    assert_eq!(
        remove(&service, id.hex(), true).await.unwrap_err(),
        format!(
            "conflict: unable to delete {short_id} (cannot be forced) - image is being used by running container {short_container}"
        )
    );
    assert_eq!(remove(&service, "app:1", true).await.unwrap(), ["- app:1"]);
    let chain = service.images.resolve(id.as_str(), None).unwrap().chain_id.unwrap();
    service.images.set_running(&container, false);
    assert_eq!(remove(&service, id.as_str(), true).await.unwrap(), [format!("x {id}")]);
    assert!(service.store.has_layer(&chain), "the container still needs its layers");
    service.images.release(&container);
    service.images.inner.collect();
    service.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let (service, id) = with_app().await;
    tag(&service, "app:1", "other:1").await;
    let count = async |name: &str, value: &str| {
        let mut filters = Filters::default();
        filters.add(name, value);
        let list = service.images.list(ListOptions { filters, ..ListOptions::default() }).await;
        list.map(|list| list.first().map_or(0, |image| image.repo_tags.len())).map_err(|error| error.text())
    };
    assert_eq!(count("reference", "app").await, Ok(1));
    assert_eq!(count("reference", "*:1").await, Ok(2));
    assert_eq!(count("label", "made=here").await, Ok(2));
    assert_eq!(count("label!", "made").await, Ok(0));
    assert_eq!(count("dangling", "true").await, Ok(0));
    assert_eq!(count("before", id.hex()).await, Ok(0));
    assert_eq!(count("until", "1h").await, Ok(0));
    assert_eq!(count("colour", "red").await, Err("invalid filter 'colour'".to_owned()));
    assert_eq!(count("since", "nothing").await, Err("No such image: nothing:latest".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_survive_a_restart() {
    let (service, id) = with_app().await;
    let images = super::super::Images::with_client(
        service.store.clone(),
        ferry_registry::Client::new(super::client_config()),
        crate::events::Events::open(service.folder.path()).unwrap(),
        3,
        5,
    )
    .unwrap();
    assert_eq!(images.resolve("app:1", None).unwrap().id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_tells_where_an_image_comes_from() {
    let (from, to, service) = (Fake::start().await, Fake::start().await, service());
    let target = simple(&from, "app", "1");
    service.pull(&from, "app:1").await.unwrap();
    let (pulled, pushed) = (format!("{}/app", from.host), format!("{}/copy", to.host));
    let [of_pull, of_push] = ["127.0.0.1/app".to_owned(), "127.0.0.1/copy".to_owned()];
    let told = async |name: &str| {
        let identity = service.images.inspect(name, None).await.unwrap().identity.unwrap_or_default();
        identity.pull.into_iter().map(|one| one.repository).collect::<Vec<_>>()
    };
    tag(&service, &format!("{pulled}:1"), "app:1").await;
    remove(&service, &format!("{pulled}:1"), false).await.unwrap();
    assert_eq!(told("app:1").await, std::slice::from_ref(&of_pull), "a tag knows it from the name that was pulled");

    tag(&service, "app:1", &format!("{pushed}:1")).await;
    tag(&service, "app:1", "later:1").await;
    let push = PushRequest { reference: format!("{pushed}:1"), ..PushRequest::default() };
    collect(service.images.push(push).await.unwrap()).await;
    service.images.name_built(&target, &[], &Origins::build("abc".to_owned(), 1_500_000_000)).unwrap();
    let mut expected = [of_pull, of_push];
    expected.sort();
    for name in ["app:1", "later:1", &format!("{pushed}:1")] {
        assert_eq!(told(name).await, expected, "{name}");
    }

    let filters = || {
        let mut filters = Filters::default();
        filters.add("reference", "later");
        filters
    };
    for identity in [true, false] {
        let options = ListOptions { manifests: true, identity, filters: filters(), ..ListOptions::default() };
        let list = service.images.list(options).await.unwrap();
        let data = list[0].manifests[0].image_data.as_ref().unwrap();
        let build = data.identity.as_ref().map(|told| told.build[0].clone());
        let expected = BuildIdentity { reference: "abc".to_owned(), created_at: "1970-01-01T00:00:01.5Z".to_owned() };
        assert_eq!(build, identity.then_some(expected));
    }
    assert_eq!(service.store.images().unwrap()[0].origins.repositories.len(), 2, "it is on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_resolved_stays_whole_while_its_lease_lives() {
    let (service, _) = with_app().await;
    // Known from memory from here on.
    drop(service.images.resolve("app:1", None).unwrap());
    let image = service.images.resolve("app:1", None).unwrap();
    remove(&service, "app:1", true).await.unwrap();
    let _ = service.images.inner.collect();
    for digest in [&image.id, &image.manifest, &image.config_digest] {
        assert!(service.store.has_blob(digest), "{digest} is gone");
    }
    // Somebody made a container of it, and let go.
    service.images.acquire(&image.id, "container");
    let chain = image.chain_id.clone().unwrap();
    drop(image);
    let _ = service.images.inner.collect();
    assert!(service.store.has_layer(&chain));
    service.images.release("container");
    let _ = service.images.inner.collect();
    assert!(!service.store.has_layer(&chain), "nobody needs it any more");
}
