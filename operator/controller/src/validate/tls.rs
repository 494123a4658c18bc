//! Checks TLS settings of external components. The CRD has the same rules; this also covers objects from before it had them.

use ping_api::crd::{
    cache::ExternalCache,
    tls::{ConnectionTls, TlsMode},
};

use super::invalid::Invalid;

/// Checks the settings at `field`.
pub(super) fn check(field: &str, tls: &ConnectionTls) -> Result<(), Invalid> {
    if tls.mode == TlsMode::Disable && (tls.ca.is_some() || tls.client_certificate.is_some()) {
        return Err(Invalid::Conflicting(format!(
            "{field}.mode is Disable, which sends everything in plaintext, so ca and clientCertificate have no effect. Remove them, or \
             set mode: VerifyFull"
        )));
    }
    Ok(())
}

/// Checks that the URL of an external cache says the same as its TLS settings.
pub(super) fn cache(external: &ExternalCache) -> Result<(), Invalid> {
    check("spec.cache.external.tls", &external.tls)?;
    let message = match (external.url.starts_with("rediss:"), external.tls.mode) {
        (true, TlsMode::VerifyFull) | (false, TlsMode::Disable) => return Ok(()),
        (false, TlsMode::VerifyFull) => {
            "spec.cache.external.url starts with redis://, which is not encrypted. Use rediss://, or set \
             spec.cache.external.tls.mode: Disable to send everything in plaintext, the password included"
        }
        (true, TlsMode::Disable) => {
            "spec.cache.external.url starts with rediss://, but spec.cache.external.tls.mode is Disable. Use redis://, or remove the mode"
        }
    };
    Err(Invalid::Conflicting(message.into()))
}
