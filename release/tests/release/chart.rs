//! The chart, and the OLM bundle that is made from it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::parts::{Release, VERSION, objects, output, root, yaml};

/// The helm that testbed/control-plane/install.sh installed.
fn helm() -> PathBuf {
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| std::env::home_dir().unwrap().join(".cache"), PathBuf::from);
    let versions = fs::read_to_string(root().join("testbed/control-plane/versions.env")).unwrap();
    let version = versions.lines().find_map(|line| line.strip_prefix("HELM_VERSION=")).unwrap();
    cache.join(format!("pingpipeline/helm-{version}/helm"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn the_packaged_chart_renders_what_is_committed(release: &Release) {
    let chart = release.path(&format!("ping-operator-{VERSION}.tgz"));
    let mut template = Command::new(helm());
    template.args(["template", "ping-operator", "--namespace", "ping-system", "--no-hooks"]).arg(chart);
    let committed = read(&root().join("charts/plain/install.yaml"));
    assert!(output(&mut template) == committed, "charts/plain/install.yaml differs: run `make generate`");
    assert_eq!(read(&release.path(&format!("ping-operator-{VERSION}.yaml"))), committed);
}

#[test]
fn artifact_hub_shows_the_images_and_crds_of_the_chart() {
    let chart = yaml(&read(&root().join("charts/ping-operator/Chart.yaml")));
    let annotation = |name: &str| yaml(chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap());
    assert_eq!(annotation("license"), "Apache-2.0");
    let plain = objects(&read(&root().join("charts/plain/install.yaml")));
    let used = plain.iter().find(|object| object["kind"] == "Deployment").unwrap().to_string();
    for image in annotation("images").as_array().unwrap() {
        let image = image["image"].as_str().unwrap();
        assert!(image.ends_with(&format!(":{VERSION}")) && used.contains(image), "the chart does not use {image}");
    }
    let named = |list: &[Value], pointer: &str| {
        list.iter()
            .map(|crd| crd.pointer(pointer).unwrap().clone())
            .map(|name| name.to_string())
            .collect::<BTreeSet<_>>()
    };
    let crds: Vec<_> = plain.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(named(annotation("crds").as_array().unwrap(), "/name"), named(&crds, "/metadata/name"));
    assert_eq!(named(annotation("crds").as_array().unwrap(), "/kind"), named(&crds, "/spec/names/kind"));
    let demo = objects(&read(&root().join("examples/demo.yaml")));
    assert_eq!(annotation("crdsExamples"), Value::from(demo));
}

pub(crate) fn the_bundle_has_the_permissions_of_the_chart(release: &Release) {
    let folder = release.unpacked(&format!("ping-operator-bundle-{VERSION}.tar.gz"));
    let bundle = folder.path().join(format!("ping-operator-bundle-{VERSION}"));
    let annotations = yaml(&read(&bundle.join("metadata/annotations.yaml")));
    let dockerfile = read(&bundle.join("bundle.Dockerfile"));
    for (label, value) in annotations["annotations"].as_object().unwrap() {
        assert!(dockerfile.contains(&format!("LABEL {label}={}\n", value.as_str().unwrap())), "no label {label}");
    }

    let plain = objects(&read(&root().join("charts/plain/install.yaml")));
    let csv = yaml(&read(&bundle.join("manifests/ping-operator.clusterserviceversion.yaml")));
    let strategy = &csv["spec"]["install"]["spec"];
    let roles = plain.iter().filter(|object| object["kind"] == "Role");
    let rules: Vec<_> = roles.flat_map(|role| role["rules"].as_array().unwrap().clone()).collect();
    assert_eq!(strategy["permissions"][0]["rules"], Value::from(rules));
    assert!(strategy["clusterPermissions"].is_null());
    let deployment = plain.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = |spec: &Value| spec["template"]["spec"]["containers"][0].clone();
    let (given, bundled) = (pod(&deployment["spec"]), pod(&strategy["deployments"][0]["spec"]));
    for field in ["resources", "securityContext", "livenessProbe", "readinessProbe", "ports"] {
        assert_eq!(given[field], bundled[field]);
    }
    // The names that the image archives have.
    for container in [&given, &bundled] {
        assert_eq!(container["image"], format!("pingpipeline/ping-operator:{VERSION}"));
        let pingd = Value::from(format!("--image=pingpipeline/pingd:{VERSION}"));
        assert!(container["args"].as_array().unwrap().contains(&pingd), "{container}");
    }
    // OLM chooses the namespaces.
    let rendered = bundled["args"].to_string();
    assert!(
        rendered.contains("--namespace=$(TARGET_NAMESPACE)") && !rendered.contains("namespace-of-olm"),
        "{rendered}"
    );
    let variables = bundled["env"].as_array().unwrap();
    for variable in ["TARGET_NAMESPACE", "POD_NAMESPACE"] {
        assert!(variables.iter().any(|given| given["name"] == variable), "{variable} is not set");
    }

    for owned in csv["spec"]["customresourcedefinitions"]["owned"].as_array().unwrap() {
        let name = owned["name"].as_str().unwrap();
        let crd = yaml(&read(&bundle.join(format!("manifests/{name}.yaml"))));
        let given = plain.iter().find(|object| object["metadata"]["name"] == name).unwrap();
        assert!(crd["spec"] == given["spec"], "the bundle's {name} differs from the chart's");
    }
}
