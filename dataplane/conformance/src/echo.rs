//! What the server saw of a call, for the suite to compare with what it sent.

use buffa::MessageName;
use buffa_types::google::protobuf::Any;
use bytes::Bytes;
use connectrpc::RequestContext;
use http::{HeaderMap, Method, Request};

use crate::proto::{
    Header,
    conformance_payload::{ConnectGetInfo, RequestInfo},
};

/// The query of a GET, among the extensions of a request.
#[derive(Clone)]
struct Query(String);

/// Keeps the query of a GET for [`Echo::new`]: connectrpc passes neither method nor query to a service.
pub(crate) fn keep_query<B>(mut request: Request<B>) -> Request<B> {
    if request.method() == Method::GET {
        let query = request.uri().query().unwrap_or_default().to_owned();
        request.extensions_mut().insert(Query(query));
    }
    request
}

/// What the responses to a call have not echoed yet.
pub(crate) struct Echo {
    /// Headers, timeout and query, until the first response.
    call: Option<RequestInfo>,
    requests: Vec<Any>,
}

impl Echo {
    /// Of a call whose requests follow.
    pub(crate) fn new(context: &RequestContext) -> Self {
        let timeout_ms = context.time_remaining().map(|left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        let call = RequestInfo {
            request_headers: headers(context.headers()),
            timeout_ms,
            requests: Vec::new(),
            connect_get_info: context.extensions().get().map(get_info).into(),
        };
        Self { call: Some(call), requests: Vec::new() }
    }

    /// Adds a request of type `M`, encoded.
    pub(crate) fn add<M: MessageName>(&mut self, request: &Bytes) {
        let (type_url, value) = (M::TYPE_URL.to_owned(), request.clone());
        self.requests.push(Any { type_url, value, ..Any::default() });
    }

    /// For a response: what arrived since the previous one, if anything did.
    pub(crate) fn take(&mut self) -> Option<RequestInfo> {
        let requests = std::mem::take(&mut self.requests);
        match self.call.take() {
            Some(call) => Some(RequestInfo { requests, ..call }),
            None if requests.is_empty() => None,
            None => Some(RequestInfo { requests, ..RequestInfo::default() }),
        }
    }

    /// For an error: everything, unless there was a response.
    pub(crate) fn take_all(&mut self) -> Option<RequestInfo> {
        self.call.is_some().then(|| self.take()).flatten()
    }
}

/// Values that are not text are left out: the suite sends none.
fn headers(map: &HeaderMap) -> Vec<Header> {
    let values = |name| map.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    map.keys().map(|name| Header { name: name.to_string(), value: values(name) }).collect()
}

fn get_info(Query(query): &Query) -> ConnectGetInfo {
    let parameters = form_urlencoded::parse(query.as_bytes());
    let header = |(name, value): (_, _)| Header { name: String::from(name), value: vec![String::from(value)] };
    ConnectGetInfo { query_params: parameters.map(header).collect() }
}
