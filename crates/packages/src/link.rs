//! Links: URLs by which a cluster fetches one package, until a moment, without a token.
//!
//! What a link allows stands in it, signed with HMAC-SHA256; nothing of it is stored, so any process with the key serves
//! any link. Signature and end are in the path, not in a query: Ray tells a package's kind by how its URL ends.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use yard_domain::Timestamp;

/// The path below which links are served.
pub const LINK_PATH: &str = "/api/packages/link";
/// Shortest key, in bytes.
const KEY_BYTES_MIN: usize = 24;

/// A key that links are signed with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkKey(Vec<u8>);

/// Why a text is no key. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key for links must have {KEY_BYTES_MIN} characters or more: openssl rand -base64 32")]
pub struct BadLinkKey;

impl LinkKey {
    /// A key of this text's bytes.
    pub fn parse(text: &str) -> Result<Self, BadLinkKey> {
        let text = text.trim();
        if text.len() < KEY_BYTES_MIN { Err(BadLinkKey) } else { Ok(Self(text.as_bytes().to_vec())) }
    }

    fn mac(&self, name: &str, end_s: i64) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("yard-package-link.1\n{end_s}\n{name}").as_bytes());
        Some(mac)
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

/// Why a link opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadLink {
    /// Nobody here signed it.
    #[error("this link is not one of Switchyard's, or its key is not in use any more")]
    Signature,
    /// It was good once.
    #[error("this link has ended: it was made for an attempt that must be over")]
    Ended,
}

/// Makes links and checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    base: String,
    key: LinkKey,
    second: Option<LinkKey>,
}

impl Links {
    /// Links below `base`, the address of the API as clusters reach it, signed with `key`. Those of `second` are good, too:
    /// while one key is replaced by another.
    pub fn new(base: &str, key: LinkKey, second: Option<LinkKey>) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), key, second }
    }

    /// The link to the package of this name that is good from `now` for `life`, and up to a second longer.
    pub fn sign(&self, name: &str, now: Timestamp, life: Duration) -> String {
        let life_s = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let end_s = now.as_micros().div_euclid(1_000_000).saturating_add(life_s).saturating_add(1);
        let signed = self.key.mac(name, end_s).map(|mac| URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        format!("{}{LINK_PATH}/{end_s}.{}/{name}", self.base, signed.unwrap_or_default())
    }

    /// Whether `grant`, the part of a link before the name, opens the package of this name now.
    pub fn check(&self, grant: &str, name: &str, now: Timestamp) -> Result<(), BadLink> {
        let (end, signature) = grant.split_once('.').ok_or(BadLink::Signature)?;
        let end_s: i64 = end.parse().map_err(|_| BadLink::Signature)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadLink::Signature)?;
        let keys = std::iter::once(&self.key).chain(&self.second);
        // Compared in constant time.
        let good =
            |key: &LinkKey| key.mac(name, end_s).is_some_and(|mac| mac.verify_slice(&signature).is_ok());
        if !keys.into_iter().any(good) {
            return Err(BadLink::Signature);
        }
        if now.as_micros().div_euclid(1_000_000) >= end_s { Err(BadLink::Ended) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_500_000);

    fn key(text: &str) -> LinkKey {
        LinkKey::parse(&text.repeat(24)).unwrap()
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_micros(NOW.as_micros() + seconds * 1_000_000)
    }

    #[test]
    fn a_link_opens_its_package_until_its_end() {
        let links = Links::new("https://yard.example/", key("a"), None);
        let link = links.sign("_ray_pkg_1.zip", NOW, Duration::from_mins(1));
        let (grant, name) =
            link.strip_prefix("https://yard.example/api/packages/link/").unwrap().split_once('/').unwrap();
        assert_eq!(name, "_ray_pkg_1.zip");
        assert_eq!(links.check(grant, name, NOW), Ok(()));
        assert_eq!(links.check(grant, name, after(60)), Ok(()));
        assert_eq!(links.check(grant, name, after(61)), Err(BadLink::Ended));
    }

    #[test]
    fn nothing_of_a_link_can_be_changed() {
        let links = Links::new("http://y", key("a"), None);
        let link = links.sign("a.zip", NOW, Duration::from_mins(1));
        let grant = link.split('/').nth_back(1).unwrap();
        let (end, signature) = grant.split_once('.').unwrap();
        let later = format!("{}.{signature}", end.parse::<i64>().unwrap() + 1);
        for (grant, name) in
            [(grant, "b.zip"), (&later, "a.zip"), (end, "a.zip"), ("x.y", "a.zip"), ("", "a.zip")]
        {
            assert_eq!(links.check(grant, name, NOW), Err(BadLink::Signature), "{grant} {name}");
        }
        assert_eq!(
            Links::new("http://y", key("b"), None).check(grant, "a.zip", NOW),
            Err(BadLink::Signature)
        );
    }

    #[test]
    fn while_a_key_is_replaced_both_are_good() {
        let old = Links::new("http://y", key("a"), None).sign("a.zip", NOW, Duration::from_mins(1));
        let new = Links::new("http://y", key("b"), Some(key("a")));
        assert_eq!(new.check(old.split('/').nth_back(1).unwrap(), "a.zip", NOW), Ok(()));
        assert_eq!(LinkKey::parse("too short"), Err(BadLinkKey));
    }
}
