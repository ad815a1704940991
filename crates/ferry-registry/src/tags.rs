//! The tags of a repository.

use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::Repository;
use crate::client::{Host, Inner};
use crate::error::{Error, Result};
use crate::request::{Wanted, expect_content};
use crate::transport::{Answer, shown};

/// Longest page of a list, in bytes.
const PAGE_LIMIT: u64 = 4 << 20;
/// Most pages that are read.
const PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Lists the tags, as the registry sorts them.
    ///
    /// # Errors
    /// [`Error::NotFound`] names the repository.
    ///
    /// Spec: OCI distribution, listing tags.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let inner = &self.0;
        inner.at_some_host(|at| inner.tags_at(&inner.hosts[at])).await
    }
}

impl Inner {
    async fn tags_at(&self, host: &Host) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        let mut what = "tags/list".to_owned();
        for _ in 0..PAGES {
            let headers = HeaderMap::new();
            let wanted = Wanted { method: Method::GET, what, headers: &headers, verified_later: false };
            let answer = expect_content(self.ask(host, &wanted).await?, |_| self.name.clone()).await?;
            let next = next_page(&answer);
            let url = shown(answer.url());
            let body = answer.body(PAGE_LIMIT).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| Error::Protocol { url, reason: format!("invalid list of tags: {error}") })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(query) => what = format!("tags/list?{query}"),
                None => return Ok(tags),
            }
        }
        Err(Error::TooLarge { what: format!("the list of tags of {}", self.name), limit: PAGES as u64 * PAGE_LIMIT })
    }
}

/// Returns the query of the next page. Only the query is taken: where to ask is not the registry's to say.
fn next_page(answer: &Answer) -> Option<String> {
    let (target, rest) = answer.header("link")?.trim().strip_prefix('<')?.split_once('>')?;
    if !rest.contains("rel=\"next\"") && !rest.contains("rel=next") {
        return None;
    }
    target.split_once('?').map(|(_, query)| query.to_owned())
}
