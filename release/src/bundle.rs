//! The OLM bundle, from the rendered chart: the CRDs, a ClusterServiceVersion, and the metadata by which OLM finds them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::csv;

/// Arguments of `release bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// Namespace with which the chart was rendered.
    #[arg(long)]
    namespace: String,
    /// Chart.yaml, for version, description and keywords.
    #[arg(long)]
    chart: PathBuf,
    /// Manifest of a PingPipeline that the catalogue shows as an example.
    #[arg(long)]
    example: PathBuf,
    /// Icon of the operator, as SVG.
    #[arg(long)]
    icon: PathBuf,
    /// Time of the release, in RFC 3339.
    #[arg(long)]
    created: String,
    /// Folder to write the bundle into.
    folder: PathBuf,
}

const PACKAGE: &str = "ping-operator";
const CHANNEL: &str = "alpha";

/// Writes `manifests`, `metadata` and a Dockerfile.
///
/// # Errors
/// If the chart lacks what a bundle needs, or a file cannot be read or written.
pub(crate) fn write(args: &BundleArgs, rendered: &str) -> anyhow::Result<()> {
    let objects = documents(rendered)?;
    let chart: Value = yaml_serde::from_str(&crate::read(&args.chart)?)?;
    let example: Value = yaml_serde::from_str(&crate::read(&args.example)?)?;
    let mut csv = csv::service_version(&objects, &args.namespace, &chart, &example)?;
    csv["metadata"]["annotations"]["createdAt"] = args.created.as_str().into();
    let icon = BASE64_STANDARD.encode(crate::read(&args.icon)?);
    csv["spec"]["icon"] = json!([{"mediatype": "image/svg+xml", "base64data": icon}]);
    let manifests = args.folder.join("manifests");
    file(&manifests.join(format!("{PACKAGE}.clusterserviceversion.yaml")), &csv)?;
    for object in objects.iter().filter(|object| is_bundled(object)) {
        let name = object["metadata"]["name"].as_str().context("an object of the chart has no name")?;
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let name = if kind == "customresourcedefinition" { name.to_owned() } else { format!("{name}.{kind}") };
        file(&manifests.join(format!("{name}.yaml")), &bundled(object))?;
    }
    let labels = labels();
    file(&args.folder.join("metadata/annotations.yaml"), &json!({"annotations": labels}))?;
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (label, value) in labels.as_object().into_iter().flatten() {
        dockerfile.push_str(&format!("LABEL {label}={}\n", value.as_str().unwrap_or_default()));
    }
    dockerfile.push_str("COPY manifests /manifests/\nCOPY metadata /metadata/\n");
    fs::write(args.folder.join("bundle.Dockerfile"), dockerfile)?;
    Ok(())
}

/// The objects of a stream of YAML documents.
fn documents(rendered: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in yaml_serde::Deserializer::from_str(rendered) {
        let object = Value::deserialize(document).context("the rendered chart is not YAML")?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    ensure!(!objects.is_empty(), "the rendered chart is empty");
    Ok(objects)
}

/// What OLM installs besides the ClusterServiceVersion, which contains the Deployment, its account and permissions.
fn is_bundled(object: &Value) -> bool {
    matches!(object["kind"].as_str(), Some("CustomResourceDefinition" | "PodDisruptionBudget"))
}

/// The object without what is Helm's, and without the namespace, which OLM sets.
fn bundled(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
        metadata.remove("annotations");
    }
    csv::remove_labels_of_helm(&mut object["metadata"]);
    object
}

/// Where OLM finds the parts of the bundle. They are annotations in a file, and labels of the image.
fn labels() -> Value {
    let prefix = "operators.operatorframework.io.bundle";
    json!({
        format!("{prefix}.mediatype.v1"): "registry+v1",
        format!("{prefix}.manifests.v1"): "manifests/",
        format!("{prefix}.metadata.v1"): "metadata/",
        format!("{prefix}.package.v1"): PACKAGE,
        format!("{prefix}.channels.v1"): CHANNEL,
        format!("{prefix}.channel.default.v1"): CHANNEL,
    })
}

fn file(path: &Path, document: &Value) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, yaml_serde::to_string(document)?).with_context(|| format!("cannot write {}", path.display()))
}
