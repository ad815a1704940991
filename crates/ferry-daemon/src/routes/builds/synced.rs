//! Builds of directories that a client tells of before it sends anything: what the build asks for of them travels while the answer goes on.

use std::sync::Arc;

use bytes::Bytes;
use ferry_api::context::WANTED;
use ferry_api::stream::JsonMessage;
use ferry_build::Wanted;
use ferry_build::session::Uploaded;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Order, send, tell};
use crate::app::App;
use crate::http::body::{BodySender, Gone, RequestBody};

/// Pieces of a context that may wait to be written.
const PIECES: usize = 16;

/// Takes the list of what the directories hold, and builds; in the answer the client hears what is wanted.
pub(super) async fn build(
    app: Arc<App>,
    mut order: Order,
    body: RequestBody,
    lent: Uploaded,
    out: BodySender,
) -> Result<(), Gone> {
    let (sender, pieces) = mpsc::channel(PIECES);
    let (asks, asked) = mpsc::unbounded_channel();
    let _carrying = AbortOnDrop(tokio::spawn(carry(body, sender)));
    let key = std::mem::take(&mut order.context_key);
    let let_go = LetGo { app: Arc::clone(&app), key: key.clone() };
    let building = async {
        order.build.solve.session = match app.builder.sync_context(pieces, lent, key, asks).await {
            Ok(session) => session,
            Err(failure) => return send(&out, &JsonMessage::failed(failure.message)).await,
        };
        if !order.session.is_empty() {
            let lent = std::mem::take(&mut order.build.solve.session);
            order.build.solve.session = lent.or(app.buildkit.lent(&order.session));
        }
        let form = order.form;
        let (building, recording, failed_steps) = order.start(&app);
        tell(building, recording, failed_steps, out.clone(), form).await
    };
    let (told, asked) = tokio::join!(building, ask(&out, asked));
    // Before the answer ends: whoever looks at the image then sees files of its own.
    let_go.now().await;
    drop(out);
    told.and(asked)
}

/// Tells the client what is wanted, and at last that nothing is any more.
async fn ask(out: &BodySender, mut asked: mpsc::UnboundedReceiver<Wanted>) -> Result<(), Gone> {
    let tell = async |wanted: Wanted| {
        let aux = Some(json!(wanted));
        send(out, &JsonMessage { id: WANTED.to_owned(), aux, ..JsonMessage::default() }).await
    };
    while let Some(wanted) = asked.recv().await {
        tell(wanted).await?;
    }
    tell(Wanted::new()).await
}

/// Carries a body to whoever takes its pieces; one that is gone has said why.
async fn carry(mut body: RequestBody, sender: mpsc::Sender<Result<Bytes, String>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error.to_string())),
        };
        let Some(piece) = piece else { continue };
        if sender.send(piece).await.is_err() {
            // The rest is of no use, but a client that sends it waits for it to be taken.
            while let Some(Ok(_)) = body.frame().await {}
            return;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets go of a context's files when the build has ended, however it does.
struct LetGo {
    app: Arc<App>,
    key: String,
}

impl LetGo {
    async fn now(mut self) {
        let key = std::mem::take(&mut self.key);
        self.app.builder.let_go(key).await;
    }
}

impl Drop for LetGo {
    fn drop(&mut self) {
        let (app, key) = (Arc::clone(&self.app), std::mem::take(&mut self.key));
        if !key.is_empty() {
            tokio::spawn(async move { app.builder.let_go(key).await });
        }
    }
}
