//! The token in the header `authorization`.

use ring::digest::{SHA256, digest};

use crate::{AuthenticationError, MAX_TOKEN_BYTES};

/// The token of a header of the form `Bearer TOKEN`.
pub(crate) fn token(header: &[u8]) -> Result<&str, AuthenticationError> {
    let (scheme, token) = header.split_at_checked(7).ok_or(AuthenticationError::Scheme)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(AuthenticationError::Scheme);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthenticationError::TooLong(token.len()));
    }
    let token = std::str::from_utf8(token).map_err(|_| AuthenticationError::Scheme)?.trim();
    if token.is_empty() || token.contains(' ') { Err(AuthenticationError::Scheme) } else { Ok(token) }
}

/// SHA-256. Tokens are looked up by their digests: what the time of a lookup reveals of a digest does not help to guess a token.
pub(crate) fn sha256(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_of_limited_size_is_read() {
        assert_eq!(token(b"bearer abc"), Ok("abc"));
        for header in [&b""[..], b"Bearer", b"Bearer ", b"Bearer  ", b"Basic abc", b"Bearer a b", b"Bearer \xff"] {
            assert_eq!(token(header), Err(AuthenticationError::Scheme), "{header:?}");
        }
        let long = [&b"Bearer "[..], &[b'x'; MAX_TOKEN_BYTES + 1]].concat();
        assert_eq!(token(&long), Err(AuthenticationError::TooLong(MAX_TOKEN_BYTES + 1)));
        assert!(token(&long[..long.len() - 1]).is_ok());
    }
}
