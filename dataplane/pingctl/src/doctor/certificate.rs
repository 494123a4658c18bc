//! What a server's certificate says.

use std::net::IpAddr;

use rustls::{CertificateError, Error};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{output, time::Millis};

/// What a certificate says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CertificateFacts {
    names: Vec<String>,
    issuer: String,
    valid_from: Millis,
    valid_to: Millis,
}

impl CertificateFacts {
    /// Reads a certificate in DER; none if it is not one.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        Some(Self {
            names: names.collect(),
            issuer: certificate.issuer().to_string(),
            valid_from: certificate.validity().not_before.timestamp().saturating_mul(1000),
            valid_to: certificate.validity().not_after.timestamp().saturating_mul(1000),
        })
    }

    /// Names and expiry, for people.
    pub(super) fn describe(&self) -> String {
        format!("certificate for {}, valid until {}", self.names.join(", "), output::time(self.valid_to))
    }

    /// A warning if less than a tenth of its validity is left: it should have been renewed long before.
    pub(super) fn expiry_warning(&self, now: Millis) -> Option<String> {
        let left = self.valid_to - now;
        (left < (self.valid_to - self.valid_from) / 10)
            .then(|| format!("renew the server's certificate: it expires at {}", output::time(self.valid_to)))
    }

    /// What to do about a certificate that was not accepted for `name`.
    pub(super) fn remedy(&self, error: &Error, name: &str) -> String {
        use CertificateError::{BadSignature, NotValidYet, NotValidYetContext, UnknownIssuer};
        use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext};
        match error {
            Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => format!(
                "the certificate is for {}, not for {name}: use one of these in --addr, or name one with --tls-server-name",
                self.names.join(", ")
            ),
            Error::InvalidCertificate(Expired | ExpiredContext { .. }) => format!(
                "it expired at {}: renew it, and see why it was not renewed; or correct the clock of this machine",
                output::time(self.valid_to)
            ),
            Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
                format!("it is valid from {}: correct the clock of this machine", output::time(self.valid_from))
            }
            Error::InvalidCertificate(UnknownIssuer | BadSignature) => format!(
                "name the CA of the server with --ca: the issuer is \"{}\"; for a pipeline in Kubernetes, `kubectl pingpipeline connect \
                 NAME` prints how to get the file",
                self.issuer
            ),
            _ => "have the server's certificate replaced".to_owned(),
        }
    }
}

/// The bytes of an address in a certificate.
fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn facts() -> CertificateFacts {
        let mut params = CertificateParams::new(["ping.example".to_owned(), "10.0.0.7".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 11);
        let key = KeyPair::generate().unwrap();
        CertificateFacts::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn names_and_expiry_are_read_from_the_certificate() {
        let facts = facts();
        assert_eq!(facts.describe(), "certificate for ping.example, 10.0.0.7, valid until 2026-04-11T00:00:00.000Z");
        assert_eq!(CertificateFacts::read(b"no certificate"), None);
        let days_left = |days: i64| facts.expiry_warning(facts.valid_to - days * 86_400_000);
        assert_eq!(days_left(11), None);
        assert!(days_left(9).unwrap().contains("2026-04-11"));
    }

    #[test]
    fn each_reason_has_a_remedy() {
        let facts = facts();
        for (error, words) in [
            (CertificateError::NotValidForName, "for ping.example, 10.0.0.7, not for other.example"),
            (CertificateError::Expired, "expired at 2026-04-11"),
            (CertificateError::NotValidYet, "valid from 2026-01-01"),
            (CertificateError::UnknownIssuer, "--ca"),
            (CertificateError::BadSignature, "--ca"),
            (CertificateError::BadEncoding, "replaced"),
        ] {
            let remedy = facts.remedy(&Error::InvalidCertificate(error), "other.example");
            assert!(remedy.contains(words), "{remedy}");
        }
    }
}
