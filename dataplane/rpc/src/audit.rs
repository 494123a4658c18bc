//! The audit log: one line for every call of an admin service, at the target `audit`. Of refused calls, there are
//! only a few per second.

use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, Dispatcher, Payload, RequestContext,
    dispatcher::{MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
};
use ping_transport::RequestScope;

use super::access::Session;

/// Dispatches calls, and logs who made them and how they ended. A stream is logged when it begins.
pub struct Audited<D>(pub(super) D);

/// Writes a line. `outcome` is `ok`, `begun` or the code of an error.
pub(super) fn log(caller: &str, scope: Option<&RequestScope>, method: &str, outcome: &str) {
    let peer = scope.map(|scope| scope.peer.to_string()).unwrap_or_default();
    tracing::info!(target: "audit", caller, method, outcome, peer, "admin call");
}

/// Whose call it is, kept while it runs.
struct Entry {
    caller: Box<str>,
    scope: Option<RequestScope>,
    method: Box<str>,
}

impl Entry {
    fn new(path: &str, context: &RequestContext) -> Self {
        let extensions = context.extensions();
        let caller = extensions.get::<Session>().map_or("unknown", Session::name);
        Self { caller: caller.into(), scope: extensions.get().cloned(), method: path.into() }
    }

    fn log(&self, outcome: &str) {
        log(&self.caller, self.scope.as_ref(), &self.method, outcome);
    }
}

fn outcome<T>(result: &Result<T, ConnectError>) -> &'static str {
    result.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok")
}

impl<D: Dispatcher> Dispatcher for Audited<D> {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        self.0.lookup(path)
    }

    fn call_unary(&self, path: &str, context: RequestContext, request: Payload, format: CodecFormat) -> UnaryResult {
        let entry = Entry::new(path, &context);
        let call = self.0.call_unary(path, context, request, format);
        Box::pin(async move {
            let result = call.await;
            entry.log(outcome(&result));
            result
        })
    }

    fn call_server_streaming(
        &self,
        path: &str,
        context: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        Entry::new(path, &context).log("begun");
        self.0.call_server_streaming(path, context, request, format)
    }

    fn call_client_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        Entry::new(path, &context).log("begun");
        self.0.call_client_streaming(path, context, requests, format)
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        Entry::new(path, &context).log("begun");
        self.0.call_bidi_streaming(path, context, requests, format)
    }
}
