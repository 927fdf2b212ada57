//! The SDK's errors as [`InboxError`]: told apart by what may be done about them.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use yard_ports::InboxError;

/// Error codes that say 'not now' though their HTTP status is a 4xx.
const NOT_NOW: [&str; 8] = [
    "RequestThrottled",
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "KmsThrottled",
    "OverLimit",
    "RequestExpired",
    "ExpiredToken",
];

/// What the failure of a call on the queue called `queue` means.
pub(crate) fn inbox_error<E>(queue: &str, error: &SdkError<E, HttpResponse>) -> InboxError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let reason = reason(error);
    let queue = queue.to_owned();
    if may_pass(error) {
        InboxError::Unavailable { queue, reason }
    } else {
        InboxError::Refused { queue, reason }
    }
}

/// The error code that SQS gave, if SQS answered at all.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code).map(plain)
}

/// Whether waiting may help.
fn may_pass<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            status.is_server_error()
                || status.as_u16() == 429
                || code(error).is_some_and(|c| NOT_NOW.contains(&c))
        }
        SdkError::ConstructionFailure(_) => false,
        // Timeouts, cut connections, unreadable answers; and credentials that can't be had right now.
        _ => true,
    }
}

/// What SQS said, or else the whole chain of what went wrong on the way there.
fn reason<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(answer) = error.as_service_error()
        && let (Some(code), message) = (answer.code(), answer.message())
    {
        return format!("{}: {}", plain(code), message.unwrap_or("no message"));
    }
    chain(error)
}

/// The messages of an error and its sources, each once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = source.source();
    }
    text
}

/// Codes come with their namespace from some servers: `com.amazonaws.sqs#QueueDoesNotExist`.
fn plain(code: &str) -> &str {
    code.rsplit('#').next().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::error::ErrorMetadata;
    use aws_sdk_sqs::operation::receive_message::ReceiveMessageError;

    use super::*;

    fn answered(status: u16, code: &str) -> InboxError {
        let meta = ErrorMetadata::builder().code(code).message("because").build();
        let raw = HttpResponse::new(status.try_into().unwrap(), "".into());
        inbox_error("jobs", &SdkError::service_error(ReceiveMessageError::generic(meta), raw))
    }

    #[test]
    fn throttling_and_server_errors_may_pass() {
        for (status, code) in
            [(400, "RequestThrottled"), (503, "ServiceUnavailable"), (429, "Slow"), (403, "ExpiredToken")]
        {
            assert!(matches!(answered(status, code), InboxError::Unavailable { .. }), "{status} {code}");
        }
    }

    #[test]
    fn what_sqs_refuses_is_refused_with_its_words() {
        let error = answered(400, "com.amazonaws.sqs#QueueDoesNotExist");
        assert_eq!(error.to_string(), "the queue jobs refuses: QueueDoesNotExist: because");
        assert!(matches!(answered(403, "AccessDenied"), InboxError::Refused { .. }));
    }

    #[test]
    fn no_answer_may_pass() {
        let error: SdkError<ReceiveMessageError, HttpResponse> = SdkError::timeout_error("slow");
        assert!(matches!(inbox_error("jobs", &error), InboxError::Unavailable { .. }));
    }
}
