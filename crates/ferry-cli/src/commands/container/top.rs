//! `top`

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::tabwriter::{Layout, align};

/// Runs `top`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let top = client.container_top(&parsed.args[0], &parsed.args[1..]).await?;
    let rows = std::iter::once(top.titles.unwrap_or_default()).chain(top.processes.unwrap_or_default());
    let text: String = rows.map(|row| format!("{}\n", row.join("\t"))).collect();
    context.printer.data(align(&text, &Layout { min_width: 20, padding: 3 }))?;
    Ok(0)
}
