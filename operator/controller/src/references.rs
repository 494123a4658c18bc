//! The Secrets and ConfigMaps that a spec names. Without a check, anyone who may create a PingPipeline could read any Secret of the namespace, or
//! have it sent to an address of their choice, so each of them needs a label that allows it. `imagePullSecrets` do not: the kubelet sends them only to
//! the registries that they are for. Pure.

use std::collections::BTreeSet;

use ping_api::{
    crd::{
        PingPipelineSpec, SecretKey,
        backup::ObjectStore,
        postgres::PostgresCluster,
        tls::ConnectionTls,
        workload::{PodSpec, ServerSpec},
    },
    kinds::{Key, Kind},
    names::Names,
};

/// One reference to a key of a Secret or ConfigMap in the pipeline's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field of the spec, for messages.
    pub field: String,
    /// `Secret` or `ConfigMap`.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// Key within the object.
    pub key: String,
}

impl Reference {
    fn secret(field: impl Into<String>, key: &SecretKey) -> Self {
        Self { field: field.into(), kind: Kind::Secret, name: key.name.clone(), key: key.key.clone() }
    }

    /// The object.
    #[must_use]
    pub fn object(&self, names: &Names) -> Key {
        names.key(self.kind, &self.name)
    }
}

/// Every reference in `spec`.
#[must_use]
pub fn references(spec: &PingPipelineSpec) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut add = |field: &str, key: Option<&SecretKey>| found.extend(key.map(|key| Reference::secret(field, key)));
    let postgres = spec.postgres.external.as_ref();
    add("spec.postgres.external.uri", postgres.map(|external| &external.uri));
    add("spec.postgres.external.readUri", postgres.and_then(|external| external.read_uri.as_ref()));
    if let Some(external) = &spec.kafka.external {
        add("spec.kafka.external.tls.ca", external.tls.as_ref().and_then(|tls| tls.ca.as_ref()));
        add("spec.kafka.external.sasl.password", external.sasl.as_ref().map(|sasl| &sasl.password));
    }
    let dragonfly = spec.cache.dragonfly.as_ref();
    add("spec.cache.dragonfly.password", dragonfly.and_then(|dragonfly| dragonfly.password.as_ref()));
    let external = spec.cache.external.as_ref();
    add("spec.cache.external.password", external.and_then(|external| external.password.as_ref()));
    found.extend(spec.postgres.cluster.iter().flat_map(stores));
    found.extend(postgres.into_iter().flat_map(|external| tls("spec.postgres.external.tls", &external.tls)));
    found.extend(external.into_iter().flat_map(|external| tls("spec.cache.external.tls", &external.tls)));
    found.extend(callers(&spec.server));
    found.extend(variables("spec.server.env", &spec.server.pod));
    found.extend(variables("spec.processor.env", &spec.processor.pod));
    found
}

/// References of the object stores with backups.
fn stores(cluster: &PostgresCluster) -> Vec<Reference> {
    let backup = cluster.backup.as_ref().map(|backup| ("backup", &backup.store));
    let origin = cluster.recovery.as_ref().and_then(|recovery| recovery.object_store.as_ref());
    let origin = origin.map(|origin| ("recovery.objectStore", &origin.store));
    let of = |(part, store): (&'static str, &ObjectStore)| {
        let reference =
            |(field, key): (&str, &SecretKey)| Reference::secret(format!("spec.postgres.cluster.{part}.{field}"), key);
        store.secrets().map(reference).collect::<Vec<_>>()
    };
    backup.into_iter().chain(origin).flat_map(of).collect()
}

/// References of TLS settings.
fn tls(field: &str, tls: &ConnectionTls) -> Vec<Reference> {
    let ca = tls.ca.iter().map(|ca| Reference::secret(format!("{field}.ca"), ca));
    let certificate = tls.client_certificate.iter().flat_map(|name| {
        let key = |key: &str| SecretKey { name: name.clone(), key: key.into() };
        ["tls.crt", "tls.key"].map(|name| Reference::secret(format!("{field}.clientCertificate"), &key(name)))
    });
    ca.chain(certificate).collect()
}

/// References of the settings about callers.
fn callers(server: &ServerSpec) -> Vec<Reference> {
    let mut found = Vec::new();
    if let Some(name) = &server.tls.secret_name {
        let key = |key: &str| SecretKey { name: name.clone(), key: key.into() };
        found.extend(["tls.crt", "tls.key"].map(|name| Reference::secret("spec.server.tls.secretName", &key(name))));
    }
    found
        .extend(server.tls.client_ca.iter().map(|client| Reference::secret("spec.server.tls.clientCa.ca", &client.ca)));
    let field = "spec.server.authentication";
    for (index, token) in server.authentication.tokens.iter().enumerate() {
        found.push(Reference::secret(format!("{field}.tokens[{index}].sha256"), &token.sha256));
    }
    for (index, issuer) in server.authentication.issuers.iter().enumerate() {
        let field = format!("{field}.issuers[{index}]");
        found.extend(issuer.jwks.iter().map(|key| Reference::secret(format!("{field}.jwks"), key)));
        found.extend(issuer.ca.iter().map(|key| Reference::secret(format!("{field}.ca"), key)));
    }
    found
}

/// The objects in `references`.
#[must_use]
pub fn objects(spec: &PingPipelineSpec, names: &Names) -> BTreeSet<Key> {
    references(spec).iter().map(|reference| reference.object(names)).collect()
}

/// References of environment variables. Other sources, such as `fieldRef`, show only what the pod knows about itself.
fn variables(field: &str, pod: &PodSpec) -> Vec<Reference> {
    let mut found = Vec::new();
    for variable in &pod.env {
        let field = format!("{field} variable {}", variable.name);
        let Some(source) = &variable.value_from else { continue };
        if let Some(secret) = &source.secret_key_ref {
            let (name, key) = (secret.name.clone(), secret.key.clone());
            found.push(Reference { field: field.clone(), kind: Kind::Secret, name, key });
        }
        if let Some(map) = &source.config_map_key_ref {
            let (name, key) = (map.name.clone(), map.key.clone());
            found.push(Reference { field, kind: Kind::ConfigMap, name, key });
        }
    }
    found
}
