//! The keys of an issuer: fetched when they are needed, kept, and fetched again when a token names one that is not known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use tracing::warn;

use super::IssuerConfig;

/// Keys are asked for again after this.
const REFRESH: Duration = Duration::from_mins(15);
/// And not more often than this, whatever tokens name: made-up ones must not make us ask all the time.
const ASK_APART: Duration = Duration::from_secs(30);

/// Gets an issuer's keys over the network.
#[async_trait]
pub trait FetchKeys: Send + Sync {
    /// The key set (RFC 7517) as JSON; an error says for people why there is none.
    async fn fetch(&self, issuer: &IssuerConfig) -> Result<String, String>;
}

/// For installations that trust no issuer.
pub struct NoKeys;

#[async_trait]
impl FetchKeys for NoKeys {
    async fn fetch(&self, issuer: &IssuerConfig) -> Result<String, String> {
        Err(format!("nobody gets the keys of {}", issuer.name))
    }
}

#[derive(Default)]
struct Held {
    keys: Option<JwkSet>,
    fetched: Option<Instant>,
    asked: Option<Instant>,
}

/// The keys of one issuer.
#[derive(Default)]
pub(super) struct Keys(Mutex<Held>);

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys can't be had now.
    Unavailable,
}

impl Keys {
    /// The key that a token names, fit for its algorithm.
    pub(super) async fn find(
        &self,
        issuer: &IssuerConfig,
        fetch: &Arc<dyn FetchKeys>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, NoKey> {
        // Held while the keys are fetched: one asks, the others wait for its answer.
        let mut held = self.0.lock().await;
        let fresh = held.fetched.is_some_and(|at| at.elapsed() < REFRESH);
        let known = held.pick(kid, algorithm);
        if let (true, Some(key)) = (fresh, &known) {
            return Ok(key.clone());
        }
        if held.asked.is_none_or(|at| at.elapsed() >= ASK_APART) {
            held.refresh(issuer, fetch).await;
        }
        // Old keys are better than none: who has the issuer's network down must not lock everybody out.
        match held.pick(kid, algorithm).or(known) {
            Some(key) => Ok(key),
            None if held.keys.is_none() => Err(NoKey::Unavailable),
            None => Err(NoKey::Unknown),
        }
    }
}

impl Held {
    async fn refresh(&mut self, issuer: &IssuerConfig, fetch: &Arc<dyn FetchKeys>) {
        self.asked = Some(Instant::now());
        let read =
            |text: String| serde_json::from_str::<JwkSet>(&text).map_err(|e| format!("not a key set: {e}"));
        match fetch.fetch(issuer).await.and_then(read) {
            Ok(keys) => (self.keys, self.fetched) = (Some(keys), self.asked),
            Err(problem) => warn!(issuer = issuer.name, problem, "an issuer's keys can't be had"),
        }
    }

    fn pick(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fit = self.keys.iter().flat_map(|set| &set.keys).filter(|key| fits(key, algorithm));
        let key = match kid {
            Some(kid) => fit.find(|key| key.common.key_id.as_deref() == Some(kid))?,
            // Without a name it must be the only one.
            None => fit.next().filter(|_| fit.next().is_none())?,
        };
        DecodingKey::from_jwk(key).ok()
    }
}

/// Whether a key is for signatures of this algorithm.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let named = match (key.common.key_algorithm, algorithm) {
        (None, _)
        | (Some(KeyAlgorithm::RS256), Algorithm::RS256)
        | (Some(KeyAlgorithm::ES256), Algorithm::ES256)
        | (Some(KeyAlgorithm::EdDSA), Algorithm::EdDSA) => true,
        (Some(_), _) => false,
    };
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    named && kind && key.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature)
}
