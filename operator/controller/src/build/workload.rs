//! Service account, disruption budget and Deployment of servers or processors. The pods comply with the restricted security
//! standard.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler,
            LocalObjectReference, PodSpec as KubernetesPodSpec, PodTemplateSpec, Probe, SecretVolumeSource,
            SecurityContext, ServiceAccount, SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use ping_api::{
    crd::workload::{PodSpec, Resources},
    kinds::Kind,
    names::SECRETS_ANNOTATION,
};

use super::{
    env::{
        CACHE_CA_FOLDER, CACHE_CERTIFICATE_FOLDER, CERTIFICATE_FOLDER, KAFKA_CA_FOLDER, KAFKA_CERTIFICATE_FOLDER,
        POSTGRES_CA_FOLDER, POSTGRES_CERTIFICATE_FOLDER,
    },
    metadata::{metadata, resources, restricted, selector},
};
use crate::{
    access_policy::FOLDER,
    desired::Desired,
    pipeline::{Connection, Credentials, Pipeline, PortCertificate, Tls},
};

/// Seconds between removal from the Service and SIGTERM, so that load balancers notice the removal.
const PRE_STOP_SECONDS: i64 = 3;
/// User ID of the image.
const USER: i64 = 65_532;

/// A Deployment of servers or of processors.
pub(super) struct Workload<'a> {
    /// Component label, and suffix of object names.
    pub(super) component: &'static str,
    /// The subcommand of `pingd`: `server` or `processor`.
    pub(super) program: &'static str,
    /// Pod settings from the spec.
    pub(super) pod: &'a PodSpec,
    pub(super) resources: &'a Resources,
    /// Number of pods; `None` leaves it to an autoscaler.
    pub(super) replicas: Option<i32>,
    /// Fingerprint of the Secrets that the pods read.
    pub(super) checksum: &'a str,
    /// How to connect to Kafka.
    pub(super) connection: &'a Connection,
    /// Credentials for Kafka.
    pub(super) credentials: &'a Credentials,
    /// Environment variables; those from the spec come last.
    pub(super) env: Vec<EnvVar>,
    /// Certificate of the ports; `None` means plaintext.
    pub(super) certificate: Option<&'a PortCertificate>,
    /// Ports by name.
    pub(super) ports: &'static [(&'static str, i32)],
    /// Whether a new pod must be ready before an old one is stopped.
    pub(super) surge: bool,
}

/// Adds the service account, disruption budget and Deployment.
pub(super) fn build(pipeline: &Pipeline, workload: Workload<'_>, desired: &mut Desired) {
    let name = pipeline.names.part(workload.component);
    let namespace = pipeline.names.namespace.clone();
    let metadata = metadata(pipeline, &name, workload.component);
    let account = ServiceAccount {
        metadata: metadata.clone(),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    desired.push(Kind::ServiceAccount, &namespace, &name, account);
    desired.push(Kind::PodDisruptionBudget, &namespace, &name, budget(pipeline, workload.component, metadata.clone()));
    desired.push(Kind::Deployment, &namespace, &name, deployment(pipeline, &workload, metadata));
}

fn budget(pipeline: &Pipeline, role: &str, metadata: ObjectMeta) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(pipeline.names.selector(role))),
            // Otherwise a pod that is not ready blocks the drain of its node, although it serves no one.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

fn deployment(pipeline: &Pipeline, workload: &Workload<'_>, metadata: ObjectMeta) -> Deployment {
    let (surge, unavailable) = if workload.surge { (1, 0) } else { (0, 1) };
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: metadata.labels.clone(),
            annotations: Some([(SECRETS_ANNOTATION.to_owned(), workload.checksum.to_owned())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(pipeline, workload)),
    };
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: workload.replicas,
            revision_history_limit: Some(3),
            selector: selector(pipeline.names.selector(workload.component)),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(pipeline: &Pipeline, workload: &Workload<'_>) -> KubernetesPodSpec {
    let spec = workload.pod;
    let (volumes, mounts) = files(pipeline, workload);
    KubernetesPodSpec {
        service_account_name: Some(pipeline.names.part(workload.component)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(PRE_STOP_SECONDS + i64::from(spec.drain_seconds) + 5),
        security_context: Some(restricted(USER)),
        containers: vec![container(workload, mounts)],
        image_pull_secrets: list(
            spec.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }),
        ),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: list(spec.tolerations.iter().cloned()),
        affinity: spec.affinity.clone(),
        priority_class_name: spec.priority_class_name.clone(),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|key| TopologySpreadConstraint {
                    max_skew: 1,
                    topology_key: key.into(),
                    when_unsatisfiable: "ScheduleAnyway".into(),
                    label_selector: Some(selector(pipeline.names.selector(workload.component))),
                    ..TopologySpreadConstraint::default()
                })
                .into(),
        ),
        volumes: list(volumes),
        ..KubernetesPodSpec::default()
    }
}

fn container(workload: &Workload<'_>, mounts: Vec<VolumeMount>) -> Container {
    let port = |(name, number): &(&str, i32)| ContainerPort {
        name: Some((*name).into()),
        container_port: *number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let scheme = if workload.certificate.is_some() { "HTTPS" } else { "HTTP" };
    let sleep =
        LifecycleHandler { sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }), ..LifecycleHandler::default() };
    Container {
        name: workload.program.into(),
        image: workload.pod.image.clone(),
        command: Some(vec!["pingd".into()]),
        args: Some(vec![workload.program.into()]),
        env: Some(workload.env.clone()),
        ports: Some(workload.ports.iter().map(port).collect()),
        resources: Some(resources(workload.resources)),
        startup_probe: Some(probe("/healthz", scheme, 2, 60)),
        liveness_probe: Some(probe("/healthz", scheme, 10, 6)),
        readiness_probe: Some(probe("/readyz", scheme, 2, 3)),
        lifecycle: Some(Lifecycle { pre_stop: Some(sleep), ..Lifecycle::default() }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: list(mounts),
        ..Container::default()
    }
}

fn probe(path: &str, scheme: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            scheme: Some(scheme.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Volumes with CAs and client certificates. The kubelet updates their files when the Secrets change. Only the keys that are needed
/// are mounted: some of these Secrets hold private keys of CAs, too. The Secret with the access policy is mounted as a whole.
fn files(pipeline: &Pipeline, workload: &Workload<'_>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut wanted = Vec::new();
    let pair = || ["tls.crt", "tls.key"].map(|key| (key.to_owned(), key)).into();
    wanted.extend(workload.certificate.map(|port| ("tls", port.secret.clone(), CERTIFICATE_FOLDER, pair())));
    wanted.extend(pipeline.security.files.iter().map(|secret| ("access", secret.name.clone(), FOLDER, Vec::new())));
    if let Some(ca) = &workload.connection.ca {
        wanted.push(("kafka-ca", ca.name.clone(), KAFKA_CA_FOLDER, vec![(ca.key.clone(), "ca.crt")]));
    }
    if let Credentials::Certificate(secret) = workload.credentials {
        let keys = vec![("user.crt".to_owned(), "user.crt"), ("user.key".to_owned(), "user.key")];
        wanted.push(("kafka-certificate", secret.clone(), KAFKA_CERTIFICATE_FOLDER, keys));
    }
    let others = [
        (
            pipeline.postgres_tls(),
            ["postgres-ca", "postgres-certificate"],
            [POSTGRES_CA_FOLDER, POSTGRES_CERTIFICATE_FOLDER],
        ),
        (pipeline.cache_tls(), ["cache-ca", "cache-certificate"], [CACHE_CA_FOLDER, CACHE_CERTIFICATE_FOLDER]),
    ];
    for (tls, [ca_name, certificate_name], [ca_folder, certificate_folder]) in others {
        let Tls { ca, client_certificate } = tls.unwrap_or_default();
        wanted.extend(ca.map(|ca| (ca_name, ca.name, ca_folder, vec![(ca.key, "ca.crt")])));
        wanted.extend(client_certificate.map(|secret| (certificate_name, secret, certificate_folder, pair())));
    }
    wanted.into_iter().map(|(name, secret, folder, keys)| file(name, secret, folder, keys)).unzip()
}

/// `keys` are those to mount, with their file names; all if it is empty.
fn file(name: &str, secret: String, folder: &str, keys: Vec<(String, &str)>) -> (Volume, VolumeMount) {
    let items = list(keys.into_iter().map(|(key, path)| KeyToPath { key, path: path.into(), mode: None }));
    let volume = Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            items,
            optional: None,
        }),
        ..Volume::default()
    };
    let mount =
        VolumeMount { name: name.into(), mount_path: folder.into(), read_only: Some(true), ..VolumeMount::default() };
    (volume, mount)
}

fn list<T>(items: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}
