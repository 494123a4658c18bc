//! Who may call, and how connections are encrypted: the settings, and what is assembled from them.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use http::HeaderValue;
use ping_identity::{Authenticator, PolicyWatch};
use ping_rpc::{Access, AccessMetrics, Hosts, Reflection};
use ping_runtime::env;
use ping_transport::Tls;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::task::JoinSet;

use crate::tls::TlsFiles;

/// TLS and access of every port.
#[derive(Clone, Debug, Default, Args)]
pub struct PortSecurityArgs {
    /// PEM file with the program's certificate and the intermediate ones, for TLS on the API and the admin port. Replaced files are
    /// used without a restart
    #[arg(long, env = env::TLS_CERT, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(long, env = env::TLS_KEY, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// YAML file with the access policy: tokens, issuers and rules. Unset: everyone may do everything. A changed file is used
    /// without a restart
    #[arg(long, env = env::ACCESS_POLICY, value_name = "FILE")]
    pub access_policy: Option<PathBuf>,
    /// Without an access policy, listen on other addresses than loopback, and answer requests to any host name: anyone who reaches the
    /// port may do everything
    #[arg(long, env = env::INSECURE, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub insecure: bool,
}

/// TLS and access of a server.
#[derive(Clone, Debug, Default, Args)]
pub struct SecurityArgs {
    /// Settings of both ports.
    #[command(flatten)]
    pub port: PortSecurityArgs,
    /// PEM file with the CAs that sign client certificates; clients may then present one
    #[arg(long, env = env::TLS_CLIENT_CA, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Refuse clients of the API without a certificate; on the admin port, probes have none
    #[arg(long, env = env::TLS_CLIENT_REQUIRED, requires = "tls_client_ca", num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub tls_client_required: bool,
    /// Who may use reflection [default: authenticated with an access policy, otherwise open]
    #[arg(long, env = env::REFLECTION, value_enum)]
    pub reflection: Option<ReflectionArg>,
    /// Origin of a page, other than the server's own, that may call from a browser, e.g. https://page.example; repeatable
    #[arg(long = "cors-origin", env = env::CORS_ORIGINS, value_delimiter = ',', value_name = "ORIGIN", value_parser = parse_origin)]
    pub cors_origins: Vec<HeaderValue>,
}

/// Who may use reflection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReflectionArg {
    /// anyone
    Open,
    /// callers with valid credentials
    Authenticated,
    /// no one
    Off,
}

/// How connections are encrypted, and who may call.
pub struct Security {
    /// Of the API; none for plaintext.
    pub tls: Option<Tls>,
    /// Of the admin port; none for plaintext. Clients need no certificate.
    pub admin_tls: Option<Tls>,
    /// Who may call.
    pub access: Access,
}

impl PortSecurityArgs {
    /// Refuses addresses that others can reach if everyone may do everything.
    ///
    /// # Errors
    /// When one of `addresses`, each with its flag, is not a loopback address, and there is neither an access policy nor `--insecure`.
    pub fn check(&self, addresses: &[(&str, SocketAddr)]) -> anyhow::Result<()> {
        if self.access_policy.is_some() || self.insecure {
            return Ok(());
        }
        let open = addresses.iter().find(|(_, address)| !address.ip().to_canonical().is_loopback());
        if let Some((flag, address)) = open {
            bail!(
                "{flag} {address} can be reached from other machines, and there is no access policy, so anyone could record, read and \
                 recount events. Set --access-policy FILE, listen on 127.0.0.1 with --listen and --admin-listen, or allow it with --insecure"
            );
        }
        Ok(())
    }

    /// Reads the files of a program whose only port is the admin port, and again when they change, as one of `tasks`.
    ///
    /// # Errors
    /// When a file cannot be read or used. The message names it.
    pub async fn start(&self, registry: &mut Registry, tasks: &mut JoinSet<()>) -> anyhow::Result<Security> {
        SecurityArgs { port: self.clone(), ..SecurityArgs::default() }.start(registry, tasks).await
    }

    /// Reads the access policy, if there is one.
    async fn authenticator(
        &self,
        registry: &mut Registry,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Option<Authenticator>> {
        let Some(path) = &self.access_policy else { return Ok(None) };
        let watch = PolicyWatch::open(path.clone()).await.map_err(anyhow::Error::msg);
        let watch = watch.context("--access-policy")?;
        let authenticator = watch.authenticator();
        let failures: Counter = Counter::default();
        let help = "New access policies that could not be used; the old one stays";
        registry.register("ping_rpc_access_policy_reload_failures", help, failures.clone());
        tasks.spawn(watch.run(move || {
            failures.inc();
        }));
        Ok(Some(authenticator))
    }
}

impl SecurityArgs {
    /// Reads the files, and again when they change, as one of `tasks`.
    ///
    /// # Errors
    /// When a file cannot be read or used. The message names it.
    pub async fn start(&self, registry: &mut Registry, tasks: &mut JoinSet<()>) -> anyhow::Result<Security> {
        let port = &self.port;
        let files = port.tls_cert.clone().zip(port.tls_key.clone()).map(|(certificates, key)| TlsFiles {
            certificates,
            key,
            client_ca: self.tls_client_ca.clone(),
            client_required: self.tls_client_required,
        });
        ensure!(files.is_some() || self.tls_client_ca.is_none(), "--tls-client-ca needs --tls-cert and --tls-key");
        let (tls, admin_tls) = match files {
            Some(files) => {
                let (tls, admin_tls) = files.start(registry, tasks).await?;
                (Some(tls), Some(admin_tls))
            }
            None => (None, None),
        };
        if tls.is_none() && port.access_policy.is_some() {
            tracing::warn!("there is no --tls-cert: tokens travel in plaintext unless a proxy encrypts the connection");
        }
        let authenticator = port.authenticator(registry, tasks).await?;
        let reflection = match (self.reflection, &authenticator) {
            (Some(ReflectionArg::Open), _) | (None, None) => Reflection::Open,
            (Some(ReflectionArg::Authenticated), _) | (None, Some(_)) => Reflection::Authenticated,
            (Some(ReflectionArg::Off), _) => Reflection::Off,
        };
        let hosts = if authenticator.is_some() || port.insecure { Hosts::All } else { Hosts::Local };
        let (origins, metrics) = (self.cors_origins.clone(), AccessMetrics::register(registry));
        let access = Access::new(authenticator, reflection, origins, hosts, metrics);
        Ok(Security { tls, admin_tls, access })
    }
}

/// An origin as browsers send it.
fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_origin = rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']));
    match HeaderValue::from_str(text) {
        Ok(value) if is_origin => Ok(value),
        _ => Err("write an origin as browsers send it: scheme and host, without a path, such as https://page.example"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &PortSecurityArgs, address: &str) -> Result<(), String> {
        args.check(&[("--listen", address.parse().unwrap())]).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_that_others_can_reach_needs_an_access_policy_or_an_explicit_setting() {
        let open = PortSecurityArgs::default();
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check(&open, address), Ok(()));
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let error = check(&open, address).unwrap_err();
            assert!(
                error.starts_with("--listen ") && error.contains("--access-policy") && error.contains("--insecure"),
                "{error}"
            );
            let insecure = PortSecurityArgs { insecure: true, ..PortSecurityArgs::default() };
            let policy = PortSecurityArgs { access_policy: Some("x".into()), ..PortSecurityArgs::default() };
            assert!(check(&insecure, address).is_ok() && check(&policy, address).is_ok());
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        assert!(
            ["https://page.example", "http://localhost:3000", "https://[::1]:1"]
                .iter()
                .all(|text| parse_origin(text).is_ok())
        );
        assert!(
            ["*", "page.example", "https://page.example/", "https://*", "https://", "null"]
                .iter()
                .all(|text| parse_origin(text).is_err())
        );
    }
}
