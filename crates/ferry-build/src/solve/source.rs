//! Bringing trees here: images, the client's files, downloads, git repositories.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::Arc;

use ferry_engine::images::{Images, PullRequest, ResolvedImage};
use ferry_engine::{Engine, ErrorKind};
use ferry_spec::digest::{Digest, Hasher};
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use super::{Solve, SolveOptions};
use crate::clock::now_ns;
use crate::failure::{Doing, Failure, Result, blocking};
use crate::files::{self, CopyOrder};
use crate::git;
use crate::graph::{CopyAction, HttpSource, ImagePullMode, ImageSource, LocalSource, Source, Vertex, VertexId};
use crate::progress::Begun;
use crate::session::Session;
use crate::tree::{BuiltLayer, Folder, Layers, Tree};

impl Solve {
    pub(super) async fn source(self: &Arc<Self>, id: VertexId, vertex: &Vertex, source: &Source) -> Result<Vec<Tree>> {
        let begun = self.begin(vertex);
        let brought = self.brought(id, source, vertex.platform.as_ref(), &begun).await;
        Ok(vec![begun.ended(brought)?])
    }

    /// What a source is here, if the policy allows it.
    async fn brought(&self, id: VertexId, source: &Source, platform: Option<&Platform>, begun: &Begun) -> Result<Tree> {
        match self.options.policy.applied(source)?.as_ref() {
            Source::Image(image) => self.image(image, platform, begun).await.map(Tree::Layers),
            Source::Local(local) => self.local(local, begun).await.map(Tree::Folder),
            Source::Http(http) => self.http(id, http, begun).await.map(Tree::Folder),
            Source::Git(order) => {
                let fetched = git::fetch(order, &self.ground.engine.workshop, &self.options.session, begun).await;
                let (folder, commit) = fetched?;
                self.note_pin(id, commit);
                Ok(Tree::Folder(Arc::new(folder)))
            }
            Source::Input(name) => self.input(name, platform),
            Source::Layout(layout) => self.layout(layout, platform, begun).await.map(Tree::Layers),
        }
    }

    async fn image(&self, image: &ImageSource, platform: Option<&Platform>, begun: &Begun) -> Result<Layers> {
        let resolved =
            resolve_image(&self.ground.engine, &self.options, &image.reference, platform, image.pull, Some(begun))
                .await?;
        layers_of_image(self.ground.engine.images.clone(), resolved).await
    }

    /// What was built before: for the platform, or the only one.
    fn input(&self, name: &str, platform: Option<&Platform>) -> Result<Tree> {
        let unknown = || Failure::invalid(format!("invalid input {name}: what was built is no longer here"));
        let targets = self.options.inputs.get(name).ok_or_else(unknown)?;
        crate::builder::best_target(targets, platform).map(|target| target.tree.clone()).ok_or_else(unknown)
    }

    async fn local(&self, local: &LocalSource, begun: &Begun) -> Result<Arc<Folder>> {
        self.options.session.files(local, begun).await
    }

    async fn http(&self, id: VertexId, http: &HttpSource, begun: &Begun) -> Result<Arc<Folder>> {
        let mut fetched = Fetching::begin(self, http).await?;
        let workshop = self.ground.engine.workshop.clone();
        let folder = blocking(move || Ok(workshop.context_folder()?)).await?;
        let name = http.filename.clone().unwrap_or_else(|| name_of_url(&http.url));
        let name = match name.rsplit('/').next().unwrap_or_default() {
            "" | "." | ".." => "download".to_owned(),
            name => name.to_owned(),
        };
        let path = folder.path().join(name);
        let mut file =
            fs::File::options().create_new(true).write(true).mode(0o600).open(&path).doing("cannot keep a download")?;
        let started = now_ns();
        let total = fetched.length().and_then(|length| i64::try_from(length).ok()).unwrap_or_default();
        let algorithm = http.checksum.as_ref().map_or(ferry_spec::digest::Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        let mut current = 0_i64;
        while let Some(bytes) = fetched.next().await? {
            hasher.update(&bytes);
            file.write_all(&bytes).doing("cannot keep a download")?;
            current += i64::try_from(bytes.len()).unwrap_or_default();
        }
        begun.status("downloading", current, total.max(current), started, true);
        let digest = hasher.finish();
        if let Some(expected) = http.checksum.as_ref().filter(|expected| **expected != digest) {
            return Err(Failure::invalid(format!("digest mismatch {digest}: {expected}")));
        }
        self.note_pin(id, digest.to_string());
        let (uid, gid) = (http.uid.unwrap_or(0), http.gid.unwrap_or(0));
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).doing("cannot keep a download")?;
        let mode = fs::Permissions::from_mode(http.mode.unwrap_or(0o600) & 0o777);
        fs::set_permissions(&path, mode).doing("cannot keep a download")?;
        file.set_modified(fetched.modified()).doing("cannot keep a download")?;
        Ok(Arc::new(Folder::open(folder)?))
    }

    /// A tree as layers: files that came from elsewhere become one.
    pub(crate) async fn layers(&self, tree: &Tree) -> Result<Layers> {
        let folder = match tree {
            Tree::Layers(layers) => return Ok(layers.clone()),
            Tree::Folder(folder) => Arc::clone(folder),
        };
        let workshop = self.ground.engine.workshop.clone();
        let workpiece = blocking(move || {
            let workpiece = workshop.tree(None)?;
            let all = CopyAction {
                source: "/".to_owned(),
                target: "/".to_owned(),
                copy_dir_contents: true,
                create_target_path: true,
                ..CopyAction::default()
            };
            files::copy(folder.as_ref().as_fd(), workpiece.root(), &CopyOrder::new(&all, None)?)?;
            Ok(workpiece)
        })
        .await?;
        let stored = self.ground.engine.workshop.layer_of(workpiece).await?;
        Ok(Layers::of(vec![BuiltLayer::made_now(stored)]))
    }
}

/// The host of addresses that are the client's own.
const SESSION_HOST: &str = "http://buildkit-session/";

/// Bytes on their way here.
enum Fetching {
    Web(ferry_engine::images::Fetched),
    Client(crate::session::Pieces),
}

impl Fetching {
    async fn begin(solve: &Solve, http: &HttpSource) -> Result<Self> {
        if let Some(path) = http.url.strip_prefix(SESSION_HOST) {
            return Ok(Self::Client(solve.options.session.upload(path).await?));
        }
        let authorization = authorization(&solve.options.session, http).await?;
        Ok(Self::Web(solve.ground.engine.images.fetch_url(&http.url, &http.header, authorization).await?))
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Web(fetched) => fetched.length(),
            Self::Client(_) => None,
        }
    }

    /// When what is fetched was changed last, as far as it is told.
    fn modified(&self) -> std::time::SystemTime {
        let seconds = match self {
            Self::Web(fetched) => {
                fetched.modified().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default()
            }
            Self::Client(_) => 0,
        };
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }

    async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        match self {
            Self::Web(fetched) => Ok(fetched.next().await?),
            Self::Client(pieces) => pieces.recv().await.transpose(),
        }
    }
}

/// Who the user is towards a server: what the secret says that the source names, or one that is called after the host.
async fn authorization(session: &Session, http: &HttpSource) -> Result<Option<String>> {
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    if !http.auth_header_secret.is_empty() {
        let id = &http.auth_header_secret;
        let missing = || Failure::invalid(format!("failed to retrieve HTTP auth secret {id}: secret {id}: not found"));
        return Ok(Some(text(session.secret(id).await?.ok_or_else(missing)?)));
    }
    let host = host_of_url(&http.url);
    if let Some(value) = session.secret(&format!("HTTP_AUTH_TOKEN_{host}")).await? {
        return Ok(Some(format!("Bearer {}", text(value))));
    }
    Ok(session.secret(&format!("HTTP_AUTH_HEADER_{host}")).await?.map(text))
}

/// The host that a URL names, without its port.
fn host_of_url(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((address, _)) => address,
        None => place.split(':').next().unwrap_or_default(),
    }
}

/// What a file is called that a URL names.
fn name_of_url(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    match path.split_once('/') {
        Some((_, path)) => path.rsplit('/').next().unwrap_or_default().to_owned(),
        None => String::new(),
    }
}

async fn layers_of_image(images: Images, resolved: ResolvedImage) -> Result<Layers> {
    blocking(move || {
        let layers = images.layers_of(&resolved)?;
        let layers = layers.into_iter().map(|(descriptor, diff_id)| BuiltLayer {
            descriptor,
            diff_id,
            created_ns: None,
            size_bytes: 0,
            foreign: true,
        });
        Ok(Layers::of(layers.collect()))
    })
    .await
}

/// Finds an image here, or pulls it.
///
/// # Errors
/// What BuildKit says of an image that cannot be had.
pub async fn resolve_image(
    engine: &Engine,
    options: &SolveOptions,
    reference: &str,
    platform: Option<&Platform>,
    pull: ImagePullMode,
    begun: Option<&Begun>,
) -> Result<ResolvedImage> {
    let here = || {
        let (images, text, platform) = (engine.images.clone(), reference.to_owned(), platform.cloned());
        blocking(move || Ok(images.resolve(&text, platform.as_ref())?))
    };
    if pull != ImagePullMode::Always {
        match here().await {
            Ok(found) => return Ok(found),
            Err(failure) if failure.kind != ErrorKind::NotFound || pull == ImagePullMode::Never => return Err(failure),
            Err(_) => {}
        }
    }
    let named = Reference::parse(reference)
        .map_err(|error| Failure::invalid(format!("failed to parse stage name \"{reference}\": {error}")))?;
    let registry = named.domain().to_owned();
    let auth = credentials_for(options, &registry).await?;
    let request = PullRequest {
        reference: named.with_default_tag().to_string(),
        platform: platform.cloned(),
        auth,
        takes_any_single: true,
        ..PullRequest::default()
    };
    let failed = |failure: Failure| Failure {
        message: format!("{reference}: failed to resolve source metadata for {reference}: {}", failure.message),
        ..failure
    };
    let mut progress = engine.images.pull(request).await.map_err(|error| failed(error.into()))?;
    let started = now_ns();
    while let Some(message) = progress.recv().await {
        if let Some(error) = message.error_detail {
            return Err(failed(Failure::internal(error.message)));
        }
        let amount = message.progress_detail.filter(|_| !message.id.is_empty());
        if let (Some(begun), Some(amount)) = (begun, amount) {
            let is_done = message.status == "Pull complete";
            begun.status(&message.id, amount.current, amount.total, started, is_done);
        }
    }
    match here().await {
        Err(failure) if failure.kind == ErrorKind::NotFound && platform.is_some() => {
            // What was brought here is of another platform; the plan warns of it.
            let (images, text) = (engine.images.clone(), reference.to_owned());
            let found = blocking(move || Ok(images.resolve(&text, None)?)).await;
            found.ok().filter(|found| found.id == found.manifest).ok_or(failure)
        }
        outcome => outcome,
    }
}

/// Who the user is towards a registry.
pub(crate) async fn credentials_for(
    options: &SolveOptions,
    registry: &str,
) -> Result<Option<ferry_engine::images::Credentials>> {
    Ok(match options.session.credentials(registry).await? {
        Some(credentials) => Some(credentials),
        None => credentials_of(options, registry),
    })
}

fn credentials_of(options: &SolveOptions, registry: &str) -> Option<ferry_engine::images::Credentials> {
    let names: &[&str] = match registry {
        "docker.io" => &["https://index.docker.io/v1/", "docker.io", "index.docker.io"],
        _ => &[],
    };
    let plain = [registry, &format!("https://{registry}"), &format!("http://{registry}")].map(str::to_owned);
    let candidates = names.iter().map(|name| (*name).to_owned()).chain(plain);
    candidates.into_iter().find_map(|name| options.credentials.get(&name).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_files() {
        for (url, name) in
            [("http://x/a/b.tar?q=1", "b.tar"), ("https://x/", ""), ("https://x", ""), ("http://x/a#f/g", "a")]
        {
            assert_eq!(name_of_url(url), name, "{url}");
        }
    }

    #[test]
    fn urls_name_hosts() {
        for (url, host) in [
            ("http://x/a", "x"),
            ("https://me:pass@x.example:8443?q", "x.example"),
            ("http://[fd00::1]:80/x", "fd00::1"),
            ("http://10.0.0.1:80", "10.0.0.1"),
        ] {
            assert_eq!(host_of_url(url), host, "{url}");
        }
    }
}
