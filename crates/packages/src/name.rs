//! Names of packages.

use std::fmt;

use thiserror::Error;
use yard_ports::packages::{PACKAGE_SCHEME, package_name};

/// The URI of an uploaded package: `gcs://NAME`, the name of letters, digits and `. _ - + ! ~`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageUri(String);

/// Why a name can't be a package's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadName {
    /// Only what is uploaded is kept here.
    #[error("packages of the protocol {0:?} are not uploaded: only gcs is")]
    Protocol(String),
    /// Its characters or its length.
    #[error(
        "{0:?} is not the name of a package: use at most 255 letters, digits and . _ - + ! ~, beginning with a letter, a digit or _"
    )]
    Name(String),
}

impl PackageUri {
    /// From the parts of a path of the Ray Jobs API.
    pub fn new(protocol: &str, name: &str) -> Result<Self, BadName> {
        let shown = |text: &str| text.chars().take(100).collect::<String>();
        if protocol != "gcs" {
            return Err(BadName::Protocol(shown(protocol)));
        }
        let uri = format!("{PACKAGE_SCHEME}{name}");
        if package_name(&uri).is_none() {
            return Err(BadName::Name(shown(name)));
        }
        Ok(Self(uri))
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
