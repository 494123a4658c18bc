//! Who may call, and how the ports are encrypted: turns the settings of callers into the files that servers and processors read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use ping_api::{
    crd::{
        PingPipelineSpec, SecretKey,
        access::{Authorization, Protection, ServerTls},
        workload::ServerSpec,
    },
    kinds::Kind,
    names::Names,
    reason::Reason,
    roles::query_role,
};
use reqwest::Url;

use super::invalid::{Invalid, conflicting};
use crate::{
    access_policy::{self, CLIENT_CA, ClusterKeys},
    certificates::{BUNDLE, CERTIFICATE, names_of},
    cluster_state::ClusterState,
    issued::IssuedSecret,
    pipeline::{PortCertificate, PortTls, Security},
};

/// Checks the settings of callers. The references in them have been checked before.
pub(super) fn access(spec: &PingPipelineSpec, names: &Names, state: &ClusterState) -> Result<Security, Invalid> {
    let server = &spec.server;
    let authenticated = server.authentication.mode == Protection::Required;
    check_disabled(server)?;
    let tls = tls(server, names, state)?;
    let mut files = BTreeMap::new();
    if authenticated {
        files = policies(server, names, state)?;
    }
    if let Some(client) = tls.as_ref().and(server.tls.client_ca.as_ref()) {
        // The operator is a client, too, with a certificate from the pipeline's own authority.
        let given = state.secret(&names.namespace, &client.ca.name, &client.ca.key);
        let own = state.secret(&names.namespace, &names.authority().name, BUNDLE);
        let bundle: Vec<&[u8]> = given.into_iter().chain(own).collect();
        files.insert(CLIENT_CA.into(), ByteString(bundle.join(&b'\n')));
    }
    Ok(Security {
        tls,
        authenticated,
        anonymous: server.authorization.anonymous.clone(),
        first_token: authenticated && server.authentication.first_token,
        files: (!files.is_empty()).then(|| IssuedSecret {
            name: names.access(),
            component: "access",
            type_: "Opaque",
            data: files,
        }),
        issuer_ports: if authenticated { issuer_ports(server) } else { BTreeSet::new() },
    })
}

/// The CRD has the same rules, except for the last one; this also covers objects from before it had them.
fn check_disabled(server: &ServerSpec) -> Result<(), Invalid> {
    let ServerTls { mode, secret_name, names, client_ca } = &server.tls;
    if *mode == Protection::Disable && (secret_name.is_some() || !names.is_empty() || client_ca.is_some()) {
        return Err(conflicting(
            "spec.server.tls.mode is Disable, which serves everything in plaintext, so secretName, names and clientCa have no effect. \
             Remove them, or set mode: Required",
        ));
    }
    if secret_name.is_some() && !names.is_empty() {
        return Err(conflicting(
            "spec.server.tls.names are those of the certificate that the operator issues, but secretName brings its own. Remove one of them",
        ));
    }
    let (authentication, authorization) = (&server.authentication, &server.authorization);
    let has_authorization = *authorization != Authorization::default();
    let has_callers = !authentication.tokens.is_empty()
        || !authentication.issuers.is_empty()
        || authentication.service_accounts.is_some();
    if authentication.mode == Protection::Disable && (has_callers || has_authorization) {
        return Err(conflicting(
            "spec.server.authentication.mode is Disable, which lets everyone do everything, so tokens, issuers, serviceAccounts and \
             spec.server.authorization have no effect. Remove them, or set mode: Required",
        ));
    }
    Ok(())
}

fn tls(server: &ServerSpec, names: &Names, state: &ClusterState) -> Result<Option<PortTls>, Invalid> {
    if server.tls.mode == Protection::Disable {
        return Ok(None);
    }
    let issued = |secret: String, component: &str| PortCertificate {
        secret,
        ca: Some(names.authority()),
        host: names.service_host(component),
    };
    let component = query_role(server).component();
    let own = match &server.tls.secret_name {
        None => issued(names.server_certificate(), component),
        Some(name) => given(name, &names.service_host(component), names, state)?,
    };
    Ok(Some(PortTls {
        server: own,
        processor: issued(names.processor_certificate(), "processor"),
        clients: server.tls.client_ca.as_ref().map(|client| client.mode),
    }))
}

/// The certificate in the Secret `name`. Clients in the cluster call it by `host` if it covers that, else by its first name.
fn given(name: &str, host: &str, names: &Names, state: &ClusterState) -> Result<PortCertificate, Invalid> {
    let refused = |problem: &str| {
        let message =
            format!("spec.server.tls.secretName refers to Secret {}/{name}, whose tls.crt {problem}", names.namespace);
        Err(Invalid::Refused(Reason::SecretMissing, message))
    };
    let Some(covered) = state.secret(&names.namespace, name, CERTIFICATE).and_then(names_of) else {
        return refused("is not a certificate in PEM form. Replace it");
    };
    let first = covered.iter().find(|name| name.parse::<std::net::IpAddr>().is_err());
    let host = match (covered.iter().any(|pattern| covers(pattern, host)), first) {
        (true, _) => host.to_owned(),
        (false, Some(first)) => first.replacen('*', "ping", 1),
        (false, None) => return refused(&format!("has no DNS name. Issue it for {host}")),
    };
    let ca = SecretKey { name: name.into(), key: BUNDLE.into() };
    let ca = state.secret(&names.namespace, &ca.name, &ca.key).is_some().then_some(ca);
    Ok(PortCertificate { secret: name.into(), ca, host })
}

/// True if the name of a certificate, which may begin with `*.`, is that of `host`.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// The access policies of servers and processors, with the files that they name.
fn policies(server: &ServerSpec, names: &Names, state: &ClusterState) -> Result<BTreeMap<String, ByteString>, Invalid> {
    let cluster = match (&server.authentication.service_accounts, &state.cluster_issuer) {
        (None, _) => None,
        (Some(wanted), Some(found)) => Some(ClusterKeys { audiences: &wanted.audiences, issuer: found }),
        (Some(_), None) => {
            return Err(Invalid::Refused(
                Reason::IssuerUnreadable,
                "spec.server.authentication.serviceAccounts is set, but the operator may not read the keys of this cluster's \
                 ServiceAccounts. Have the cluster's administrator run: kubectl create clusterrolebinding service-account-issuer \
                 --clusterrole=system:service-account-issuer-discovery --group=system:serviceaccounts"
                    .into(),
            ));
        }
    };
    let read = |key: &SecretKey| state.secret(&names.namespace, &key.name, &key.key);
    for (index, token) in server.authentication.tokens.iter().enumerate() {
        let digest = read(&token.sha256).unwrap_or_default().trim_ascii();
        if digest.len() != 64 || !digest.iter().all(u8::is_ascii_hexdigit) {
            let SecretKey { name, key } = &token.sha256;
            return Err(Invalid::Refused(
                Reason::SecretMissing,
                format!(
                    "spec.server.authentication.tokens[{index}].sha256 refers to key {key} of {} {}/{name}, which is not a SHA-256. Do not \
                     store the token itself but the 64 hexadecimal digits that this prints: printf %s \"$TOKEN\" | sha256sum",
                    Kind::Secret.name(),
                    names.namespace,
                ),
            ));
        }
    }
    access_policy::render(server, names, read, cluster.as_ref()).map_err(Invalid::Conflicting)
}

/// The ports of the URLs from which servers fetch keys. An invalid URL has been refused before.
fn issuer_ports(server: &ServerSpec) -> BTreeSet<i32> {
    let fetched = server.authentication.issuers.iter().filter(|issuer| issuer.jwks.is_none());
    let urls = fetched.map(|issuer| issuer.jwks_url.as_deref().unwrap_or(&issuer.issuer));
    urls.filter_map(|url| Url::parse(url).ok()?.port_or_known_default()).map(i32::from).collect()
}
