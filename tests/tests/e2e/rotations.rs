//! Certificates and passwords of programs, and credentials of callers, are replaced under load. Callers that repeat a call once see no error.

use std::collections::BTreeSet;

use crate::{
    at,
    callers::{self, TIMEOUT},
    faults::{is_selected, rotate},
    load::Load,
    report::Report,
    test_cluster::{NAMESPACE, TestCluster},
};

/// A password: its Secret, which is made again when it is deleted, and the programs that read it when they start.
struct Password {
    rotation: &'static str,
    secret: &'static str,
    programs: &'static [&'static str],
}

const PASSWORDS: [Password; 3] = [
    Password {
        rotation: "Kafka's password of the servers rotated",
        secret: "demo-kafka-server",
        programs: &["server"],
    },
    Password {
        rotation: "Postgres' password rotated",
        secret: "demo-postgres-app",
        programs: &["server", "processor"],
    },
    Password {
        rotation: "the cache's passwords rotated",
        secret: "demo-cache-login",
        programs: &["server", "processor"],
    },
];

/// A certificate: its Secrets, which are made again when they are deleted, and the pods and ports that serve it.
struct Certificate {
    rotation: &'static str,
    secrets: &'static [&'static str],
    ports: &'static [(&'static str, u16)],
}

const POSTGRES_PORT: u16 = 5432;

const CERTIFICATES: [Certificate; 3] = [
    Certificate {
        rotation: "the ports' certificates rotated",
        secrets: &["demo-server-tls", "demo-processor-tls"],
        ports: &[("app.kubernetes.io/component=server", 8080), ("app.kubernetes.io/component=processor", 8081)],
    },
    Certificate {
        rotation: "Postgres' certificate rotated",
        secrets: &["demo-postgres-server"],
        ports: &[("cnpg.io/cluster=demo-postgres,cnpg.io/podRole=instance", POSTGRES_PORT)],
    },
    Certificate {
        rotation: "the cache's certificate rotated",
        secrets: &["demo-cache-tls"],
        ports: &[("app=demo-cache", 6379)],
    },
];

pub(crate) async fn all(cluster: &TestCluster, report: &mut Report) {
    for certificate in CERTIFICATES.into_iter().filter(|certificate| is_selected(certificate.rotation)) {
        certificate.rotate(cluster, report).await;
    }
    if is_selected("a caller's token rotated") {
        callers::token(cluster, report).await;
    }
    if is_selected("an issuer's key rotated") {
        callers::issuer_key(cluster, report).await;
    }
    if is_selected("the CA of callers rotated") {
        callers::client_ca(cluster, report).await;
    }
    for password in PASSWORDS.into_iter().filter(|password| is_selected(password.rotation)) {
        password.rotate(cluster, report).await;
    }
}

impl Password {
    /// Has it made again. A caller with one retry sees no error, although every pod of the programs is replaced.
    async fn rotate(self, cluster: &TestCluster, report: &mut Report) {
        assert!(cluster.is_true("Encrypted").await, "components are connected in plaintext");
        let data = async || at(&cluster.json(&["get", "secret", self.secret]).await, "/data").clone();
        let (old_data, old_pods) = (data().await, self.pods(cluster).await);
        let load = Load::start_with_one_retry(cluster, &cluster.connection().await).await;
        rotate(cluster, self.secret).await;
        assert_ne!(data().await, old_data, "the password of {} is the same", self.secret);
        let replaced = async || self.pods(cluster).await.is_disjoint(&old_pods);
        cluster.wait_until("pods with the new password", TIMEOUT, replaced).await;
        report.add(self.rotation, load.finish(cluster).await);
    }

    /// The pods of the programs, by their UIDs.
    async fn pods(&self, cluster: &TestCluster) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for program in self.programs {
            let pods = cluster.pods(NAMESPACE, &format!("app.kubernetes.io/component={program}")).await;
            assert!(!pods.is_empty(), "no {program} runs");
            found.extend(pods.iter().map(|pod| at(pod, "/metadata/uid").as_str().unwrap_or_default().to_owned()));
        }
        found
    }
}

impl Certificate {
    /// Has it issued again, and waits until it is served on every port.
    async fn rotate(self, cluster: &TestCluster, report: &mut Report) {
        let before = self.served(cluster).await.expect("a certificate on every port");
        let load = Load::start_with_one_retry(cluster, &cluster.connection().await).await;
        for secret in self.secrets {
            rotate(cluster, secret).await;
        }
        let replaced = async || self.served(cluster).await.is_some_and(|served| served.is_disjoint(&before));
        cluster.wait_until("other certificates on every port", TIMEOUT, replaced).await;
        report.add(self.rotation, load.finish(cluster).await);
    }

    /// The certificates, in PEM form, on the ports of all pods; none if a port serves none, because its pod starts or ends.
    async fn served(&self, cluster: &TestCluster) -> Option<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for (selector, port) in self.ports {
            let pods = cluster.pods(NAMESPACE, selector).await;
            assert!(!pods.is_empty(), "no pod has the labels {selector}");
            for pod in pods {
                let node = cluster.node_of(&pod)?;
                let address = format!("{}:{port}", at(&pod, "/status/podIP").as_str().unwrap_or_default());
                let mut command = vec!["5", "openssl", "s_client", "-connect", &address];
                if *port == POSTGRES_PORT {
                    command.extend(["-starttls", "postgres"]);
                }
                let output = cluster.try_run_from(node, "timeout", &command).await;
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                let (_, rest) = printed.split_once("-----BEGIN")?;
                found.insert(rest.split_once("-----END")?.0.to_owned());
            }
        }
        Some(found)
    }
}
