//! Certificates, tokens and kubeconfigs of a control plane. Each control plane gets new ones.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

/// Users with all permissions. They have different names so that the audit log distinguishes them.
const ADMIN: &str = "admin";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
/// The address of the Service `kubernetes`: the first of [`SERVICES`].
const FIRST_SERVICE: &str = "10.96.0.1";
/// The addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
const MASTERS: &str = "system:masters";
const PROXY: &str = "system:kube-proxy";
const KUBE_ROUTER: &str = "kube-router";

/// The paths of the credentials, all in the control plane's folder.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) admin_token: String,
    pub(super) ca: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) service_account_key: PathBuf,
    pub(super) service_account_public_key: PathBuf,
    pub(super) tokens: PathBuf,
    pub(super) admin: PathBuf,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
    /// The certificate with which the API server authenticates to kubelets, and its key.
    pub(super) kubelet_client: (PathBuf, PathBuf),
    folder: PathBuf,
}

/// The credentials with which a node joins.
#[derive(Debug)]
pub(crate) struct NodeCredentials {
    /// The CA of clients that may call the kubelet.
    pub(crate) ca: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) proxy: PathBuf,
    pub(crate) kube_router: PathBuf,
}

impl Credentials {
    /// Writes the credentials of an API server at `address` and of its clients.
    pub(super) fn write(folder: &Path, address: SocketAddrV4, nodes: &[String]) -> anyhow::Result<Self> {
        let credentials = Self {
            admin_token: new_token(),
            ca: folder.join("ca.crt"),
            server_certificate: folder.join("server.crt"),
            server_key: folder.join("server.key"),
            service_account_key: folder.join("service-account.key"),
            service_account_public_key: folder.join("service-account.pub"),
            tokens: folder.join("tokens.csv"),
            admin: folder.join("kubeconfig"),
            controller_manager: folder.join("controller-manager.kubeconfig"),
            scheduler: folder.join("scheduler.kubeconfig"),
            kubelet_client: (folder.join("kubelet-client.crt"), folder.join("kubelet-client.key")),
            folder: folder.to_owned(),
        };
        credentials.write_certificates(address).context("cannot create certificates")?;
        credentials.write_tokens(&format!("https://{address}"), nodes).context("cannot write tokens")?;
        Ok(credentials)
    }

    pub(super) fn node(&self, name: &str) -> NodeCredentials {
        NodeCredentials {
            ca: self.ca.clone(),
            kubelet: self.folder.join(format!("{name}.kubeconfig")),
            proxy: self.folder.join("proxy.kubeconfig"),
            kube_router: self.folder.join("kube-router.kubeconfig"),
        }
    }

    fn write_certificates(&self, address: SocketAddrV4) -> anyhow::Result<()> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "testbed control plane");
        fs::write(&self.ca, ca.self_signed(&ca_key)?.pem())?;

        let ca = Issuer::new(ca, ca_key);

        let server_key = KeyPair::generate()?;
        let names = [&address.ip().to_string(), "localhost", "kubernetes.default.svc", FIRST_SERVICE];
        let mut server = CertificateParams::new(names.map(String::from))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        fs::write(&self.server_certificate, server.signed_by(&server_key, &ca)?.pem())?;
        fs::write(&self.server_key, server_key.serialize_pem())?;

        let client_key = KeyPair::generate()?;
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        client.distinguished_name.push(DnType::OrganizationName, MASTERS);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        fs::write(&self.kubelet_client.0, client.signed_by(&client_key, &ca)?.pem())?;
        fs::write(&self.kubelet_client.1, client_key.serialize_pem())?;

        let service_accounts = KeyPair::generate()?;
        fs::write(&self.service_account_key, service_accounts.serialize_pem())?;
        fs::write(&self.service_account_public_key, service_accounts.public_key_pem())?;
        Ok(())
    }

    fn write_tokens(&self, url: &str, nodes: &[String]) -> anyhow::Result<()> {
        let mut users = vec![
            (ADMIN.to_owned(), MASTERS, self.admin_token.clone(), self.admin.clone()),
            (CONTROLLER_MANAGER.to_owned(), MASTERS, new_token(), self.controller_manager.clone()),
            (SCHEDULER.to_owned(), MASTERS, new_token(), self.scheduler.clone()),
        ];
        for name in nodes {
            let files = self.node(name);
            users.push((format!("system:node:{name}"), "system:nodes", new_token(), files.kubelet));
        }
        if let Some(name) = nodes.first() {
            let files = self.node(name);
            users.push((PROXY.to_owned(), PROXY, new_token(), files.proxy));
            users.push((KUBE_ROUTER.to_owned(), MASTERS, new_token(), files.kube_router));
        }
        let mut lines = String::new();
        for (user, group, token, kubeconfig) in users {
            lines.push_str(&format!("{token},{user},{user},{group}\n"));
            fs::write(kubeconfig, self.kubeconfig(url, &user, &token))?;
        }
        fs::write(&self.tokens, lines)?;
        Ok(())
    }

    /// JSON, which every YAML parser accepts.
    fn kubeconfig(&self, url: &str, user: &str, token: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {"server": url, "certificate-authority": self.ca}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        })
        .to_string()
    }
}

fn new_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
