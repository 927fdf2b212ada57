//! Packages: archives that clients of the Ray Jobs API upload, and that runtime environments name by URI.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::DriverError;

/// What every URI of an uploaded package begins with.
pub const PACKAGE_SCHEME: &str = "gcs://";

/// Longest name of a package, in bytes: Ray's are about 40, a wheel's rarely above 150.
pub const PACKAGE_NAME_MAX: usize = 255;

/// The name in a package's URI; `None` if there is none, or it could mean something in a path: it must be of letters,
/// digits and `. _ - + ! ~` and begin with a letter, a digit or `_`.
pub fn package_name(uri: &str) -> Option<&str> {
    let name = uri.strip_prefix(PACKAGE_SCHEME)?;
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let sound = |b: u8| first(b) || b"._-+!~".contains(&b);
    let fits =
        name.len() <= PACKAGE_NAME_MAX && name.bytes().next().is_some_and(first) && name.bytes().all(sound);
    fits.then_some(name)
}

/// A package as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// `gcs://NAME`.
    pub uri: String,
    /// Where its content is in the object store.
    pub object: String,
    /// Of the content.
    pub sha256: [u8; 32],
    /// Of the content.
    pub bytes: u64,
}

/// What became of an uploaded package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPackage {
    /// Where its content is: as given, or where the same content was already.
    pub object: String,
    /// Content that nothing names any more: to be removed from the object store.
    pub dropped: Vec<String>,
}

/// A package's content.
pub struct PackageContent {
    /// How long it is, in bytes.
    pub bytes: u64,
    /// The content itself.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// Why a package can't be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackageError {
    /// It was never uploaded, or nobody used it for longer than packages are kept.
    #[error(
        "package {0} is not here: it was not uploaded, or has not been used for so long that it was removed; submit again with the real working_dir or py_modules"
    )]
    Missing(String),
    /// Store or object store don't answer.
    #[error("package {uri} can't be read now: {reason}")]
    Unavailable {
        /// Which.
        uri: String,
        /// What went wrong.
        reason: String,
    },
    /// It is here, but a cluster can't fetch it.
    #[error("package {uri} can't be fetched by a cluster: {reason}")]
    NoLink {
        /// Which.
        uri: String,
        /// Why, and what would help.
        reason: String,
    },
}

/// Whatever goes wrong with a package, nothing was launched.
impl From<PackageError> for DriverError {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Unavailable { .. } => Self::Unreachable(error.to_string()),
            PackageError::Missing(_) | PackageError::NoLink { .. } => {
                Self::Refused(format!("runtime_env: {error}"))
            }
        }
    }
}

/// Where drivers get the packages that a job's runtime environment names.
#[async_trait]
pub trait Packages: Send + Sync {
    /// The package of this URI. Counts as a use of it: it is kept on.
    async fn open(&self, uri: &str) -> Result<PackageContent, PackageError>;
    /// Whether links are made at all.
    fn makes_links(&self) -> bool;
    /// A URL by which a cluster fetches the package itself, without a token, for as long as `life` from now. Ray finds the
    /// same files by it as by the URI. Counts as a use of the package.
    async fn link(&self, uri: &str, life: Duration) -> Result<String, PackageError>;
}

/// The packages that a runtime environment names, each once: `working_dir` and `py_modules` with [`PACKAGE_SCHEME`].
pub fn package_uris(runtime_env: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let modules = runtime_env.get("py_modules").and_then(serde_json::Value::as_array);
    let named = runtime_env.get("working_dir").into_iter().chain(modules.into_iter().flatten());
    let mut uris: Vec<String> = Vec::new();
    for uri in named.filter_map(serde_json::Value::as_str).filter(|uri| uri.starts_with(PACKAGE_SCHEME)) {
        if !uris.iter().any(|known| known == uri) {
            uris.push(uri.to_owned());
        }
    }
    uris
}

/// Puts links in the place of packages' URIs, in `working_dir` and `py_modules`.
pub fn put_links(
    runtime_env: &mut serde_json::Map<String, serde_json::Value>,
    links: &BTreeMap<String, String>,
) {
    let put = |value: &mut serde_json::Value| {
        if let Some(link) = value.as_str().and_then(|uri| links.get(uri)) {
            *value = link.as_str().into();
        }
    };
    if let Some(working_dir) = runtime_env.get_mut("working_dir") {
        put(working_dir);
    }
    if let Some(modules) = runtime_env.get_mut("py_modules").and_then(serde_json::Value::as_array_mut) {
        modules.iter_mut().for_each(put);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_runtime_environment_s_packages_are_found_once() {
        let env = json!({
            "working_dir": "gcs://_ray_pkg_a.zip",
            "py_modules": ["gcs://_ray_pkg_b.zip", "s3://x/y.zip", "gcs://_ray_pkg_a.zip", 1],
            "env_vars": {"x": "gcs://no.zip"},
        });
        assert_eq!(package_uris(env.as_object().unwrap()), ["gcs://_ray_pkg_a.zip", "gcs://_ray_pkg_b.zip"]);
        assert!(package_uris(json!({"working_dir": "/srv"}).as_object().unwrap()).is_empty());
    }

    #[test]
    fn links_take_the_place_of_packages_alone() {
        let env = json!({
            "working_dir": "gcs://a.zip",
            "py_modules": ["gcs://b.zip", "s3://x/y.zip"],
            "env_vars": {"x": "gcs://a.zip"},
        });
        let links =
            ["a", "b"].map(|name| (format!("gcs://{name}.zip"), format!("https://y/{name}.zip"))).into();
        let mut env = env.as_object().unwrap().clone();
        put_links(&mut env, &links);
        let wanted = json!({
            "working_dir": "https://y/a.zip",
            "py_modules": ["https://y/b.zip", "s3://x/y.zip"],
            "env_vars": {"x": "gcs://a.zip"},
        });
        assert_eq!(serde_json::Value::Object(env), wanted);
    }
}
