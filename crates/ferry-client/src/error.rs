//! What can go wrong with a request; texts are those that Docker's client prints.

use std::io;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the address.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Connect {
        /// The address as given.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: {operation}: dial unix {path}: \
         connect: permission denied"
    )]
    Denied {
        /// The address as given.
        host: String,
        /// Method and URL.
        operation: String,
        /// The socket.
        path: String,
    },
    /// The daemon answered with an error.
    #[error("Error response from daemon: {message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The connection broke before the answer was complete.
    #[error("error during connect: {operation}: {reason}")]
    Broken {
        /// Method and URL.
        operation: String,
        /// What happened.
        reason: String,
    },
    /// Nothing was named; without a name a path means something else.
    #[error("invalid {0} name or ID: value is empty")]
    NoName(&'static str),
    /// A stream ended in the middle.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// The answer is not what the endpoint promises.
    #[error("{0}")]
    Decode(String),
    /// Reading the request's body failed.
    #[error(transparent)]
    Body(#[from] io::Error),
}

impl Error {
    /// The HTTP status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The credentials are not good enough.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Api { status: 401, .. })
    }

    /// The daemon does not know the object.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The daemon does not speak the version of the request.
    pub fn is_too_new(&self) -> bool {
        matches!(self, Self::Api { status: 400, message } if message.contains("is too new"))
    }

    /// Nothing listens at the address.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}
