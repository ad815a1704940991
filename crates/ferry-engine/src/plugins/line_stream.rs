//! Messages out of the answer of a log plugin: each behind its length, four bytes, the highest first.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Longest message that is taken.
const LONGEST: usize = 1_000_000;

/// See the module.
pub(crate) struct LineStream {
    body: Incoming,
    unread: BytesMut,
}

impl LineStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, unread: BytesMut::new() }
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match take(&mut self.unread) {
                Taken::Message(message) => return Some(message),
                Taken::Nonsense => {
                    tracing::warn!("a log plugin sends what is no message");
                    return None;
                }
                Taken::More => {}
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.unread.extend_from_slice(&data);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Message(Bytes),
    More,
    Nonsense,
}

fn take(unread: &mut BytesMut) -> Taken {
    let Some(length) = unread.first_chunk().map(|length| u32::from_be_bytes(*length)) else { return Taken::More };
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= LONGEST) else { return Taken::Nonsense };
    if unread.len() < 4 + length {
        return Taken::More;
    }
    unread.advance(4);
    Taken::Message(unread.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_one_by_one() {
        let mut unread = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\x01"[..]);
        assert_eq!(take(&mut unread), Taken::Message(Bytes::from_static(b"ab")));
        assert_eq!(take(&mut unread), Taken::More);
        unread.extend_from_slice(b"c");
        assert_eq!(take(&mut unread), Taken::Message(Bytes::from_static(b"c")));
        assert_eq!(take(&mut BytesMut::from(&b"\xff\0\0\0"[..])), Taken::Nonsense);
    }
}
