//! What the parts of one control plane know each other by: certificates, tokens, kubeconfigs. All made anew each time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

/// Every token's user may do everything. They differ so that the audit log tells them apart.
const ADMIN: &str = "admin";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// The files that hold them, all in the control plane's own folder.
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
}

impl Credentials {
    /// Writes everything that an API server at `url`, and who calls it, needs.
    pub(super) fn write(folder: &Path, url: &str) -> anyhow::Result<Self> {
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
        };
        credentials.write_certificates().context("cannot make certificates")?;
        credentials.write_tokens(url).context("cannot write tokens")?;
        Ok(credentials)
    }

    fn write_certificates(&self) -> anyhow::Result<()> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "testbed control plane");
        fs::write(&self.ca, ca.self_signed(&ca_key)?.pem())?;

        let server_key = KeyPair::generate()?;
        let mut server =
            CertificateParams::new(["127.0.0.1", "localhost", "kubernetes.default.svc"].map(String::from))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
        fs::write(&self.server_certificate, certificate.pem())?;
        fs::write(&self.server_key, server_key.serialize_pem())?;

        let service_accounts = KeyPair::generate()?;
        fs::write(&self.service_account_key, service_accounts.serialize_pem())?;
        fs::write(&self.service_account_public_key, service_accounts.public_key_pem())?;
        Ok(())
    }

    fn write_tokens(&self, url: &str) -> anyhow::Result<()> {
        let mut lines = String::new();
        for (user, token, kubeconfig) in [
            (ADMIN, self.admin_token.clone(), &self.admin),
            (CONTROLLER_MANAGER, new_token(), &self.controller_manager),
            (SCHEDULER, new_token(), &self.scheduler),
        ] {
            lines.push_str(&format!("{token},{user},{user},system:masters\n"));
            fs::write(kubeconfig, self.kubeconfig(url, user, &token))?;
        }
        fs::write(&self.tokens, lines)?;
        Ok(())
    }

    /// JSON is YAML: whoever reads a kubeconfig takes it.
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
