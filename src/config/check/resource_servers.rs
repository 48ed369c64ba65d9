//! Who may introspect tokens that others were given for others.

use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{self, Raw};
use crate::config::suggestion::did_you_mean;
use crate::exchange::client::ANY_CLIENT;
use crate::exchange::policy::ResourceServer;

impl Check<'_> {
    pub(super) fn resource_servers(&self, raw: &Raw) -> Vec<ResourceServer> {
        let Some((node, list)) = given(&raw.resource_servers) else { return Vec::new() };
        if !introspects(raw) {
            self.warn(node, "has no effect without `authorization_server.endpoints.introspection`");
        }
        let items: Vec<_> = self.items(node, list).collect();
        self.unique("client_id", items.iter().map(|(_, server)| &server.client_id));
        let known = audiences(raw);
        items
            .into_iter()
            .filter_map(|(node, server)| self.resource_server(node, server, known.as_deref()))
            .collect()
    }

    fn resource_server(
        &self,
        node: NodeId,
        server: &raw::ResourceServer,
        known: Option<&[&str]>,
    ) -> Option<ResourceServer> {
        let hint = "by which the identity provider knows it";
        let client_id = self
            .need(node, "client_id", hint, &server.client_id)
            .and_then(|(node, id)| self.client_id(node, id));
        if let Some((node, id)) = given(&server.client_id)
            && id.as_str() == ANY_CLIENT
        {
            self.fault(node, "`*` is no resource server: name each client");
        }
        let hint = "such as [https://api.example.com]";
        let (node, list) = self.need(node, "audiences", hint, &server.audiences)?;
        let mut audiences = Vec::new();
        for (node, audience) in self.items(node, list) {
            let audience = audience.as_str();
            if let Some(known) = known
                && !known.contains(&audience)
            {
                let meant = did_you_mean(audience, known.iter().copied());
                self.warn(node, format!("no application may ask for this audience{meant}"));
            }
            audiences.push(audience.to_owned());
        }
        Some(ResourceServer { client_id: client_id?, audiences })
    }
}

/// Whether there is an endpoint that says what a token stands for.
pub(super) fn introspects(raw: &Raw) -> bool {
    has_endpoint(raw, |endpoints| endpoints.introspection.is_some())
}

/// Whether there is an endpoint at which the upstream authenticates its clients.
pub(super) fn vouches(raw: &Raw) -> bool {
    has_endpoint(raw, |endpoints| {
        endpoints.introspection.is_some() || endpoints.revocation.is_some()
    })
}

fn has_endpoint(raw: &Raw, is_there: impl Fn(&raw::Endpoints) -> bool) -> bool {
    let Some(server) = &raw.authorization_server else { return false };
    // What could not be read is not missed.
    let Some(server) = &server.value else { return true };
    given(&server.endpoints)
        .map_or(server.endpoints.is_some(), |(_, endpoints)| is_there(endpoints))
}

/// What minted tokens may be meant for; `None` where not all of it could be read.
fn audiences(raw: &Raw) -> Option<Vec<&str>> {
    let mut known = Vec::new();
    let Some(applications) = &raw.applications else { return Some(known) };
    for field in applications.value.as_ref()? {
        let application = field.value.as_ref()?;
        match &application.audiences {
            Some(list) => {
                for audience in list.value.as_ref()? {
                    known.push(audience.value.as_ref()?.as_str());
                }
            }
            // Their own ids, whatever they are.
            None if given(&application.client_id)?.1.as_str() == ANY_CLIENT => return None,
            None => known.push(given(&application.client_id)?.1.as_str()),
        }
    }
    Some(known)
}
