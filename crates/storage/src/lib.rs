//! Where packages and archived logs are kept: a folder that every replica sees, or a bucket of S3 (or what speaks its
//! protocol). What comes out is an [`ObjectStore`]: that trait is the port, there is none of our own. This crate only
//! opens it, so that one place knows about credentials and TLS, and keeps logs in it ([`LogObjects`]).

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use thiserror::Error;

mod logs;
mod s3;

pub use logs::LogObjects;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Files below a folder, which is made if it is missing.
    Folder(PathBuf),
    /// A bucket.
    S3(S3Bucket),
}

/// A bucket of S3, or of a server with its protocol. Credentials come from AWS's normal chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Bucket {
    /// Its name.
    pub bucket: String,
    /// What the keys of all objects begin with; may be empty.
    pub prefix: String,
    /// Its region; without it the environment's.
    pub region: Option<String>,
    /// Another server than AWS's, such as `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
}

/// Why the place can't be used.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The folder can't be made.
    #[error("the storage folder {path} can't be made or entered: {reason}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The bucket's settings don't go together.
    #[error("the storage bucket {bucket} can't be used: {reason}")]
    Bucket {
        /// Which.
        bucket: String,
        /// What is wrong.
        reason: String,
    },
}

/// Opens the place. A bucket is not called yet: whether it answers is seen at the first use.
pub async fn open(place: &Place) -> Result<Arc<dyn ObjectStore>, StorageError> {
    match place {
        Place::Folder(path) => folder(path),
        Place::S3(bucket) => {
            let store = s3::open(bucket).await?;
            Ok(match bucket.prefix.as_str() {
                "" => Arc::new(store),
                prefix => Arc::new(PrefixStore::new(store, prefix)),
            })
        }
    }
}

fn folder(path: &PathBuf) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let failed = |reason: String| StorageError::Folder { path: path.clone(), reason };
    std::fs::create_dir_all(path).map_err(|e| failed(e.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(path).map_err(|e| failed(e.to_string()))?;
    // A half-written object must never be taken for a whole one after a power cut.
    Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::ObjectStoreExt;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_folder_is_made_and_keeps_objects() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::Folder(root.path().join("a/b"));
        let objects = open(&place).await.unwrap();
        objects.put(&Path::from("logs/x"), Bytes::from_static(b"hello").into()).await.unwrap();
        let again = open(&place).await.unwrap();
        assert_eq!(again.get(&Path::from("logs/x")).await.unwrap().bytes().await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("taken");
        std::fs::write(&path, "").unwrap();
        let error = open(&Place::Folder(path.clone())).await.unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
