//! Networks.

use ferry_api::filters::Filters;
use ferry_api::network::Summary;

use crate::connection::{Client, Raw};
use crate::error::Result;
use crate::request::{Query, segment};

impl Client {
    /// API: `GET /networks`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<Summary>> {
        self.get("/networks", &Query::new().with_text("filters", &filters.to_parameter())).await
    }

    /// API: `GET /networks/{id}`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown network.
    pub async fn network_inspect(&self, id: &str, scope: &str, verbose: bool) -> Result<Raw> {
        let mut query = Query::new().with_text("scope", scope);
        if verbose {
            query = query.with("verbose", "true");
        }
        self.get_raw(&format!("/networks/{}", segment(id)), &query).await
    }
}
