//! Bills of materials, provenance and the krew manifest.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::parts::{ARCHITECTURE, PLATFORM, Release, VERSION, yaml};

fn names(bill: &Value) -> BTreeSet<&str> {
    bill["components"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect()
}

pub(crate) fn bills_of_materials_list_what_is_linked(release: &Release) {
    let bill = |what: &str, kind: &str| release.json(&format!("{what}-{VERSION}-linux-{ARCHITECTURE}.{kind}.cdx.json"));
    let image = bill("pingd", "container");
    assert_eq!(image["metadata"]["component"]["type"], "container");
    let parts = names(&image);
    for part in ["rdkafka", "sqlx-postgres", "comfy-table", "tokio", "libc6", "libssl3", "ca-certificates"] {
        assert!(parts.contains(part), "the image's bill lacks {part}");
    }
    for part in ["proptest", "tempfile", "prost-build", "kube"] {
        assert!(!parts.contains(part), "{part} is not linked into the image");
    }
    let program = bill("pingd-dev", "application");
    let parts = names(&program);
    assert!(parts.contains("sqlx-sqlite") && !parts.contains("rdkafka") && !parts.contains("libc6"));
    assert!(names(&bill("ping-operator", "container")).contains("kube"));

    // Every reference leads to a component.
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut known: BTreeSet<_> =
        image["components"].as_array().unwrap().iter().map(|part| text(&part["bom-ref"])).collect();
    known.insert(text(&image["metadata"]["component"]["bom-ref"]));
    for dependency in image["dependencies"].as_array().unwrap() {
        let references = dependency["dependsOn"].as_array().unwrap().iter().chain([&dependency["ref"]]);
        for reference in references.map(text) {
            assert!(known.contains(&reference), "{reference} is no component");
        }
    }
}

pub(crate) fn the_provenance_names_every_file(release: &Release) {
    let own = format!("pingpipeline-{VERSION}.provenance.json");
    let statement = release.json(&own);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    let named = subjects.iter().map(|subject| {
        let name = subject["name"].as_str().unwrap();
        format!("{}  {name}", subject["digest"]["sha256"].as_str().unwrap())
    });
    let sums = fs::read_to_string(release.path("SHA256SUMS")).unwrap();
    let others = sums.lines().filter(|line| !line.ends_with(&own));
    assert_eq!(named.collect::<BTreeSet<_>>(), others.map(str::to_owned).collect());
    let built = &statement["predicate"]["buildDefinition"];
    assert_eq!(built["externalParameters"]["architectures"][0], ARCHITECTURE);
    assert_eq!(built["resolvedDependencies"][0]["digest"]["gitCommit"].as_str().unwrap().len(), 40);
}

pub(crate) fn the_krew_manifest_names_the_archive(release: &Release) {
    let manifest = yaml(&fs::read_to_string(release.path("pingpipeline.krew.yaml")).unwrap());
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 1);
    assert_eq!(platforms[0]["selector"]["matchLabels"]["arch"], PLATFORM);
    let archive = platforms[0]["uri"].as_str().unwrap().strip_prefix("https://example.test/releases/").unwrap();
    assert_eq!(platforms[0]["sha256"], release.sha256(archive));
    let folder = release.unpacked(archive);
    for file in platforms[0]["files"].as_array().unwrap() {
        assert!(folder.path().join(file["from"].as_str().unwrap()).exists(), "{archive} lacks {file}");
    }
}
