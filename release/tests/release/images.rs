//! Archives for container runtimes and registries.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::parts::{ARCHITECTURE, PLATFORM, Release, VERSION, json, output, sha256};

/// The file of a descriptor, after a comparison of its size and digest.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let file = layout.join("blobs/sha256").join(digest);
    assert_eq!(file.metadata().unwrap().len(), descriptor["size"].as_u64().unwrap());
    assert_eq!(sha256(&file), digest);
    file
}

/// The descriptor of the only manifest, and the manifest.
fn manifest(layout: &Path) -> (Value, Value) {
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let mut index = json(&layout.join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let descriptor = index["manifests"][0].take();
    let manifest = json(&blob(layout, &descriptor));
    (descriptor, manifest)
}

pub(crate) fn image_archives_are_layouts_with_the_programs(release: &Release) {
    for (image, programs) in [("pingd", vec!["pingd", "pingctl"]), ("ping-operator", vec!["ping-operator"])] {
        let folder = release.unpacked(&format!("{image}-{VERSION}-linux-{ARCHITECTURE}.oci.tar"));
        let layout = folder.path();
        let (descriptor, manifest) = manifest(layout);
        assert_eq!(descriptor["platform"]["architecture"], PLATFORM);
        let name = format!("docker.io/pingpipeline/{image}:{VERSION}");
        assert_eq!(descriptor["annotations"]["io.containerd.image.name"], name);
        let config = json(&blob(layout, &manifest["config"]));
        assert_eq!(config["architecture"], PLATFORM);
        assert_eq!(config["config"]["Entrypoint"][0], image);
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = blob(layout, &manifest["layers"][0]);
        let listed = output(release.command("tar").arg("-tzf").arg(&layer));
        for program in programs {
            assert!(listed.lines().any(|file| file == format!("./usr/local/bin/{program}")), "{image} lacks {program}");
        }
        // What `docker load` reads.
        let docker = &json(&layout.join("manifest.json"))[0];
        assert_eq!(docker["RepoTags"][0], format!("pingpipeline/{image}:{VERSION}"));
        assert_eq!(layout.join(docker["Layers"][0].as_str().unwrap()), layer);
    }
}

pub(crate) fn the_chart_is_an_oci_artifact(release: &Release) {
    let folder = release.unpacked(&format!("ping-operator-chart-{VERSION}.oci.tar"));
    let (_, manifest) = manifest(folder.path());
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.cncf.helm.config.v1+json");
    let config = json(&blob(folder.path(), &manifest["config"]));
    assert_eq!((&config["name"], &config["version"]), (&"ping-operator".into(), &VERSION.into()));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let chart = sha256(&blob(folder.path(), &manifest["layers"][0]));
    assert_eq!(chart, release.sha256(&format!("ping-operator-{VERSION}.tgz")));
}
