//! The responses of a call that has a stream of them.

use std::{time::Duration, vec};

use connectrpc::{ConnectError, InboundStream, Response, ServiceResult, ServiceStream};
use futures::{TryStreamExt, stream};
use tokio::time::sleep;

use crate::{
    echo::Echo,
    proto::{BidiStreamRequest, ConformancePayload, Error, StreamResponseDefinition},
    reply::{connect_error, metadata},
};

/// The responses that are left to send.
struct Responses {
    data: vec::IntoIter<Vec<u8>>,
    delay: Duration,
    error: Option<Error>,
    echo: Echo,
    /// Each one is answered by a response. Empty if none is read while responding.
    requests: InboundStream<BidiStreamRequest>,
    /// Whether every request read so far has its response.
    answered: bool,
}

/// The answer to a call that has a stream of responses. `echo` contains the requests read so far. Each of `requests` is read before
/// the response that answers it; the stream must allow reads after its end. `wrap` makes a response of its payload.
///
/// # Errors
/// If `definition` cannot be followed.
pub(crate) fn respond<M: Send + 'static>(
    definition: StreamResponseDefinition,
    echo: Echo,
    requests: InboundStream<BidiStreamRequest>,
    wrap: fn(ConformancePayload) -> M,
) -> ServiceResult<ServiceStream<M>> {
    let headers = metadata(definition.response_headers)?;
    let trailers = metadata(definition.response_trailers)?;
    let responses = Responses {
        data: definition.response_data.into_iter(),
        delay: Duration::from_millis(definition.response_delay_ms.into()),
        error: definition.error.into_option(),
        echo,
        requests,
        answered: false,
    };
    let stream = stream::try_unfold(responses, Responses::next).map_ok(wrap);
    Ok(Response { headers, trailers, ..Response::stream(stream) })
}

impl Responses {
    /// The next response. After the last one, the error, or the end.
    async fn next(mut self) -> Result<Option<(ConformancePayload, Self)>, ConnectError> {
        if self.answered {
            self.receive().await?;
        }
        let Some(data) = self.data.next() else { return self.finish().await };
        sleep(self.delay).await;
        self.answered = true;
        let payload = ConformancePayload { data, request_info: self.echo.take().into() };
        Ok(Some((payload, self)))
    }

    /// Reads a request. Returns false if there are no more.
    async fn receive(&mut self) -> Result<bool, ConnectError> {
        let request = self.requests.try_next().await?;
        if let Some(request) = &request {
            self.echo.add::<BidiStreamRequest>(request.bytes());
        }
        Ok(request.is_some())
    }

    async fn finish<T>(mut self) -> Result<Option<T>, ConnectError> {
        if let Some(error) = self.error {
            return Err(connect_error(error, self.echo.take_all()));
        }
        while self.receive().await? {}
        Ok(None)
    }
}
