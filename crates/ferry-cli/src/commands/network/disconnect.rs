//! `network disconnect`

use ferry_api::network::DisconnectRequest;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;

use super::connect::refuse_nobody;

/// Runs `network disconnect`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let request = DisconnectRequest { container: parsed.args[1].clone(), force: parsed.on("force") };
    refuse_nobody(&request.container)?;
    context.client().await?.network_disconnect(&parsed.args[0], &request).await?;
    Ok(0)
}
