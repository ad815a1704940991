use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{Call, Channel, Code, Metadata, Service, Status, serve};
use crate::messages::session::{GetSecretRequest, GetSecretResponse};
use crate::messages::{Any, BytesMessage};

/// Answers with what it is asked, in several ways.
#[derive(Default)]
struct Echo {
    entered: Notify,
    left: Notify,
    was_dropped: AtomicBool,
}

struct TellsDrop(Arc<Echo>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.was_dropped.store(true, Ordering::SeqCst);
        self.0.left.notify_one();
    }
}

impl Service for Echo {
    fn call(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            match call.path.as_str() {
                "/unary" => {
                    call.unary(|asked: GetSecretRequest| async move {
                        Ok(GetSecretResponse { data: asked.id.into_bytes() })
                    })
                    .await
                }
                "/stream" => {
                    while let Some(piece) = call.requests.next::<BytesMessage>().await? {
                        call.replies.send(&piece).await?;
                    }
                    Ok(())
                }
                "/hang" => {
                    let _told = TellsDrop(Arc::clone(&self));
                    self.entered.notify_one();
                    std::future::pending().await
                }
                other => Err(Status {
                    details: vec![Any { type_url: "t".to_owned(), value: vec![0, 255] }],
                    ..Status::new(Code::NotFound, format!("no {other}: 100% ünknown\n"))
                }),
            }
        })
    }
}

async fn pair() -> (Channel, Arc<Echo>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let echo = Arc::new(Echo::default());
    tokio::spawn(serve(theirs, Arc::clone(&echo)));
    let (channel, connection) = Channel::connect(ours).await.unwrap();
    tokio::spawn(connection);
    (channel, echo)
}

#[tokio::test]
async fn messages_go_there_and_back() {
    let (channel, _) = pair().await;
    let answer: GetSecretResponse = channel.unary("/unary", &GetSecretRequest { id: "who".to_owned() }).await.unwrap();
    assert_eq!(answer.data, b"who");
    // More than any window holds.
    let (sender, mut replies) = channel.stream("/stream", Metadata::new());
    let piece = BytesMessage { data: vec![7; 1 << 20].into() };
    let sent = piece.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..20 {
            sender.send(&sent).await.unwrap();
        }
    });
    for _ in 0..20 {
        assert!(replies.next::<BytesMessage>().await.unwrap() == Some(piece.clone()));
    }
    sending.await.unwrap();
    assert!(replies.next::<BytesMessage>().await.unwrap().is_none());
}

#[tokio::test]
async fn a_failure_arrives_whole() {
    let (channel, _) = pair().await;
    let failure = channel.unary::<BytesMessage>("/x", &BytesMessage::default()).await.unwrap_err();
    assert_eq!((failure.code, failure.message.as_str()), (Code::NotFound, "no /x: 100% ünknown\n"));
    assert_eq!(failure.details, [Any { type_url: "t".to_owned(), value: vec![0, 255] }]);
}

#[tokio::test]
async fn who_leaves_ends_the_call() {
    let (channel, echo) = pair().await;
    let (sender, replies) = channel.stream("/hang", Metadata::new());
    echo.entered.notified().await;
    drop((sender, replies));
    echo.left.notified().await;
    assert!(echo.was_dropped.load(Ordering::SeqCst));
}
