//! The side of the registry that takes content.

use std::collections::HashMap;

use bytes::Bytes;
use ferry_spec::{Digest, media_type};
use hyper::Response;

use super::{Body, Faults, Seen, State, failed, full, plain};

const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;

pub(super) fn uploads(
    state: &State,
    faults: &mut Faults,
    seen: &Seen,
    repository: &str,
    upload: &str,
) -> Response<Body> {
    let query: HashMap<String, String> = seen
        .query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%3A", ":").replace("%2F", "/")))
        .collect();
    let mut all = state.uploads.lock().unwrap();
    let [host, _, storage] = state.addresses.lock().unwrap().unwrap();
    let place = |id: usize| {
        let at = if faults.uploads_elsewhere { storage } else { host };
        format!("http://{at}/v2/{repository}/blobs/uploads/{id}?_state=x")
    };
    if seen.method == "POST" {
        if let Some((status, retry_after)) = faults.uploads.pop_front() {
            return failed(status, retry_after, DENIED);
        }
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
            let mut pushed = state.pushed.lock().unwrap();
            if pushed.contains(&format!("{from}/blobs/{digest}")) {
                pushed.insert(format!("{repository}/blobs/{digest}"));
                return plain(201, "");
            }
        }
        let id = all.len() + 1;
        all.insert(id, Vec::new());
        return Response::builder().status(202).header("location", place(id)).body(full("")).unwrap();
    }
    let id: usize = upload.parse().unwrap();
    let Some(bytes) = all.get_mut(&id) else {
        return plain(
            404,
            r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#,
        );
    };
    if seen.method == "GET" {
        let range = format!("0-{}", bytes.len().saturating_sub(1));
        return Response::builder()
            .status(204)
            .header("location", place(id))
            .header("range", range)
            .body(full(""))
            .unwrap();
    }
    if let Some((status, retry_after)) = faults.sent.pop_front() {
        return failed(status, retry_after, "");
    }
    if faults.most_sent.is_some_and(|most| seen.bytes.len() > most) {
        return plain(413, "");
    }
    if let Some(range) = &seen.content_range
        && range.split('-').next().unwrap() != bytes.len().to_string()
    {
        return plain(416, "");
    }
    bytes.extend_from_slice(&seen.bytes);
    if seen.method == "PATCH" {
        return Response::builder().status(202).header("location", place(id)).body(full("")).unwrap();
    }
    let bytes = Bytes::from(all.remove(&id).unwrap());
    let digest = Digest::sha256(&bytes).to_string();
    if query["digest"] != digest {
        return plain(
            400,
            r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}"#,
        );
    }
    state.pushed.lock().unwrap().insert(format!("{repository}/blobs/{digest}"));
    state.blobs.lock().unwrap().insert(digest, bytes);
    plain(201, "")
}

pub(super) fn put_manifest(state: &State, faults: &mut Faults, seen: &Seen, path: &str) -> Response<Body> {
    if let Some((status, retry_after)) = faults.put_manifests.pop_front() {
        return failed(status, retry_after, "");
    }
    let (repository, _) = path.split_once("/manifests/").unwrap();
    let value: serde_json::Value = serde_json::from_slice(&seen.bytes).unwrap();
    let kind = value["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST).to_owned();
    let parts = value["layers"].as_array().into_iter().flatten().chain(value.get("config"));
    for part in parts {
        let blob = format!("{repository}/blobs/{}", part["digest"].as_str().unwrap());
        if !state.pushed.lock().unwrap().contains(&blob) {
            return plain(404, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#);
        }
    }
    let digest = Digest::sha256(&seen.bytes);
    let mut manifests = state.manifests.lock().unwrap();
    manifests.insert(path.to_owned(), (kind.clone(), seen.bytes.clone()));
    manifests.insert(format!("{repository}/manifests/{digest}"), (kind, seen.bytes.clone()));
    plain(201, "")
}
