//! Who may connect to the cache, and what they may do there.

use std::{path::Path, time::Duration};

use ping_core::Minute;
use ping_ports::{CacheError, CounterCache, chain};
use ping_redis::{RedisCache, RedisSettings};
use ping_testbed::{Redis, certificates::Authority};
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use tokio::time::sleep;

use crate::{
    encrypted_cache::{EncryptedCache, PASSWORD},
    fixture::{NOW, flush, snapshot},
};

async fn error(settings: &RedisSettings) -> String {
    let cache = RedisCache::new(settings).unwrap();
    let error = cache.read(None).await.unwrap_err();
    let text = chain(&error);
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[tokio::test]
async fn each_way_to_fail_names_the_setting_to_check() {
    let cache = EncryptedCache::start().await;
    let good = cache.settings("processor");
    RedisCache::new(&good).unwrap().read(None).await.unwrap();
    let other_ca = cache.files.path().join("other.crt");
    std::fs::write(&other_ca, Authority::new("cache").unwrap().certificate()).unwrap();
    let wrong_ca = RedisSettings { ca_file: Some(other_ca), ..good.clone() };
    let no_file = RedisSettings { ca_file: Some("/no/such/ca.crt".into()), ..good.clone() };
    let wrong_password = RedisSettings { password: Some("wrong".into()), ..good.clone() };
    let wrong_user = RedisSettings { username: Some("stranger".into()), ..good.clone() };
    let no_login = RedisSettings { username: None, password: None, ..good.clone() };
    for (settings, expected) in [
        (wrong_ca, ["invalid peer certificate", "check --cache-ca-file"]),
        (no_file, ["cannot read /no/such/ca.crt", "--cache-ca-file"]),
        (wrong_password, ["authentication failed", "check --cache-username and --cache-password"]),
        (wrong_user, ["authentication failed", "check --cache-username and --cache-password"]),
        (no_login, ["NOAUTH", "check --cache-username and --cache-password"]),
    ] {
        let text = error(&settings).await;
        assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_rejected() {
    let authority = Authority::new("cache").unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.crt");
    std::fs::write(&ca_file, authority.certificate()).unwrap();
    let redis =
        Redis::start_encrypted(&authority.server(&["another"]).unwrap(), "user default on nopass +@all ~*\n").await;
    let redis = redis.unwrap();
    let settings = RedisSettings { ca_file: Some(ca_file), ..RedisSettings::new(redis.url()) };
    let text = error(&settings).await;
    assert!(text.contains("not valid for name") && text.contains("check --cache-ca-file"), "{text}");
}

#[tokio::test]
async fn plaintext_is_not_answered() {
    let cache = EncryptedCache::start().await;
    let url = cache.redis.url().replace("rediss:", "redis:");
    let settings = RedisSettings { ca_file: None, ..RedisSettings { url, ..cache.settings("processor") } };
    error(&settings).await;
}

#[tokio::test]
async fn a_server_reads_what_a_processor_writes_and_writes_no_counter() {
    let cache = EncryptedCache::start().await;
    let processor = RedisCache::new(&cache.settings("processor")).unwrap();
    let server = RedisCache::new(&cache.settings("server")).unwrap();
    assert!(processor.install(None, &snapshot("g")).await.unwrap());
    processor.apply(&flush("g", 0, 0, 5, NOW)).await.unwrap();
    assert_eq!(server.read(Some((NOW, Minute(NOW.0 + 1)))).await.unwrap().unwrap().minutes_total, 5);
    assert_eq!(server.read(Some((NOW.back(10_000), Minute(NOW.0 + 1)))).await.unwrap().unwrap().minutes_total, 5);
    assert_eq!(server.counters().await.unwrap().unwrap().total, 5);
    let refused = |result: Result<(), CacheError>| chain(&result.unwrap_err()).contains("lacks a permission");
    assert!(refused(server.mark_suspect(&"g".into()).await));
    assert!(refused(server.install(Some(&"g".into()), &snapshot("h")).await.map(|_| ())));
    assert!(refused(server.apply(&flush("g", 0, 5, 1, NOW)).await.map(|_| ())));
    assert_eq!(processor.counters().await.unwrap().unwrap().total, 5);
}

fn client(cache: &EncryptedCache, user: &str) -> Client {
    let info = cache.redis.url().into_connection_info().unwrap();
    let login = info.redis_settings().clone().set_username(user).set_password(PASSWORD);
    let root_cert = Some(cache.authority.certificate().as_bytes().to_vec());
    let client_tls: Option<ClientTlsConfig> = None;
    Client::build_with_tls(info.set_redis_settings(login), TlsCertificates { client_tls, root_cert }).unwrap()
}

#[tokio::test]
async fn neither_user_may_do_anything_else() {
    let cache = EncryptedCache::start().await;
    for user in ["server", "processor"] {
        let mut connection = client(&cache, user).get_multiplexed_async_connection().await.unwrap();
        for forbidden in [
            "FLUSHALL",
            "CONFIG GET *",
            "KEYS *",
            "ACL LIST",
            "SET another 1",
            "HGET another field",
            "SCRIPT FLUSH",
            "MONITOR",
            "REPLICAOF 127.0.0.1 1",
            "SHUTDOWN",
            "CLIENT LIST",
            "SUBSCRIBE ping",
            "EVAL return(redis.call('get',KEYS[1])) 1 another",
        ] {
            let mut words = forbidden.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            command.arg(words.collect::<Vec<_>>());
            let result: Result<redis::Value, _> = command.query_async(&mut connection).await;
            let text = result.expect_err(forbidden).to_string();
            assert!(text.contains("NoPerm"), "{user} {forbidden}: {text}");
        }
    }
}

async fn admin(cache: &EncryptedCache, words: &[&str]) {
    let mut connection = client(cache, "admin").get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async::<()>(&mut connection).await.unwrap();
}

/// Works within two calls: the first one may find the connection closed.
async fn works(cache: &RedisCache) -> bool {
    sleep(Duration::from_millis(50)).await;
    cache.read(None).await.is_ok() || cache.read(None).await.is_ok()
}

#[tokio::test]
async fn a_rotated_ca_and_password_need_no_restart() {
    let cache = EncryptedCache::start().await;
    let path = |name: &str| cache.files.path().join(name);
    std::fs::write(path("password"), format!("{PASSWORD}\n")).unwrap();
    let settings =
        RedisSettings { password: None, password_file: Some(path("password")), ..cache.settings("processor") };
    let processor = RedisCache::new(&settings).unwrap();
    processor.read(None).await.unwrap();
    let kill = ["CLIENT", "KILL", "USER", "processor"];

    // The password: both are valid until every client has the new one.
    admin(&cache, &["ACL", "SETUSER", "processor", ">next"]).await;
    std::fs::write(path("password"), "next").unwrap();
    admin(&cache, &["ACL", "SETUSER", "processor", &format!("<{PASSWORD}")]).await;
    admin(&cache, &kill).await;
    assert!(works(&processor).await);

    // The CA: both are trusted before the certificate changes.
    let next = Authority::new("next").unwrap();
    std::fs::write(path("ca.crt"), [cache.authority.certificate(), next.certificate()].concat()).unwrap();
    next.server(&["localhost"]).unwrap().write(cache.files.path()).unwrap();
    let (certificate, key) = (text(&path("tls.crt")), text(&path("tls.key")));
    admin(&cache, &["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key]).await;
    let stale = cache.settings("processor");
    std::fs::write(path("old.crt"), cache.authority.certificate()).unwrap();
    let stale = RedisSettings { ca_file: Some(path("old.crt")), password: Some("next".into()), ..stale };
    assert!(error(&stale).await.contains("UnknownIssuer"));
    assert!(works(&processor).await);
    let fresh = RedisCache::new(&settings).unwrap();
    fresh.read(None).await.unwrap();
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
