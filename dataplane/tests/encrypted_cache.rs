//! A Redis that accepts TLS only, with the users and permissions that the operator gives to servers and processors.

use ping_redis::RedisSettings;
use ping_runtime::cache_acl;
use ping_testbed::{Redis, certificates::Authority};
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "secret";
const PASSWORD_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

pub(crate) struct EncryptedCache {
    pub(crate) redis: Redis,
    pub(crate) authority: Authority,
    /// `ca.crt`, which clients trust.
    pub(crate) files: TempDir,
}

impl EncryptedCache {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new("cache").unwrap();
        let users = [("server", cache_acl::SERVER), ("processor", cache_acl::PROCESSOR), ("admin", "+@all ~*")];
        let users = users.map(|(name, rules)| cache_acl::user(name, PASSWORD_SHA256, rules)).join("\n");
        let acl = format!("{}\n{users}\n", cache_acl::DEFAULT_USER);
        let redis = Redis::start_encrypted(&authority.server(&["localhost"]).unwrap(), &acl).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.crt"), authority.certificate()).unwrap();
        Self { redis, authority, files }
    }

    /// Settings of the user `name`.
    pub(crate) fn settings(&self, name: &str) -> RedisSettings {
        RedisSettings {
            username: Some(name.into()),
            password: Some(PASSWORD.into()),
            ca_file: Some(self.files.path().join("ca.crt")),
            ..RedisSettings::new(self.redis.url())
        }
    }
}
