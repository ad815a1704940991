//! Limits of traffic that Docker does not have: whether the daemon has taken them.

use ferry_api::container::{HostConfig, Inspect, Resources};
use ferry_client::Client;

/// Makes sure that a container has what was asked for: a daemon of Docker's passes over what it does not know, and nobody is to believe in
/// a limit that is none.
pub(super) async fn confirm(client: &Client, id: &str, asked: &Resources) -> Result<(), String> {
    if names(asked, None).is_empty() {
        return Ok(());
    }
    let inspect = client.container_inspect(id, false).await.map_err(|error| error.to_string())?;
    let inspect: Inspect = inspect.typed().map_err(|error| error.to_string())?;
    let missing = names(asked, Some(&inspect.host_config.unwrap_or_default()));
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{id}: this daemon does not know {}: what the container sends and receives is as it was",
        missing.join(", ")
    ))
}

/// Flags that ask for a limit which the container does not have.
fn names(asked: &Resources, has: Option<&HostConfig>) -> Vec<&'static str> {
    let egress = asked.egress.as_deref().unwrap_or_default();
    let restricts = !egress.is_empty() && egress != ["any"];
    let limits = [
        ("--net-in", asked.net_in > 0, has.is_some_and(|has| has.net_in == asked.net_in)),
        ("--net-out", asked.net_out > 0, has.is_some_and(|has| has.net_out == asked.net_out)),
        ("--net-delay", asked.net_delay > 0, has.is_some_and(|has| has.net_delay == asked.net_delay)),
        ("--net-loss", asked.net_loss > 0, has.is_some_and(|has| has.net_loss == asked.net_loss)),
        ("--egress", restricts, has.is_some_and(|has| has.egress == asked.egress)),
    ];
    limits.into_iter().filter(|(_, asked, has)| *asked && !has).map(|(name, ..)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_passes_over_is_named() {
        let asked = Resources { net_in: 5, egress: Some(vec!["lan".into()]), ..Resources::default() };
        assert_eq!(names(&asked, Some(&HostConfig::default())), ["--net-in", "--egress"]);
        let has = HostConfig { net_in: 5, egress: asked.egress.clone(), ..HostConfig::default() };
        assert!(names(&asked, Some(&has)).is_empty());
        let ends = Resources { net_in: -1, egress: Some(vec!["any".into()]), ..Resources::default() };
        assert!(names(&ends, None).is_empty());
    }
}
