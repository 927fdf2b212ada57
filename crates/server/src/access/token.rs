//! API tokens: `yard_<id>_<secret>`. The id finds the row, the secret proves.
//!
//! A secret is 256 bits from the operating system, so it can't be guessed, and a fast hash of it is as good as a slow
//! one: slow hashes make up for secrets that people choose. Hashes are compared in constant time.

use std::fmt::Write;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use yard_domain::{SecretHash, TokenId};

const PREFIX: &str = "yard_";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A token as it is handed out, once.
pub struct FreshToken {
    /// Its id.
    pub id: TokenId,
    /// All of it: what is sent as a bearer.
    pub text: String,
    /// What is kept of its secret.
    pub secret: SecretHash,
}

impl FreshToken {
    /// A new one; an error if the operating system gives no randomness.
    pub fn make() -> Result<Self, String> {
        let (mut id, mut secret) = ([0; 8], [0; SECRET_BYTES]);
        for bytes in [&mut id[..], &mut secret[..]] {
            SysRng.try_fill_bytes(bytes).map_err(|e| format!("no randomness: {e}"))?;
        }
        let id = TokenId::new(u64::from_be_bytes(id));
        let secret = secret.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            _ = write!(text, "{byte:02x}");
            text
        });
        let hash = hash(&secret);
        Ok(Self { text: format!("{PREFIX}{id}_{secret}"), id, secret: hash })
    }
}

/// What is kept of a secret.
pub fn hash(secret: &str) -> SecretHash {
    SecretHash(Sha256::digest(secret.as_bytes()).into())
}

/// Whether two hashes are of one secret, in a time that tells nothing.
pub(super) fn is_same(a: SecretHash, b: SecretHash) -> bool {
    a.0.ct_eq(&b.0).into()
}

/// The id and the secret's hash out of a token that was sent; `None` if it is no API token.
pub(super) fn parse(text: &str) -> Option<(TokenId, SecretHash)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((id.parse().ok()?, hash(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_no_two_are_alike() {
        let (one, two) = (FreshToken::make().unwrap(), FreshToken::make().unwrap());
        assert_ne!((&one.id, one.secret), (&two.id, two.secret));
        assert_eq!(one.text.len(), 5 + 16 + 1 + 64);
        let (id, secret) = parse(&one.text).unwrap();
        assert!(id == one.id && is_same(secret, one.secret) && !is_same(secret, two.secret));
        for wrong in ["", "yard_", "yard_1_x", "x", &one.text[..20], &one.text.to_uppercase()] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
