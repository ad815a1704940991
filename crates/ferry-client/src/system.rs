//! The daemon itself.

use ferry_api::filters::Filters;
use http::{HeaderMap, Method};

use crate::connection::{Client, Raw};
use crate::error::Result;
use crate::request::{Payload, Query};
use crate::stream::ByteStream;

impl Client {
    /// API: `GET /version`, untouched.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn server_version(&self) -> Result<Raw> {
        self.get_raw("/version", &Query::new()).await
    }

    /// API: `GET /info`, untouched.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn info(&self) -> Result<Raw> {
        self.get_raw("/info", &Query::new()).await
    }

    /// API: `GET /events`
    ///
    /// # Errors
    /// 400 for a bad filter or time.
    pub async fn events(&self, since: &str, until: &str, filters: &Filters) -> Result<ByteStream> {
        let query = Query::new()
            .with_text("since", since)
            .with_text("until", until)
            .with_text("filters", &filters.to_parameter());
        self.stream(Method::GET, "/events", &query, HeaderMap::new(), Payload::empty()).await
    }
}
