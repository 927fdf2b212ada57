//! Tokens of issuers that are trusted: JSON Web Tokens (RFC 7519) whose signature is by one of the issuer's published keys.

mod claims;
mod keys;
mod ring;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tracing::debug;
use yard_domain::Grant;
use yard_wire::views::ProblemCode;

pub use claims::Mapping;
pub use keys::{FetchKeys, NoKeys};

use super::{Identity, refused};
use crate::problem::ApiError;
use keys::{Keys, NoKey};

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Longest subject that is kept, in characters.
const SUBJECT_CHARS_MAX: usize = 120;

/// How a token may be signed. Neither `none` nor shared secrets are among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSA, PKCS #1 v1.5, SHA-256; keys of 2,048 bits or more.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlgorithm {
    /// All of them, with their names in tokens.
    pub const ALL: [(&'static str, Self); 3] =
        [("RS256", Self::Rs256), ("ES256", Self::Es256), ("EdDSA", Self::EdDsa)];

    fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RS256 => Some(Self::Rs256),
            Algorithm::ES256 => Some(Self::Es256),
            Algorithm::EdDSA => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// An issuer that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Its name in histories.
    pub name: String,
    /// Its `iss`.
    pub issuer: String,
    /// The `aud` that tokens for us have.
    pub audience: String,
    /// Where its keys are; `None`: as its discovery document says.
    pub jwks_url: Option<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How far its clock may be off ours.
    pub clock_skew: Duration,
    /// How its claims are read.
    pub mapping: Mapping,
}

/// Every issuer that is trusted, with its keys.
pub(super) struct Issuers {
    issuers: Vec<(IssuerConfig, Keys)>,
    fetch: Arc<dyn FetchKeys>,
}

impl Issuers {
    pub(super) fn new(configs: &[IssuerConfig], fetch: Arc<dyn FetchKeys>) -> Self {
        ring::install();
        Self { issuers: configs.iter().map(|config| (config.clone(), Keys::default())).collect(), fetch }
    }

    /// Who it is, and what they may do.
    pub(super) async fn identify(&self, token: &str) -> Result<(Identity, Grant), ApiError> {
        let unknown = || refused("the token is not known, has expired or was revoked");
        if self.issuers.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(unknown());
        }
        // Whose it claims to be, to know by whose keys it must be checked. Nothing else of it is believed before that.
        let claims: Map<String, Value> =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| unknown())?;
        let claimed = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let (issuer, keys) =
            self.issuers.iter().find(|(config, _)| config.issuer == claimed).ok_or_else(unknown)?;
        let claims = self.checked(token, issuer, keys).await?;
        let subject = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty());
        let subject = subject.ok_or_else(|| refused("the token names nobody: it has no sub"))?;
        let subject = subject.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS_MAX).collect();
        let nothing = |why| ApiError::new(ProblemCode::Forbidden, format!("the token is good, but {why}"));
        let grant = issuer.mapping.grant(&claims).map_err(nothing)?;
        Ok((Identity::Issued { issuer: issuer.name.clone(), subject }, grant))
    }

    async fn checked(
        &self,
        token: &str,
        issuer: &IssuerConfig,
        keys: &Keys,
    ) -> Result<Map<String, Value>, ApiError> {
        let header = decode_header(token).map_err(|_| refused("the token's header can't be read"))?;
        let algorithm = SigningAlgorithm::of(header.alg).filter(|known| issuer.algorithms.contains(known));
        if algorithm.is_none() {
            return Err(refused("the token is signed in a way that is not accepted here"));
        }
        let key = keys.find(issuer, &self.fetch, header.kid.as_deref(), header.alg).await;
        let key = key.map_err(|why| match why {
            NoKey::Unknown => refused("the token is signed by a key that its issuer does not publish"),
            NoKey::Unavailable => ApiError::new(
                ProblemCode::Unavailable,
                "the issuer's keys can't be had now: try again in a moment",
            ),
        })?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = issuer.clock_skew.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer.issuer]);
        validation.set_audience(&[&issuer.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        decode::<Map<String, Value>>(token, &key, &validation).map(|data| data.claims).map_err(|error| {
            debug!(issuer = issuer.name, %error, "a token was refused");
            refused(reason(&error))
        })
    }
}

/// What is wrong with a token, without a word of it.
fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not good yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of exp, iss, aud and sub",
        _ => "the token's signature or claims are wrong",
    }
}
