//! The programs of a control plane and how each is started.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use super::credentials::{Credentials, SERVICES};
use crate::process::{Lifetime, Process, Recipe};

/// Who asked what, without bodies; but not what the control plane's own programs ask all the time.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, users: [\"system:apiserver\", \"system:kube-controller-manager\", \"system:kube-scheduler\"]}
  - {level: None, nonResourceURLs: [\"/readyz*\"]}
  - {level: Metadata}
";

/// What all programs of one control plane have in common.
pub(super) struct Recipes<'a> {
    pub(super) programs: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) credentials: &'a Credentials,
    pub(super) lifetime: Lifetime,
}

impl Recipes<'_> {
    /// The file that etcd listens on once it serves. There is no port for another process to take.
    pub(super) fn etcd_socket(&self) -> PathBuf {
        self.folder.join("etcd/client.socket")
    }

    pub(super) fn etcd(&self) -> anyhow::Result<Process> {
        self.process(
            "etcd",
            &[
                ("data-dir", "data".into()),
                ("unsafe-no-fsync", "true".into()),
                ("listen-client-urls", "unix://client.socket".into()),
                ("listen-peer-urls", "unix://peer.socket".into()),
                // Told to clients that ask for the members of the cluster. The only client does not.
                ("advertise-client-urls", "http://127.0.0.1:1".into()),
            ],
        )
    }

    pub(super) fn apiserver(&self, address: SocketAddrV4, audit_log: &Path) -> anyhow::Result<Process> {
        let policy = self.folder.join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY)?;
        self.process(
            "kube-apiserver",
            &[
                ("etcd-servers", "unix://../etcd/client.socket".into()),
                ("bind-address", address.ip().to_string().into()),
                ("advertise-address", address.ip().to_string().into()),
                ("secure-port", address.port().to_string().into()),
                ("tls-cert-file", (&self.credentials.server_certificate).into()),
                ("tls-private-key-file", (&self.credentials.server_key).into()),
                ("token-auth-file", (&self.credentials.tokens).into()),
                ("authorization-mode", "Node,RBAC".into()),
                ("service-account-issuer", "https://kubernetes.default.svc".into()),
                ("service-account-key-file", (&self.credentials.service_account_public_key).into()),
                ("service-account-signing-key-file", (&self.credentials.service_account_key).into()),
                ("service-cluster-ip-range", SERVICES.into()),
                // Without a node there is nobody whom the Service `kubernetes` could lead here.
                ("endpoint-reconciler-type", if address.ip().is_loopback() { "none" } else { "lease" }.into()),
                ("client-ca-file", (&self.credentials.ca).into()),
                ("kubelet-client-certificate", (&self.credentials.to_nodes.0).into()),
                ("kubelet-client-key", (&self.credentials.to_nodes.1).into()),
                ("kubelet-preferred-address-types", "InternalIP".into()),
                ("audit-policy-file", policy.into()),
                ("audit-log-path", audit_log.into()),
            ],
        )
    }

    pub(super) fn controller_manager(&self) -> anyhow::Result<Process> {
        let credentials = self.credentials;
        self.controller(
            "kube-controller-manager",
            &credentials.controller_manager,
            &[
                ("root-ca-file", (&credentials.ca).into()),
                ("service-account-private-key-file", (&credentials.service_account_key).into()),
            ],
        )
    }

    pub(super) fn scheduler(&self) -> anyhow::Result<Process> {
        self.controller("kube-scheduler", &self.credentials.scheduler, &[])
    }

    fn controller(&self, name: &'static str, kubeconfig: &Path, more: &[(&str, OsString)]) -> anyhow::Result<Process> {
        let mut flags = vec![
            ("kubeconfig", kubeconfig.into()),
            ("leader-elect", "false".into()),
            ("secure-port", "0".into()),
            // The usual limits make its start take five seconds instead of one.
            ("kube-api-qps", "500".into()),
            ("kube-api-burst", "1000".into()),
        ];
        flags.extend_from_slice(more);
        self.process(name, &flags)
    }

    fn process(&self, name: &'static str, flags: &[(&str, OsString)]) -> anyhow::Result<Process> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        let args = flags.iter().map(|(flag, value)| {
            let mut arg = OsString::from(format!("--{flag}="));
            arg.push(value);
            arg
        });
        Ok(Process::new(Recipe {
            name,
            program: self.programs.join(name),
            args: args.collect(),
            user: None,
            folder,
            lifetime: self.lifetime,
            farewell: Signal::KILL,
        }))
    }
}
