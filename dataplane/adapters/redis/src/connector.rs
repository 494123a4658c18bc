//! Opens connections.

use std::{fs, path::Path, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use super::{
    failure::ConnectError,
    settings::{ClientCertificate, RedisSettings, RedisSettingsError},
};

/// How long connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the cache is and how to log in. Passwords, certificates and keys are read from their files for each connection.
#[derive(Clone)]
pub(super) struct Connector {
    info: ConnectionInfo,
    settings: RedisSettings,
    config: AsyncConnectionConfig,
}

impl Connector {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisSettingsError> {
        let info = settings.connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        if is_tls(&info) {
            // The driver asks rustls for the process's provider. An error means that one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(settings.response_timeout));
        Ok(Self { info, settings: settings.clone(), config })
    }

    /// Opens a connection and logs in.
    pub(super) async fn connect(self) -> Result<MultiplexedConnection, ConnectError> {
        let client = self.client()?;
        let connected = client.get_multiplexed_async_connection_with_config(&self.config).await;
        connected.map_err(|error| ConnectError::new(self.info.addr(), &error))
    }

    fn client(&self) -> Result<Client, ConnectError> {
        let mut info = self.info.clone();
        if let Some(path) = &self.settings.password_file {
            let password = self.read(path)?;
            let password = String::from_utf8_lossy(&password);
            let login = info.redis_settings().clone().set_password(password.trim_end_matches(['\r', '\n']));
            info = info.set_redis_settings(login);
        }
        let RedisSettings { ca_file, client, .. } = &self.settings;
        let client_tls = match client {
            Some(ClientCertificate { cert, key }) => {
                Some(ClientTlsConfig { client_cert: self.read(cert)?, client_key: self.read(key)? })
            }
            None => None,
        };
        let root_cert = ca_file.as_deref().map(|path| self.read(path)).transpose()?;
        let client = match is_tls(&info) {
            true => Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }),
            false => Client::open(info),
        };
        client.map_err(|error| ConnectError::new(self.info.addr(), &error))
    }

    /// The file is small and local, so reading it does not wait.
    fn read(&self, path: &Path) -> Result<Vec<u8>, ConnectError> {
        fs::read(path).map_err(|error| ConnectError::unreadable(self.info.addr(), path, &error))
    }
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}
