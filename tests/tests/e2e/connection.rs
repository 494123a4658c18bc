//! How clients outside of the cluster reach the servers of a pipeline.

use std::path::PathBuf;

use crate::{
    at,
    test_cluster::{PIPELINE, TestCluster, total},
};

/// How clients reach the servers.
#[derive(Clone)]
pub(crate) struct Connection {
    /// URL of the Service, by its IP address.
    pub(crate) address: String,
    /// Name that the servers' certificate covers.
    pub(crate) server_name: String,
    /// File with the CA.
    pub(crate) ca: String,
    /// Options of pingctl that name files with credentials.
    credentials: Vec<String>,
    /// The first token.
    pub(crate) token: String,
}

impl Connection {
    /// Options of pingctl.
    pub(crate) fn options(&self) -> Vec<&str> {
        let Self { address, server_name, ca, credentials, .. } = self;
        let server = ["--addr", address, "--ca", ca, "--tls-server-name", server_name];
        server.into_iter().chain(credentials.iter().map(String::as_str)).collect()
    }

    /// The same servers, called with the credentials in these files.
    pub(crate) fn with_credentials(mut self, files: &[(&str, &PathBuf)]) -> Self {
        let options =
            files.iter().flat_map(|(option, file)| [(*option).to_owned(), file.to_string_lossy().into_owned()]);
        self.credentials = options.collect();
        self
    }
}

impl TestCluster {
    /// How clients outside of the cluster reach the servers, as `kubectl pingpipeline connect` prints it. The Secrets are read each time,
    /// because they may have been rotated.
    pub(crate) async fn connection(&self) -> Connection {
        self.connection_of(PIPELINE).await
    }

    /// The same for the named pipeline.
    pub(crate) async fn connection_of(&self, name: &str) -> Connection {
        let pipeline = self.json(&["get", "pingpipeline", name]).await;
        let text = |pointer: &str| at(&pipeline, pointer).as_str().unwrap_or_else(|| panic!("no {pointer}")).to_owned();
        let file = async |secret: &str, key: &str, name: &str| {
            let template = format!("--output=go-template={{{{index .data \"{key}\" | base64decode}}}}");
            let content = self.kubectl(&["get", "secret", secret, &template]).await;
            let path = self.cluster.folder().join(name);
            std::fs::write(&path, &content).unwrap();
            (path.to_string_lossy().into_owned(), content)
        };
        let (ca, _) = file(&text("/status/access/caSecret"), "ca.crt", &format!("e2e-{name}-ca.crt")).await;
        let (token_file, token) =
            file(&text("/status/access/tokenSecret"), "token", &format!("e2e-{name}-token")).await;
        let address = format!("https://{}", self.address_of(name).await);
        let credentials = vec!["--token-file".into(), token_file];
        Connection { address, server_name: text("/status/access/serverName"), ca, credentials, token }
    }

    /// The total count, as the caller of `connection`; none if no server answers at once.
    pub(crate) async fn try_count(&self, connection: &Connection) -> Option<u64> {
        let count = ["--retries=0", "--timeout=5s", "count", "--json", "--strong"];
        let output = self.try_run(&self.pingctl_path(), &[&connection.options()[..], &count].concat()).await;
        output.status.success().then(|| total(&String::from_utf8_lossy(&output.stdout)))
    }

    /// IP address and port of the servers' Service.
    pub(crate) async fn address(&self) -> String {
        self.address_of(PIPELINE).await
    }

    async fn address_of(&self, pipeline: &str) -> String {
        let service = self.json(&["get", "service", &format!("{pipeline}-server")]).await;
        format!("{}:8080", at(&service, "/spec/clusterIP").as_str().unwrap())
    }
}
