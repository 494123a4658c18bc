//! Bills of materials in CycloneDX: the crates that are linked into programs, and the Debian packages whose files an image contains.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

/// Arguments of `release sbom`.
#[derive(Debug, Args)]
pub(crate) struct SbomArgs {
    /// Name of what the bill describes: a program or an image.
    #[arg(long)]
    name: String,
    /// Version of the release.
    #[arg(long)]
    version: String,
    /// Kind of what the bill describes: application or container.
    #[arg(long, default_value = "application", value_parser = ["application", "container"])]
    kind: String,
    /// Package of the workspace whose program it contains; can be repeated.
    #[arg(long, required = true)]
    package: Vec<String>,
    /// Debian package whose files it contains, as NAME=VERSION; can be repeated.
    #[arg(long)]
    debian: Vec<String>,
}

/// The bill, from the output of `cargo metadata`. Only dependencies that are linked count: neither those of tests nor of builds.
///
/// # Errors
/// If a package is not in the metadata.
pub(crate) fn bill(args: &SbomArgs, metadata: &Value) -> anyhow::Result<Value> {
    let packages = by_id(&metadata["packages"])?;
    let nodes = by_id(&metadata["resolve"]["nodes"])?;
    let members: BTreeSet<_> = strings(&metadata["workspace_members"]).collect();
    let mut pending = Vec::new();
    for name in &args.package {
        let is_named = |id: &&str| packages.get(id).is_some_and(|package| package["name"] == *name);
        pending.push(members.iter().copied().find(is_named).with_context(|| format!("no package {name}"))?);
    }
    let own = format!("{}@{}", args.name, args.version);
    let roots = pending.clone();
    let mut linked = BTreeSet::new();
    let mut dependencies = Vec::new();
    while let Some(id) = pending.pop() {
        if linked.insert(id) {
            let links = links(nodes.get(id).with_context(|| format!("{id} is not resolved"))?);
            let reference = |id: &&str| packages.get(id).map(|package| purl(package));
            dependencies.push(json!({
                "ref": purl(packages[id]), "dependsOn": links.iter().filter_map(reference).collect::<BTreeSet<_>>(),
            }));
            pending.extend(links);
        }
    }
    let mut components: Vec<_> = linked.iter().map(|id| component(packages[id])).collect();
    for entry in &args.debian {
        let (name, version) = entry.split_once('=').with_context(|| format!("{entry} is not NAME=VERSION"))?;
        let purl = format!("pkg:deb/debian/{name}@{version}");
        components.push(json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}));
    }
    let direct: Vec<_> = roots.iter().map(|id| Value::from(purl(packages[id]))).collect();
    let debian =
        components.iter().filter(|part| part["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:deb/")));
    let direct: Vec<_> = direct.into_iter().chain(debian.map(|part| part["bom-ref"].clone())).collect();
    dependencies.push(json!({"ref": own, "dependsOn": direct}));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": args.kind, "bom-ref": own, "name": args.name, "version": args.version},
            "tools": {"components": [{"type": "application", "name": "ping-release", "version": env!("CARGO_PKG_VERSION")}]},
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn by_id(list: &Value) -> anyhow::Result<BTreeMap<&str, &Value>> {
    let list = list.as_array().context("this is not the output of `cargo metadata --format-version 1`")?;
    ensure!(!list.is_empty(), "`cargo metadata` resolved nothing: run it without --no-deps");
    Ok(list.iter().filter_map(|entry| Some((entry["id"].as_str()?, entry))).collect())
}

/// What a package links.
fn links(node: &Value) -> Vec<&str> {
    let is_linked = |dependency: &&Value| {
        dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null())
    };
    let linked = node["deps"].as_array().into_iter().flatten().filter(is_linked);
    linked.filter_map(|dependency| dependency["pkg"].as_str()).collect()
}

fn component(package: &Value) -> Value {
    let purl = purl(package);
    let mut component = json!({
        "type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl,
    });
    if let Some(license) = package["license"].as_str() {
        // Some crates still write a slash, which CycloneDX does not accept.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(description) = package["description"].as_str() {
        component["description"] = description.trim().into();
    }
    component
}

/// The package URL.
fn purl(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", text("name"), text("version").replace('+', "%2B"))
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Value {
        json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry", "description": null})
    }

    fn node(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let deps: Vec<_> =
            dependencies.iter().map(|(pkg, kind)| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]})).collect();
        json!({"id": name, "deps": deps})
    }

    #[test]
    fn only_what_is_linked_is_listed() {
        let packages = ["program", "library", "deep", "test", "build"].map(package);
        let metadata = json!({
            "packages": packages,
            "workspace_members": ["program"],
            "resolve": {"nodes": [
                node("program", &[("library", None), ("test", Some("dev")), ("build", Some("build"))]),
                node("library", &[("deep", None)]),
                node("deep", &[]),
                node("test", &[]),
                node("build", &[]),
            ]},
        });
        let args = SbomArgs {
            name: "image".into(),
            version: "1.0.0".into(),
            kind: "container".into(),
            package: vec!["program".into()],
            debian: vec!["libc6=2.36-9".into()],
        };
        let bill = bill(&args, &metadata).unwrap();
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["deep", "library", "program", "libc6"]);
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let missing = SbomArgs { package: vec!["none".into()], ..args };
        assert!(super::bill(&missing, &metadata).unwrap_err().to_string().contains("none"));
    }
}
