//! A bucket of S3, with the credentials of AWS's normal chain.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};

use crate::{S3Bucket, StorageError};

/// A server of one's own has no region, but signing needs one.
const ANY_REGION: &str = "us-east-1";

pub(crate) async fn open(place: &S3Bucket) -> Result<AmazonS3, StorageError> {
    // Fails only if a provider is installed already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |reason: String| StorageError::Bucket { bucket: place.bucket.clone(), reason };
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    let region = place.region.clone().or_else(|| place.endpoint.as_ref().map(|_| ANY_REGION.to_owned()));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    let shared = loader.load().await;
    let region = shared.region().map(ToString::to_string);
    let region =
        region.ok_or_else(|| failed("no region is known: set storage.region, or AWS_REGION".into()))?;
    let chain =
        shared.credentials_provider().ok_or_else(|| failed("there is no chain of credentials".into()))?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(region)
        .with_credentials(Arc::new(Chain(chain)));
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder.build().map_err(|e| failed(e.to_string()))
}

/// The chain caches, and renews before the end.
struct Chain(SharedCredentialsProvider);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the AWS credential chain")
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.0.provide_credentials().await;
        let found = found.map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        }))
    }
}
