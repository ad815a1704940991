//! `DELETE /networks/{id}` and `POST /networks/prune`.

use ferry_api::filters::Filters;
use ferry_api::network::PruneReport;

use super::record::NetworkRecord;
use super::{Networks, find, record};
use crate::blocking;
use crate::clock;
use crate::error::{Context, Error, ErrorKind, Result};

impl Networks {
    /// Removes a network that nobody is in.
    ///
    /// API: `DELETE /networks/{id}`
    ///
    /// # Errors
    /// NotFound; Forbidden for the engine's own networks and while containers are in it.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let (networks, reference) = (self.clone(), reference.to_owned());
        blocking(move || {
            let id = networks.id_of(&reference)?;
            let is_remote = networks.table().get(&id).is_some_and(|network| network.record.is_remote());
            let _making = networks.making(is_remote);
            networks.remove_now(&id)
        })
        .await
    }

    /// The caller holds `making`.
    fn remove_now(&self, id: &str) -> Result<()> {
        let network = {
            let mut table = self.table();
            let network = find(&table, id)?;
            let record = &network.record;
            if !record.user_defined {
                let text = format!("{} is a pre-defined network and cannot be removed", record.name);
                return Err(Error::new(ErrorKind::Forbidden, text));
            }
            if !network.members.is_empty() {
                let members: Vec<String> = network
                    .members
                    .values()
                    .map(|member| {
                        format!("name:{:?} id:{:?}", member.name, member.endpoint_id.get(..12).unwrap_or_default())
                    })
                    .collect();
                let text = format!(
                    "error while removing network: network {} has active endpoints ({})",
                    record.name,
                    members.join(", ")
                );
                return Err(Error::new(ErrorKind::Forbidden, text));
            }
            if record.config_only && table.values().any(|other| other.record.config_from == record.name) {
                let text = format!("error while removing network: configuration network {:?} is in use", record.name);
                return Err(Error::new(ErrorKind::Forbidden, text));
            }
            // Out of the table first: nobody joins any more.
            table.remove(id).expect("found under the same lock")
        };
        let record = network.record.clone();
        if let Some(spec) = record.bridge_spec()
            && let Err(error) = self.inner.networking.remove_bridge(&spec.network_id, &spec.link)
        {
            self.table().insert(id.to_owned(), network);
            return Err(error).context(format!("cannot remove the bridge of network {}", record.name));
        }
        if let Err(error) = self.delete_remote(&record) {
            self.table().insert(id.to_owned(), network);
            return Err(error);
        }
        self.release_pools(&record);
        self.release_plugins_of(&record);
        // Another network may live on the same parent: the last one takes it away.
        if let Some(parent) = record.parent_spec()
            && !self.hand_on_parent(&record)?
            && let Err(error) = self.inner.networking.remove_parent(&parent)
        {
            tracing::warn!(link = parent.link, %error, "parent of a removed network left behind");
        }
        self.inner
            .syncer
            .remove(&record::path(&self.inner.folder, id))
            .context(format!("cannot remove network {}", record.name))?;
        let attributes =
            [("name".to_owned(), record.name.clone()), ("type".to_owned(), record.driver_name().to_owned())];
        self.inner.events.publish("network", "destroy", id, attributes.into_iter().collect());
        Ok(())
    }

    /// Makes another network of the same parent answerable for it. Tells whether there is one.
    fn hand_on_parent(&self, gone: &NetworkRecord) -> Result<bool> {
        let mut table = self.table();
        let heir = table.values_mut().find(|other| other.record.settings.parent == gone.settings.parent);
        let Some(heir) = heir else { return Ok(false) };
        heir.record.settings.made_parent = true;
        heir.record.settings.vlan.clone_from(&gone.settings.vlan);
        let heir = heir.record.clone();
        drop(table);
        let parent = heir.parent_spec().expect("just made answerable");
        self.inner.networking.adopt_parent(&parent).context(format!("cannot hand on link {}", parent.link))?;
        let written = self.inner.syncer.write(&record::path(&self.inner.folder, &heir.id), &heir);
        written.context(format!("cannot write the record of network {}", heir.name))?;
        Ok(true)
    }

    /// Removes every network of users that nobody is in and that the filters let through.
    ///
    /// API: `POST /networks/prune`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter. A network that cannot be removed stays and is logged.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["label", "label!", "until"])?;
        let until = until(filters)?;
        let (networks, filters) = (self.clone(), filters.clone());
        blocking(move || {
            let unused: Vec<(String, String, bool)> = networks
                .table()
                .values()
                .filter(|network| {
                    let record = &network.record;
                    record.user_defined
                        && !record.config_only
                        && network.members.is_empty()
                        && until.is_none_or(|until| record.created_ns < until)
                        && filters.matches_labels("label", &record.labels)
                        && crate::filter::no_labels(&filters, "label!", &record.labels)
                })
                .map(|network| (network.record.id.clone(), network.record.name.clone(), network.record.is_remote()))
                .collect();
            let mut deleted = Vec::new();
            for (id, name, is_remote) in unused {
                let _making = networks.making(is_remote);
                match networks.remove_now(&id) {
                    Ok(()) => deleted.push(name),
                    Err(error) => tracing::warn!(network = %name, error = %error.text(), "network not pruned"),
                }
            }
            networks.inner.events.publish("network", "prune", "", [("reclaimed".to_owned(), "0".to_owned())].into());
            Ok(PruneReport { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
        })
        .await
    }
}

/// Only what was made before this moment goes.
fn until(filters: &Filters) -> Result<Option<i64>> {
    let Some(text) = filters.get("until").next() else { return Ok(None) };
    let moment = crate::images::parse_moment(text, clock::now_ns());
    let moment = moment.ok_or_else(|| {
        Error::invalid(format!("failed to parse value as time or duration: invalid seconds {text:?}: invalid syntax"))
    });
    moment.map(Some)
}
