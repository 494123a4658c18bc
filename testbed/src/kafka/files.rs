//! Kafka as `install.sh parts` installs it in the cache: its jars, a formatted data folder and a class archive.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::tools::{self, INSTALL_HINT};

/// Must match `kafka/pom.xml` and `install.sh`.
const VERSION: &str = "4.3.1";
const PROPERTIES: &str = include_str!("../../kafka/server.properties");
const LOGGING: &str = include_str!("../../kafka/log4j2.xml");

/// The folder of Kafka in the cache.
pub(super) struct Installed(PathBuf);

impl Installed {
    pub(super) fn find() -> anyhow::Result<Self> {
        let folder = tools::cache_folder()?.join(format!("kafka-{VERSION}"));
        if !folder.join("formatted/meta.properties").exists() {
            bail!("Kafka is missing in {}: {INSTALL_HINT}", folder.display());
        }
        Ok(Self(folder))
    }

    /// Writes an empty data folder and the configuration into `folder`. For each of `linked_ports` it has a listener that names the
    /// port in `links` to its clients.
    pub(super) fn prepare(
        &self,
        folder: &Path,
        port: u16,
        controller_port: u16,
        linked_ports: &[u16],
        links: &[u16],
    ) -> anyhow::Result<()> {
        let data = folder.join("data");
        fs::create_dir(&data)?;
        for entry in fs::read_dir(self.0.join("formatted"))? {
            let entry = entry?;
            fs::copy(entry.path(), data.join(entry.file_name()))?;
        }
        let properties = PROPERTIES
            .replace("@LINKED_LISTENERS@", &listeners(linked_ports))
            .replace("@LINKS@", &listeners(links))
            .replace("@LINKED_PROTOCOLS@", &protocols(links.len()))
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &controller_port.to_string())
            .replace("@DATA@", &data.to_string_lossy());
        fs::write(folder.join("server.properties"), properties)?;
        fs::write(folder.join("log4j2.xml"), LOGGING)?;
        Ok(())
    }

    /// In byte order, as in `install.sh`: a class archive only works with the class path that it was created with.
    pub(super) fn class_path(&self) -> anyhow::Result<OsString> {
        let entries = fs::read_dir(&self.0)?.collect::<Result<Vec<_>, _>>()?;
        let mut jars: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        jars.retain(|path| path.extension().is_some_and(|extension| extension == "jar"));
        jars.sort();
        Ok(env::join_paths(jars)?)
    }

    /// The class archive, which makes starts faster. Optional.
    pub(super) fn shared_classes(&self) -> Option<PathBuf> {
        Some(self.0.join("classes.jsa")).filter(|archive| archive.exists())
    }
}

/// Listeners named after their position, each after a comma.
fn listeners(ports: &[u16]) -> String {
    ports.iter().enumerate().map(|(link, port)| format!(",LINK{link}://127.0.0.1:{port}")).collect()
}

/// The protocols of `count` such listeners.
fn protocols(count: usize) -> String {
    (0..count).map(|link| format!(",LINK{link}:PLAINTEXT")).collect()
}

/// `JAVA_HOME` takes precedence over PATH, as in Kafka's own scripts.
pub(super) fn java() -> anyhow::Result<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    match home.filter(|java| tools::is_program(java)) {
        Some(java) => Ok(java),
        None => tools::on_path("java").context("Kafka needs Java 17"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_places_name_the_same_version() {
        let pom = include_str!("../../kafka/pom.xml");
        assert!(pom.contains(&format!("<artifactId>kafka_2.13</artifactId>\n      <version>{VERSION}</version>")));
        assert!(include_str!("../../install.sh").contains(&format!("\nkafka_version={VERSION}\n")));
    }
}
