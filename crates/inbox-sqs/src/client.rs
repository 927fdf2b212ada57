//! The SDK's client: credential chain, endpoint, TLS.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_smithy_http_client::tls;

use crate::config::{SqsCredentials, SqsEndpoint};

/// A client for `endpoint`. Makes no call to SQS, but may ask the environment (profile files, the instance's
/// metadata) for region and credentials.
pub(crate) async fn connect(endpoint: &SqsEndpoint, call_timeout: Duration) -> aws_sdk_sqs::Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts(call_timeout));
    if let Some(region) = region(endpoint) {
        loader = loader.region(Region::new(region));
    }
    if endpoint.credentials == SqsCredentials::Local {
        loader = loader.credentials_provider(Credentials::new("local", "local", None, None, "yard"));
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_sqs::config::Builder::from(&shared);
    if let Some(url) = &endpoint.url {
        config = config.endpoint_url(url);
    }
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// The time limits of one call that may take `span`, the SDK's own retries included.
pub(crate) fn timeouts(span: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(span.min(Duration::from_secs(5))).operation_timeout(span).build()
}

fn region(endpoint: &SqsEndpoint) -> Option<String> {
    // A local server has no region, but signing needs one: don't ask the instance's metadata for it.
    endpoint.region.clone().or_else(|| endpoint.url.as_ref().map(|_| "us-east-1".to_owned()))
}
