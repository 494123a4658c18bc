//! The web page: the count, charts, sources and components, live. It is one document that calls the public API, with a token if that needs
//! one. Its script and style sheet are bundled from `dataplane/rpc/page`.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use ring::digest::{SHA256, digest};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page with its style sheet and its script.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    include_str!("page/index.html").replace("{style}", STYLE).replace("{script}", SCRIPT).into_bytes().into()
});

/// The page runs its own script only, calls its own server only, and sends its form nowhere.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; form-action 'none'; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(SCRIPT),
        hash(STYLE),
    );
    // Base64 is always a valid value. If it were not, the page would run nothing.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// Whether a request is for the page.
pub(super) fn is_asked_for(method: &Method, path: &str) -> bool {
    path == "/" && (method == Method::GET || method == Method::HEAD)
}

/// The page, for callers that may read without credentials.
pub(super) fn open() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(DOCUMENT.clone()));
    add_headers(response.headers_mut());
    response
}

/// The page as the answer to a caller without credentials: it asks for a token. Browsers show the document of a 401.
pub(super) fn locked() -> Response<Full<Bytes>> {
    let mut response = open();
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn add_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
}
