//! Gets the keys of issuers over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use yard_server::access::jwt::{FetchKeys, IssuerConfig};

/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Gets keys from `jwks_url`, or from where the issuer's discovery document (OpenID Connect Discovery 1.0) says.
pub struct HttpKeys(reqwest::Client);

impl HttpKeys {
    /// A client of its own. It follows no redirects: where keys are is configuration.
    pub fn new() -> Result<Self, String> {
        // The provider is process-wide; a second installation is refused, which is fine.
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        client.build().map(Self).map_err(|e| format!("can't set up HTTP: {e}"))
    }

    async fn get(&self, url: &str) -> Result<String, String> {
        let told = |e: reqwest::Error| format!("{url}: {e}");
        let answer = self.0.get(url).header("accept", "application/json").send().await.map_err(told)?;
        if !answer.status().is_success() {
            return Err(format!("{url} answers {}", answer.status()));
        }
        let mut body = Vec::new();
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk.map_err(told)?);
            if body.len() > BYTES_MAX {
                return Err(format!("{url} answers with more than {BYTES_MAX} bytes"));
            }
        }
        String::from_utf8(body).map_err(|_| format!("{url} does not answer with a text"))
    }

    /// Where the issuer says that its keys are. It must be its own document: one that names another issuer is none.
    async fn discover(&self, issuer: &IssuerConfig) -> Result<String, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.issuer.trim_end_matches('/'));
        let document: Value =
            serde_json::from_str(&self.get(&url).await?).map_err(|e| format!("{url} is not JSON: {e}"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(&issuer.issuer) {
            return Err(format!("{url} is of another issuer"));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str);
        let keys = keys.ok_or_else(|| format!("{url} has no jwks_uri"))?;
        // As safe as the document itself was.
        if url.starts_with("https:") && !keys.starts_with("https:") {
            return Err(format!("{url} names a jwks_uri without TLS"));
        }
        Ok(keys.to_owned())
    }
}

#[async_trait]
impl FetchKeys for HttpKeys {
    async fn fetch(&self, issuer: &IssuerConfig) -> Result<String, String> {
        match &issuer.jwks_url {
            Some(url) => self.get(url).await,
            None => self.get(&self.discover(issuer).await?).await,
        }
    }
}
