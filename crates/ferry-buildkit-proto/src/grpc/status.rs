//! How a call ends.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use prost::Message;

use crate::messages::{Any, RpcStatus};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// What may not stand as it is in a message on the wire.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Most bytes of a text in the headers.
const TEXT_LIMIT: usize = 8 << 10;

/// The codes of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// It went well.
    Ok = 0,
    /// Whoever asked does not want it any more.
    Cancelled = 1,
    /// It failed; the text says all.
    Unknown = 2,
    /// What was asked for is wrong.
    InvalidArgument = 3,
    /// It is not there.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// It is not allowed.
    PermissionDenied = 7,
    /// More than there is room for.
    ResourceExhausted = 8,
    /// Nobody does that here.
    Unimplemented = 12,
    /// Something is broken.
    Internal = 13,
    /// Nobody is there.
    Unavailable = 14,
}

impl Code {
    fn of(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// How a call ended, when not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In which way.
    pub code: Code,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Vec<Any>,
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// The other end, or the way there, is gone.
    pub fn unavailable(message: impl std::fmt::Display) -> Self {
        Self::new(Code::Unavailable, message.to_string())
    }

    /// Nobody does that here.
    pub fn unimplemented(what: impl std::fmt::Display) -> Self {
        Self::new(Code::Unimplemented, format!("not implemented: {what}"))
    }

    /// It failed; the text says all.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message)
    }

    /// The same as a message.
    #[must_use]
    pub fn to_rpc(&self) -> RpcStatus {
        RpcStatus { code: self.code as i32, message: self.message.clone(), details: self.details.clone() }
    }

    /// From a message.
    #[must_use]
    pub fn of_rpc(status: RpcStatus) -> Self {
        Self { code: Code::of(status.code), message: status.message, details: status.details }
    }

    /// The trailers that end a call.
    pub(super) fn trailers(outcome: &Result<(), Self>) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let Err(status) = outcome else {
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            return trailers;
        };
        trailers.insert(STATUS, HeaderValue::from(status.code as i32));
        let mut end = status.message.len().min(TEXT_LIMIT);
        while !status.message.is_char_boundary(end) {
            end -= 1;
        }
        let text = utf8_percent_encode(&status.message[..end], ESCAPED).to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            trailers.insert(MESSAGE, value);
        }
        if !status.details.is_empty() {
            let encoded = STANDARD_NO_PAD.encode(status.to_rpc().encode_to_vec());
            if let Ok(value) = HeaderValue::from_str(&encoded) {
                trailers.insert(DETAILS, value);
            }
        }
        trailers
    }

    /// Reads what trailers, or the headers of an answer without a body, say; `None` when they say nothing.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Result<(), Self>> {
        let number = headers.get(STATUS)?.to_str().ok()?.parse().unwrap_or(Code::Unknown as i32);
        if number == 0 {
            return Some(Ok(()));
        }
        let details = headers.get(DETAILS).and_then(|value| value.to_str().ok()).and_then(|text| {
            let text = text.trim_end_matches('=');
            let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
            RpcStatus::decode(&bytes[..]).ok()
        });
        let message = headers.get(MESSAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let message = percent_decode_str(message).decode_utf8_lossy().into_owned();
        let details = details.map(|status| status.details).unwrap_or_default();
        Some(Err(Self { code: Code::of(number), message, details }))
    }
}
