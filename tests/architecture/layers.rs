//! Which crate may depend on which: programs → rpc → ingest, query → ports → core; programs → projections → ports. Cargo refuses a
//! dependency that a manifest does not name; this refuses a manifest that names what it should not.
//!
//! Dependencies of tests (`[dev-dependencies]`) are free.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    imports::{paths, without_tests},
    source::{assert_none, root, sources},
    tokens::parse,
    tree::Tree,
};

/// What adapters, and nothing else, translate to and from.
const ADAPTER: &[&str] = &["ping-core", "ping-segments", "ping-ports", "ping-proto"];

/// An adapter to a database that speaks SQL, and what such have in common.
const SQL_ADAPTER: &[&str] = &["ping-core", "ping-segments", "ping-ports", "ping-proto", "ping-sql"];

/// What decides, without knowing a technology.
const LOGIC: &[&str] = &["ping-core", "ping-segments", "ping-ports"];

/// Every crate of the workspace, and what it may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    // Shared by all programs.
    ("ping-runtime", &[]),
    // Data plane, from the inside out.
    ("ping-core", &[]),
    ("ping-proto", &[]),
    ("ping-segments", &["ping-core"]),
    ("ping-ports", &["ping-core", "ping-segments"]),
    ("ping-sql", ADAPTER),
    ("ping-postgres", SQL_ADAPTER),
    ("ping-sqlite", SQL_ADAPTER),
    ("ping-kafka", ADAPTER),
    ("ping-redis", ADAPTER),
    ("ping-memory", ADAPTER),
    ("ping-ingest", LOGIC),
    ("ping-projections", LOGIC),
    ("ping-query", LOGIC),
    ("ping-quota", LOGIC),
    // Knows HTTP and nothing of events.
    ("ping-transport", &[]),
    // Knows callers and nothing of events.
    ("ping-identity", &["ping-runtime"]),
    (
        "ping-rpc",
        &[
            "ping-core",
            "ping-ports",
            "ping-proto",
            "ping-ingest",
            "ping-query",
            "ping-identity",
            "ping-quota",
            "ping-transport",
            "ping-runtime",
        ],
    ),
    ("ping-client", &["ping-proto"]),
    // Wiring that programs share.
    (
        "ping-services",
        &[
            "ping-core",
            "ping-ports",
            "ping-ingest",
            "ping-projections",
            "ping-query",
            "ping-identity",
            "ping-quota",
            "ping-rpc",
            "ping-transport",
            "ping-runtime",
        ],
    ),
    // Programs of the data plane.
    (
        "ping-embedded",
        &[
            "ping-core",
            "ping-ports",
            "ping-ingest",
            "ping-projections",
            "ping-query",
            "ping-rpc",
            "ping-services",
            "ping-runtime",
            "ping-memory",
            "ping-sqlite",
        ],
    ),
    (
        "pingd",
        &[
            "ping-core",
            "ping-ports",
            "ping-ingest",
            "ping-projections",
            "ping-query",
            "ping-rpc",
            "ping-services",
            "ping-runtime",
            "ping-memory",
            "ping-sqlite",
            "ping-postgres",
            "ping-kafka",
            "ping-redis",
            "ping-embedded",
        ],
    ),
    ("pingctl", &["ping-client", "ping-proto", "ping-runtime"]),
    // Kubernetes.
    ("ping-api", &["ping-runtime"]),
    ("ping-plan", &["ping-api"]),
    ("ping-operator", &["ping-api", "ping-identity", "ping-plan", "ping-proto", "ping-runtime"]),
    ("kubectl-pingpipeline", &["ping-api", "ping-plan", "ping-client", "ping-proto", "ping-runtime"]),
    // Tests and measurements; these see what they test.
    ("ping-testbed", &["ping-runtime"]),
    ("ping-conformance", &["ping-transport"]),
    ("ping-history", &[]),
    ("ping-example", &[]),
    ("ping-dataplane-tests", &["*"]),
    ("ping-tests", &["*"]),
    ("ping-architecture", &[]),
    ("ping-fuzz", &["*"]),
    ("ping-bench", &["*"]),
    // Reads what Cargo and Helm print, not the other crates.
    ("ping-release", &[]),
];

/// Crates of the table that need not exist.
const OPTIONAL: &[&str] = &["ping-plan", "ping-services", "ping-sql"];

const TRANSPORT: &[&str] = &["tonic", "hyper", "axum", "reqwest"];
const TRACES: &[&str] = &["opentelemetry"];
const STORAGE: &[&str] = &["sqlx-core", "sqlx-postgres", "sqlx-sqlite", "rdkafka-sys", "redis"];

/// What must not be linked into a crate, on any path.
const MUST_NOT_LINK: &[(&str, &[&[&str]])] = &[
    ("ping-core", &[TRANSPORT, STORAGE, &["tokio", "kube", "tracing"]]),
    ("ping-segments", &[TRANSPORT, STORAGE, &["tokio", "kube", "tracing"]]),
    ("ping-ports", &[TRANSPORT, STORAGE, TRACES, &["kube"]]),
    ("ping-ingest", &[TRANSPORT, STORAGE, TRACES, &["kube"]]),
    ("ping-projections", &[TRANSPORT, STORAGE, TRACES, &["kube"]]),
    ("ping-query", &[TRANSPORT, STORAGE, TRACES, &["kube"]]),
    ("ping-quota", &[TRANSPORT, STORAGE, TRACES, &["kube"]]),
    ("ping-identity", &[STORAGE, &["tonic", "kube"]]),
    ("ping-kafka", &[TRACES]),
    ("ping-rpc", &[STORAGE, TRACES, &["kube"]]),
    ("ping-embedded", &[&["rdkafka-sys", "redis", "sqlx-postgres", "kube"]]),
    ("pingctl", &[STORAGE, &["kube"]]),
    ("ping-operator", &[STORAGE]),
    ("kubectl-pingpipeline", &[STORAGE]),
];

/// Functions that read a clock.
const CLOCKS: &[&str] = &["now", "now_v7", "elapsed"];

/// What Cargo says of the workspace's own packages.
pub fn metadata(root: &Path) -> Value {
    let said = cargo(root, &["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_str(&said).unwrap()
}

fn cargo(root: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = command.args(arguments).current_dir(root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Dependencies between the workspace's packages that the table does not allow.
fn forbidden(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            found.push(format!("{name} is not in the table MAY_USE of {}", file!()));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let free = dependency["kind"] == "dev" || !names.contains(to);
            if !free && !allowed.contains(&to) && !allowed.contains(&"*") {
                found.push(format!("{name} must not use {to}; it may use {allowed:?}"));
            }
        }
    }
    let missing = MAY_USE.iter().filter(|(name, _)| !names.contains(name) && !OPTIONAL.contains(name));
    found.extend(missing.map(|(name, _)| format!("there is no crate {name}")));
    found
}

#[test]
fn crates_depend_on_lower_layers_only() {
    assert_none("dependencies are wrong", &forbidden(&metadata(&root())));
}

#[test]
fn no_driver_is_linked_into_what_does_without_it() {
    let mut found = Vec::new();
    for (name, banned) in MUST_NOT_LINK {
        let tree =
            cargo(&root(), &["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        let linked: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        let wrong = banned.iter().copied().flatten().filter(|banned| linked.contains(*banned));
        found.extend(wrong.map(|banned| format!("{name}: `cargo tree -p {name} -e normal -i {banned}` says why")));
    }
    assert_none("crates link what they must not", &found);
}

/// Where core and ports read a clock, under `root`: they get the time from who calls them.
fn clocks(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["dataplane/core/src", "dataplane/ports/src"] {
        for source in sources(&root.join(folder), &["rs"]) {
            let mut code = Vec::new();
            paths(&without_tests(parse(&source.text).into_iter().collect()), &mut code);
            let reads =
                |path: &Vec<String>| path.len() > 1 && path.last().is_some_and(|last| CLOCKS.contains(&&**last));
            let hits = code.iter().filter(|(path, _)| reads(path));
            let place = |line| format!("{folder}/{}:{line}", source.path.display());
            found.extend(hits.map(|(path, line)| format!("{}: {}", place(line), path.join("::"))));
        }
    }
    found
}

#[test]
fn core_and_ports_read_no_clock() {
    assert_none("clocks are read where none may be", &clocks(&root()));
}

#[test]
fn a_clock_in_core_is_found() {
    let tree = Tree::new("clock");
    tree.write(
        "dataplane/ports/src/lib.rs",
        "pub trait Clock { fn now(&self) -> u64; }\n#[cfg(test)]\nmod t { fn f() { Instant::now(); } }\n",
    );
    tree.write("dataplane/core/src/lib.rs", "fn id() -> Uuid {\n    vec![Uuid::now_v7()][0]\n}\n");
    assert_eq!(clocks(tree.path()), ["dataplane/core/src/lib.rs:2: Uuid::now_v7"]);
}

#[test]
fn a_backward_dependency_is_found() {
    let package = |name: &str, dependencies: Value| json!({"name": name, "dependencies": dependencies});
    let normal = |name: &str| json!({"name": name, "kind": null});
    let mut packages: Vec<_> = MAY_USE.iter().map(|(name, _)| package(name, json!([normal("tokio")]))).collect();
    assert_eq!(forbidden(&json!({"packages": &packages})), [""; 0]);

    packages[1] = package("ping-core", json!([normal("ping-ports"), {"name": "ping-testbed", "kind": "dev"}]));
    packages.push(package("ping-utils", json!([])));
    let found = forbidden(&json!({"packages": packages}));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("ping-core must not use ping-ports"), "{found:?}");
    assert!(found[1].starts_with("ping-utils is not in the table"), "{found:?}");
}
