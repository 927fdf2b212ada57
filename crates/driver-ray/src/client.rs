//! HTTP: TLS, the token, timeouts, and what each kind of failure means.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use yard_ports::{DriverError, PackageContent};

use crate::config::{RayConfig, RayConfigError};

/// Connections are dropped before Ray's server drops them (75 s): a call on a connection that is just being
/// closed would have to be reported as unclear.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// How much of an answer's text is shown, in bytes.
const TEXT_MAX: usize = 300;

/// The HTTP client for one cluster: with its token, its certificate authorities (beside the host's) and
/// ring as cryptography, whatever the process has or hasn't installed as its default.
pub fn client(config: &RayConfig) -> Result<Client, RayConfigError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = &config.token {
        let bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
        let mut bearer = bearer.map_err(|_| RayConfigError::Token)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Client::builder()
        .tls_backend_preconfigured(tls(config)?)
        .http1_only()
        .default_headers(headers)
        .user_agent(concat!("switchyard/", env!("CARGO_PKG_VERSION")))
        // A token must not follow wherever an answer points to.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(IDLE_MAX)
        .build()
        .map_err(|error| RayConfigError::Tls(describe(&error)))
}

fn tls(config: &RayConfig) -> Result<rustls::ClientConfig, RayConfigError> {
    let failed = |error: rustls::Error| RayConfigError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    if !config.address.starts_with("https:") {
        // Never used; asking the host for its authorities could fail where there are none.
        return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra_roots(config)?, provider);
    let verifier = Arc::new(verifier.map_err(failed)?);
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn extra_roots(config: &RayConfig) -> Result<Vec<CertificateDer<'static>>, RayConfigError> {
    let Some(path) = &config.ca_file else { return Ok(Vec::new()) };
    let failed = |problem: String| RayConfigError::CaFile { path: path.clone(), problem };
    let roots = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let roots: Vec<_> = roots.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if roots.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

/// One cluster's interface.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    base: Url,
    answer_bytes_max: usize,
}

/// A call.
pub(crate) struct Call<'a> {
    /// Its name in metrics.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Below the base address.
    pub(crate) path: &'a str,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// There was an answer, and it says no.
    Refusal(Refusal),
    /// There was none (or none to be understood), which says what about the effect.
    Driver(DriverError),
}

impl Api {
    pub(crate) fn new(config: &RayConfig) -> Result<Self, RayConfigError> {
        let failed = |problem: String| RayConfigError::Address { address: config.address.clone(), problem };
        let mut base = Url::parse(&config.address).map_err(|error| failed(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(failed("it must begin with http:// or https://".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(failed("it must not hold a password: addresses are shown and logged".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { client: client(config)?, base, answer_bytes_max: config.answer_bytes_max })
    }

    /// Makes a call and reads its answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let (name, started) = (call.name, Instant::now());
        let result = self.exchange(call).await;
        metrics::histogram!("yard_ray_call_seconds", "call" => name).record(started.elapsed().as_secs_f64());
        result
    }

    /// Sends a package. What the answer says besides 'yes' does not matter.
    pub(crate) async fn upload(
        &self,
        path: &str,
        content: PackageContent,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let url = self.base.join(path).map_err(|error| driver(DriverError::Refused(error.to_string())))?;
        let request = self.client.put(url).timeout(timeout);
        let request = request.header("content-type", "application/octet-stream");
        let request = request.header("content-length", content.bytes).body(Body::wrap_stream(content.stream));
        let response = request.send().await.map_err(|error| driver(kind_of(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await.unwrap_or_default();
        Err(CallError::Refusal(Refusal { status, text }))
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let url =
            self.base.join(call.path).map_err(|error| driver(DriverError::Refused(error.to_string())))?;
        let mut request = self.client.request(call.method, url).timeout(call.timeout);
        if let Some(body) = call.body {
            request = request.header("content-type", "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|error| driver(kind_of(&error)))?;
        let status = response.status();
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| driver(kind_of(&error)))? {
            if body.len() + piece.len() > self.answer_bytes_max {
                let limit = self.answer_bytes_max;
                return Err(driver(DriverError::Refused(format!("its answer is longer than {limit} bytes"))));
            }
            body.extend_from_slice(&piece);
        }
        if status.is_success() {
            return Ok(body.freeze());
        }
        Err(CallError::Refusal(Refusal { status, text: String::from_utf8_lossy(&body).into_owned() }))
    }

    /// Makes a call whose answer is JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, CallError> {
        let body = self.call(call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| driver(DriverError::Unclear(format!("its answer can't be read: {error}"))))
    }
}

impl<'a> Call<'a> {
    pub(crate) fn get(name: &'static str, path: &'a str, timeout: Duration) -> Self {
        Self { name, method: Method::GET, path, body: None, timeout }
    }
}

impl Refusal {
    /// What it means if the call has nothing more to say about it.
    pub(crate) fn error(&self) -> DriverError {
        let said = format!("{}: {}", self.status, self.last_line());
        match self.status.as_u16() {
            401 | 403 => DriverError::Unauthorized(said),
            404 => DriverError::NotFound,
            400 | 413 | 414 | 415 | 422 | 431 => DriverError::Refused(said),
            408 | 500.. => DriverError::Unclear(said),
            // Too many requests, a redirect to somewhere, a proxy's own troubles: nothing has happened.
            _ => DriverError::Unreachable(said),
        }
    }

    /// Ray's error texts are Python tracebacks: the last line says it.
    fn last_line(&self) -> String {
        let line = self.text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        let edge = (0..=TEXT_MAX.min(line.len())).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line[..edge].to_owned()
    }
}

impl From<CallError> for DriverError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refusal(refusal) => refusal.error(),
            CallError::Driver(error) => error,
        }
    }
}

fn driver(error: DriverError) -> CallError {
    CallError::Driver(error)
}

/// What a failure to get an answer says about the effect.
fn kind_of(error: &reqwest::Error) -> DriverError {
    let said = describe(error);
    if error.is_connect() {
        DriverError::Unreachable(said)
    } else if error.is_builder() {
        DriverError::Refused(said)
    } else {
        DriverError::Unclear(said)
    }
}

/// The whole chain of causes: it ends here, in a text.
fn describe(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = inner.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_used_are_said_so() {
        for (address, part) in [
            ("ray.example", "relative URL"),
            ("ftp://h", "http://"),
            ("http://user:pw@h", "must not hold a password"),
        ] {
            let error = Api::new(&RayConfig::new(address)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let api = Api::new(&RayConfig::new("http://h:1/ray/east")).unwrap();
        assert_eq!(api.base.as_str(), "http://h:1/ray/east/");
    }

    #[test]
    fn https_needs_no_default_provider_and_reads_its_authorities() {
        let config = RayConfig::new("https://ray.example");
        assert!(client(&config).is_ok());
        let missing = RayConfig { ca_file: Some("/no/such.pem".into()), ..config };
        assert!(matches!(client(&missing), Err(RayConfigError::CaFile { .. })));
    }

    #[test]
    fn answers_are_sorted_by_what_may_be_done() {
        let error = |status: u16, text: &str| {
            let text = text.to_owned();
            Refusal { status: StatusCode::from_u16(status).unwrap(), text }.error()
        };
        assert!(matches!(error(401, "401 Unauthorized"), DriverError::Unauthorized(_)));
        assert!(matches!(error(403, ""), DriverError::Unauthorized(_)));
        assert!(matches!(error(404, ""), DriverError::NotFound));
        assert!(matches!(error(302, ""), DriverError::Unreachable(_)));
        assert!(matches!(error(429, ""), DriverError::Unreachable(_)));
        for status in [500, 502, 503, 504] {
            assert!(matches!(error(status, ""), DriverError::Unclear(_)));
        }
        let DriverError::Refused(said) = error(400, "Traceback:\n  File\nTypeError: no\n\n") else {
            panic!()
        };
        assert_eq!(said, "400 Bad Request: TypeError: no");
    }
}
