//! What npm installs: the bundler of the page, and axe.

use std::path::{Path, PathBuf};

use tokio::process::Command;

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rpc/page/build.sh");

/// Runs `build.sh`; returns its output.
async fn build(argument: &str) -> String {
    let output = Command::new(BUILD).arg(argument).output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{argument}: {stderr}{stdout}");
    stdout.trim().to_owned()
}

/// The source of axe-core.
pub async fn axe() -> String {
    let modules = PathBuf::from(build("install").await);
    std::fs::read_to_string(modules.join(Path::new("axe-core/axe.min.js"))).unwrap()
}

#[tokio::test]
async fn the_bundle_is_current_and_its_types_fit() {
    build("check").await;
}
