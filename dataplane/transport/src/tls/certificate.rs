//! What a certificate says.

use ring::digest::{SHA256, digest};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, X509Error},
};

/// The certificate that a peer presented. The handshake has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first URI among its alternative names, else the first DNS name, else the common name of its subject. None if it has
    /// none of them.
    pub name: Option<Box<str>>,
    /// When it expires, in seconds since the Unix epoch.
    pub expires: i64,
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
}

impl PeerCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = parse(der)?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Ok(Self { name: name(&certificate).map(Into::into), expires: expires(&certificate), digest: bytes })
    }
}

/// When a certificate in DER expires, in seconds since the Unix epoch.
pub(super) fn expires_at(der: &[u8]) -> Result<i64, X509Error> {
    Ok(expires(&parse(der)?))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, X509Error> {
    Ok(X509Certificate::from_der(der).map_err(X509Error::from)?.1)
}

fn expires(certificate: &X509Certificate<'_>) -> i64 {
    certificate.validity().not_after.timestamp()
}

fn name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let dns = || {
        names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
    };
    let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    uri.or_else(dns).or_else(common).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>, common: Option<&str>) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = Default::default();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::from_der(certificate.der()).unwrap()
    }

    #[test]
    fn the_name_is_the_first_uri_else_the_first_dns_name_else_the_common_name() {
        let uri = SanType::URI("spiffe://shop/orders".try_into().unwrap());
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let name = |names, common| certificate(names, common).name;
        let all = vec![dns("orders.shop"), uri, dns("other.shop")];
        assert_eq!(name(all, Some("orders")).as_deref(), Some("spiffe://shop/orders"));
        assert_eq!(name(vec![dns("a.shop"), dns("b.shop")], Some("orders")).as_deref(), Some("a.shop"));
        assert_eq!(name(vec![], Some("orders")).as_deref(), Some("orders"));
        assert_eq!(name(vec![], None), None);
        assert_eq!(name(vec![], Some("")), None);
    }

    #[test]
    fn the_expiry_is_that_of_the_certificate() {
        assert_eq!(certificate(vec![], None).expires, 1_935_792_000);
    }

    #[test]
    fn garbage_is_no_certificate() {
        assert!(PeerCertificate::from_der(b"\x30\x03\x02\x01").is_err());
    }
}
