//! How each process of a control plane is started.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use super::credentials::{Credentials, SERVICES};
use crate::process::{Lifetime, Process, ProcessSpec};

/// Logs requests without their bodies, except the constant requests of the control plane's own processes.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, users: [\"system:apiserver\", \"system:kube-controller-manager\", \"system:kube-scheduler\"]}
  - {level: None, nonResourceURLs: [\"/readyz*\"]}
  - {level: Metadata}
";

/// Creates the processes of one control plane.
pub(super) struct ProcessFactory<'a> {
    pub(super) programs: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) credentials: &'a Credentials,
    pub(super) lifetime: Lifetime,
}

impl ProcessFactory<'_> {
    /// The socket on which etcd listens once it is ready. A socket avoids conflicts over ports.
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
                // Advertised to clients that list the members of the cluster. The API server does not, so the value is unused.
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
                // Without nodes, nothing uses the Service `kubernetes`.
                ("endpoint-reconciler-type", if address.ip().is_loopback() { "none" } else { "lease" }.into()),
                ("client-ca-file", (&self.credentials.ca).into()),
                ("kubelet-client-certificate", (&self.credentials.kubelet_client.0).into()),
                ("kubelet-client-key", (&self.credentials.kubelet_client.1).into()),
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
            // With the default limits it takes five seconds to start instead of one.
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
        Ok(Process::new(ProcessSpec {
            name,
            program: self.programs.join(name),
            args: args.collect(),
            env: Vec::new(),
            user: None,
            folder,
            lifetime: self.lifetime,
            stop_signal: Signal::KILL,
        }))
    }
}
