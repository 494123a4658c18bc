//! Formatting of errors, and detection of missing objects.

/// The error with all its causes on one line: `error: cause: cause`. For an error from the API server, this is its own message
/// and status code. A cause that only repeats the message before it is omitted.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = describe(error);
    let mut source = error.source().filter(|_| !is_api_error(error));
    while let Some(cause) = source {
        let cause_text = describe(cause);
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source().filter(|_| !is_api_error(cause));
    }
    text
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => format!("{} ({})", status.message.trim(), status.code),
        _ => error.to_string(),
    }
}

fn is_api_error(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(_)))
}

/// True if the object or its kind does not exist. For a kind that is not served, the API server responds in plain text, which
/// kube's own `is_not_found` does not recognise.
#[must_use]
pub fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// True if the operator lacks a permission.
#[must_use]
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Maps a missing object or kind to `None`.
///
/// # Errors
/// All other errors.
pub fn present<T>(result: Result<Option<T>, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Err(error) if is_absent(&error) => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write Service a/b")]
    struct Outer(#[source] kube::Error);

    fn answer(code: u16, message: &str) -> kube::Error {
        let status = kube::core::Status { code, message: message.into(), ..kube::core::Status::default() };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn errors_of_the_api_server_are_quoted() {
        let error = Outer(answer(422, "spec.ports: Required value"));
        assert_eq!(chain(&error), "cannot write Service a/b: spec.ports: Required value (422)");
    }

    #[test]
    fn a_kind_that_is_not_served_is_absent() {
        assert!(is_absent(&answer(404, "404 page not found\n")));
        assert!(!is_absent(&answer(403, "forbidden")));
    }
}
