//! Certificates, and folders of files as Kubernetes mounts a Secret.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a server on this machine, which expires at the end of `year`.
    pub fn server(&self, year: i32) -> Certificate {
        let mut params = for_server();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        self.sign(&params)
    }

    /// A certificate for a server on this machine, which expires after `lifetime`.
    pub fn server_for(&self, lifetime: Duration) -> Certificate {
        let mut params = for_server();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now + lifetime).as_secs());
        self.sign(&params)
    }

    /// A certificate for a client with this DNS name.
    pub fn client(&self, name: &str) -> Certificate {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { cert, key: key.serialize_pem() }
    }

    /// A client that trusts this authority, with a certificate of its own or without. It opens a connection per call.
    pub fn http(&self, certificate: Option<&Certificate>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.pem.as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(root)
            .pool_max_idle_per_host(0);
        if let Some(Certificate { cert, key }) = certificate {
            builder = builder.identity(reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

fn for_server() -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A mounted Secret: its files are links into a folder that is replaced as a whole.
pub struct Secret {
    folder: TempDir,
    version: u32,
}

impl Secret {
    pub fn new(certificate: &Certificate, authority: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
        }
        let mut secret = Self { folder, version: 0 };
        secret.replace(certificate, authority);
        secret
    }

    /// Replaces the files as kubelet does.
    pub fn replace(&mut self, certificate: &Certificate, authority: &str) {
        self.version += 1;
        let version = format!("..{}", self.version);
        let folder = self.folder.path().join(&version);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), &certificate.cert).unwrap();
        fs::write(folder.join("tls.key"), &certificate.key).unwrap();
        fs::write(folder.join("ca.crt"), authority).unwrap();
        let link = self.folder.path().join("..data_tmp");
        symlink(version, &link).unwrap();
        fs::rename(link, self.folder.path().join("..data")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags of a server with these files.
    pub fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        vec!["--memory".into(), "--tls-cert".into(), path("tls.crt"), "--tls-key".into(), path("tls.key")]
    }
}
