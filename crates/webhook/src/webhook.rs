//! One receiver.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;
use yard_ports::{PushError, PushMessage, PushSender};

use crate::policy::AddressPolicy;
use crate::secret::Secret;

/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4_096;
/// How much of it is shown, in characters.
const TEXT_CHARS: usize = 200;
/// Longest until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are dropped after so long a silence.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How to call a receiver.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where.
    pub url: String,
    /// Each message has a signature by each of these: two while a secret is being replaced.
    pub secrets: Vec<Secret>,
    /// Longest until the receiver has answered.
    pub timeout: Duration,
    /// Which addresses may be called.
    pub policy: AddressPolicy,
}

/// Why there can be no such receiver.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// Its URL.
    #[error("the URL can't be used: {0}")]
    Url(String),
    /// TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Sends to one receiver.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    config: WebhookConfig,
}

impl Webhook {
    /// A sender. Makes no call.
    pub fn new(config: WebhookConfig) -> Result<Self, WebhookError> {
        let url = Url::parse(&config.url).map_err(|e| WebhookError::Url(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(WebhookError::Url("it must begin with https:// and name a host".to_owned()));
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls(url.scheme() == "https")?)
            .user_agent(concat!("switchyard/", env!("CARGO_PKG_VERSION")))
            // Where an answer points to, nobody has looked at.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would look the name up by itself, past the policy.
            .no_proxy()
            .dns_resolver(Arc::new(Lookup(config.policy.clone())))
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(|e| WebhookError::Tls(describe(e)))?;
        Ok(Self { client, url, config })
    }

    /// What can be said before any name is looked up.
    fn check(&self) -> Result<(), PushError> {
        if self.url.scheme() == "http" && !self.config.policy.allow_http {
            let reason = "the URL has no TLS: use https://, or allow it with push.allow_http = true";
            return Err(PushError::failed(reason));
        }
        let host = self.url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.map_or(Ok(()), |address| self.config.policy.check(address).map_err(PushError::failed))
    }
}

fn tls(used: bool) -> Result<rustls::ClientConfig, WebhookError> {
    let failed = |error: rustls::Error| WebhookError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    if !used {
        // Asking the host for its authorities could fail where there are none.
        return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    }
    let verifier = Arc::new(rustls_platform_verifier::Verifier::new(provider).map_err(failed)?);
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Looks names up, and leaves out what may not be called: the connection goes to an address that was looked at.
struct Lookup(AddressPolicy);

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let (mut allowed, mut refused): (Vec<SocketAddr>, _) = (Vec::new(), None);
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match policy.check(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => refused = Some(reason),
                }
            }
            match refused {
                Some(reason) if allowed.is_empty() => Err(reason.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[async_trait]
impl PushSender for Webhook {
    async fn send(&self, message: &PushMessage) -> Result<(), PushError> {
        self.check()?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signatures: Vec<String> = self
            .config
            .secrets
            .iter()
            .map(|secret| secret.sign(&message.id, message.sent_unix_s, &message.body))
            .collect();
        for (name, value) in [
            ("webhook-id", message.id.clone()),
            ("webhook-timestamp", message.sent_unix_s.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ] {
            let value = HeaderValue::try_from(value).map_err(|e| PushError::failed(e.to_string()))?;
            headers.insert(name, value);
        }
        let call = self.client.post(self.url.clone()).headers(headers).body(message.body.clone());
        let answer = call.send().await.map_err(|e| PushError::failed(describe(e)))?;
        judge(answer).await
    }
}

/// What an answer means.
async fn judge(mut answer: Response) -> Result<(), PushError> {
    let status = answer.status();
    let asked = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
    // Read also where it doesn't matter: only then can the connection be used again.
    let text = beginning(&mut answer).await;
    if status.is_success() {
        return Ok(());
    }
    let told = if text.is_empty() { String::new() } else { format!(": {text}") };
    if status == StatusCode::GONE {
        return Err(PushError::Gone(format!("the receiver answered {status}{told}")));
    }
    if status.is_redirection() {
        let reason =
            format!("the receiver answered {status}; redirects are not followed: name the right URL");
        return Err(PushError::failed(reason));
    }
    let reason = format!("the receiver answered {status}{told}");
    Err(PushError::Failed { reason, wait: asked.map(Duration::from_secs) })
}

/// The beginning of an answer's body, for people.
async fn beginning(answer: &mut Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - bytes.len())]);
    }
    let text = String::from_utf8_lossy(&bytes);
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(TEXT_CHARS).collect()
}

/// An error with its causes, without the URL: there may be something in it that is nobody's business.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
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

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
