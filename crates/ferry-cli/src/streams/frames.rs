//! Takes apart a stream in which standard output and error share a connection.

use ferry_api::stream::{HEADER_LEN, StreamKind};

use crate::failure::{Failure, Result};
use crate::output::Printer;

/// Collects bytes and hands out payloads as they come.
#[derive(Debug, Default)]
pub(crate) struct Demultiplexer {
    header: Vec<u8>,
    current: Option<StreamKind>,
    left: usize,
    system_error: Vec<u8>,
}

impl Demultiplexer {
    /// Takes bytes; payload pieces go to `sink` at once.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(StreamKind, &[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = HEADER_LEN - self.header.len();
                let taken = wanted.min(bytes.len());
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if self.header.len() == HEADER_LEN {
                    self.begin()?;
                }
                continue;
            }
            let taken = self.left.min(bytes.len());
            let (payload, rest) = bytes.split_at(taken);
            bytes = rest;
            self.left -= taken;
            match self.current {
                Some(StreamKind::SystemError) => {
                    self.system_error.extend_from_slice(payload);
                    if self.left == 0 {
                        let text = String::from_utf8_lossy(&self.system_error).into_owned();
                        return Err(Failure::new(format!("error from daemon in stream: {text}")));
                    }
                }
                Some(kind) => sink(kind, payload)?,
                None => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let byte = self.header[0];
        let kind =
            StreamKind::from_byte(byte).ok_or_else(|| Failure::new(format!("unrecognized input header: {byte}")))?;
        self.current = Some(kind);
        self.left = u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]]) as usize;
        self.header.clear();
        Ok(())
    }
}

/// Writes the payloads of a piece to the client's own streams: what follows one another on the same one in a single call, since a
/// log has as many payloads as lines.
pub(crate) fn write(demultiplexer: &mut Demultiplexer, printer: &Printer, bytes: &[u8]) -> Result<()> {
    let mut gathered = Gathered { printer, kind: StreamKind::Stdout, bytes: Vec::with_capacity(bytes.len()) };
    let fed = demultiplexer.feed(bytes, &mut |kind, payload| {
        if kind != gathered.kind {
            gathered.write()?;
            gathered.kind = kind;
        }
        gathered.bytes.extend_from_slice(payload);
        Ok(())
    });
    // What came before a mistake is output all the same.
    gathered.write()?;
    fed
}

struct Gathered<'a> {
    printer: &'a Printer,
    kind: StreamKind,
    bytes: Vec<u8>,
}

impl Gathered<'_> {
    fn write(&mut self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        match self.kind {
            StreamKind::Stderr => self.printer.error_bytes(&self.bytes),
            _ => self.printer.data(&self.bytes)?,
        }
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::stream::frame_header;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = Vec::new();
        for (kind, text) in [(StreamKind::Stdout, "hello"), (StreamKind::Stderr, "oops"), (StreamKind::Stdout, "x")] {
            wire.extend_from_slice(&frame_header(kind, u32::try_from(text.len()).unwrap()));
            wire.extend_from_slice(text.as_bytes());
        }
        for cut in 1..wire.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demultiplexer = Demultiplexer::default();
            for piece in wire.chunks(cut) {
                demultiplexer
                    .feed(piece, &mut |kind, payload| {
                        if kind == StreamKind::Stderr { &mut err } else { &mut out }.extend_from_slice(payload);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (b"hellox".as_slice(), b"oops".as_slice()));
        }
    }

    #[test]
    fn bytes_that_are_no_frames_are_refused() {
        let error = Demultiplexer::default().feed(b"hello wo", &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.message, "unrecognized input header: 104");
    }
}
