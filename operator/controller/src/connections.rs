//! The connections to the servers of all pipelines. A reconcile, which reads the Secrets, sets them; the stats use them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    certificates::{CERTIFICATE, KEY},
    cluster_state::ClusterState,
    index::PipelineName,
    pipeline::{Pipeline, PortTls},
    server_connection::{ConnectionSettings, ServerConnection, StatsError, TlsSettings},
};

type ByPipeline = BTreeMap<PipelineName, (ConnectionSettings, Arc<ServerConnection>)>;

/// Connections by pipeline.
#[derive(Default)]
pub struct Connections(Mutex<ByPipeline>);

impl Connections {
    /// Connects to `pipeline` as in `settings` from now on. Unchanged settings keep the connection.
    ///
    /// # Errors
    /// If the settings cannot be used. The previous connection stays.
    pub fn set(&self, pipeline: &PipelineName, settings: ConnectionSettings) -> Result<(), StatsError> {
        let mut connections = self.lock();
        if connections.get(pipeline).is_some_and(|(before, _)| *before == settings) {
            return Ok(());
        }
        let connection = Arc::new(ServerConnection::new(&settings)?);
        connections.insert(pipeline.clone(), (settings, connection));
        Ok(())
    }

    /// The connection to `pipeline`, if there is one.
    #[must_use]
    pub fn get(&self, pipeline: &PipelineName) -> Option<Arc<ServerConnection>> {
        self.lock().get(pipeline).map(|(_, connection)| connection.clone())
    }

    /// Closes the connection to `pipeline`.
    pub fn remove(&self, pipeline: &PipelineName) {
        self.lock().remove(pipeline);
    }

    fn lock(&self) -> MutexGuard<'_, ByPipeline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How to connect to the servers of `pipeline` that answer queries. `template` is a URL with the placeholders `{scheme}`, `{name}`,
/// `{namespace}`, `{service}` and `{port}`.
#[must_use]
pub fn settings(pipeline: &Pipeline, state: &ClusterState, template: &str) -> ConnectionSettings {
    let names = &pipeline.names;
    let servers = pipeline.query_servers();
    let service = names.part(servers.map_or("server", |servers| servers.role.component()));
    let port = servers.map_or(8080, |servers| servers.spec.service.port);
    let tls = pipeline.security.tls.as_ref();
    let address = template
        .replace("{scheme}", if tls.is_some() { "https" } else { "http" })
        .replace("{namespace}", &names.namespace)
        .replace("{name}", &names.pipeline)
        .replace("{service}", &service)
        .replace("{port}", &port.to_string());
    let secret = |name: &str, key: &str| state.secret(&names.namespace, name, key).map(<[u8]>::to_vec);
    let verified = |tls: &PortTls| {
        let own = names.operator_certificate();
        let identity =
            secret(&own, CERTIFICATE).zip(secret(&own, KEY)).map(|(certificate, key)| [certificate, key].concat());
        let ca = tls.server.ca.as_ref().and_then(|ca| secret(&ca.name, &ca.key));
        TlsSettings { host: tls.server.host.clone(), ca, identity }
    };
    let token = names.operator_token();
    let token = secret(&token.name, &token.key).filter(|_| pipeline.security.authenticated);
    ConnectionSettings {
        address,
        tls: tls.map(verified),
        token: token.map(|token| String::from_utf8_lossy(&token).into_owned()),
    }
}
