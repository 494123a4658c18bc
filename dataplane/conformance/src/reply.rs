//! Answers as a call defines them: one response, headers, trailers, errors.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use buffa::MessageName;
use buffa_types::google::protobuf::Any;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail, Response, ServiceResult};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::sleep;

use crate::{
    echo::Echo,
    proto::{
        ConformancePayload, Error, Header, UnaryResponseDefinition, conformance_payload::RequestInfo,
        unary_response_definition::Response as Outcome,
    },
};

/// The answer to a call that has one response.
///
/// # Errors
/// The error that `definition` asks for, or that says what is wrong with it.
pub(crate) async fn reply(definition: UnaryResponseDefinition, mut echo: Echo) -> ServiceResult<ConformancePayload> {
    let headers = metadata(definition.response_headers)?;
    let trailers = metadata(definition.response_trailers)?;
    sleep(Duration::from_millis(definition.response_delay_ms.into())).await;
    let data = match definition.response {
        Some(Outcome::Error(error)) => {
            return Err(connect_error(*error, echo.take_all()).with_headers(headers).with_trailers(trailers));
        }
        Some(Outcome::ResponseData(data)) => data,
        None => Vec::new(),
    };
    let payload = ConformancePayload { data, request_info: echo.take().into() };
    Ok(Response { headers, trailers, ..Response::new(payload) })
}

/// # Errors
/// If HTTP does not allow a name or a value.
pub(crate) fn metadata(entries: Vec<Header>) -> Result<HeaderMap, ConnectError> {
    let mut map = HeaderMap::new();
    for Header { name, value: values } in entries {
        let name = HeaderName::try_from(name).map_err(|error| ConnectError::invalid_argument(error.to_string()))?;
        for value in values {
            let value = HeaderValue::try_from(value);
            map.append(&name, value.map_err(|error| ConnectError::invalid_argument(error.to_string()))?);
        }
    }
    Ok(map)
}

/// The error that a call asks for, with what the server saw of the call as its last detail.
pub(crate) fn connect_error(error: Error, echo: Option<RequestInfo>) -> ConnectError {
    let code = u32::try_from(error.code.to_i32()).ok().and_then(ErrorCode::from_grpc_code);
    let mut result = ConnectError::new(code.unwrap_or(ErrorCode::Unknown), String::new());
    result.message = error.message;
    result.details = error.details.into_iter().map(detail).collect();
    result.details.extend(echo.map(|info| ErrorDetail::from_message(RequestInfo::FULL_NAME, &info)));
    result
}

fn detail(any: Any) -> ErrorDetail {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    ErrorDetail { type_url: name.to_owned(), value: Some(BASE64_STANDARD_NO_PAD.encode(any.value)), debug: None }
}
