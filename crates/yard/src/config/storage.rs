//! `[storage]`: where packages and archived logs are kept.

use std::path::Path;

use reqwest::Url;
use yard_storage::{Place, S3Bucket};

use super::intake::http_url;
use super::reader::Table;

/// Reads `[storage]`; `None` if what it says can't be used.
pub(super) fn storage(root: &mut Table<'_, '_>) -> Option<Place> {
    let mut t = root.table("storage");
    let region = t.text("region").map(str::to_owned);
    let endpoint = t.parsed("endpoint", http_url);
    let folder = t.sources().path("");
    let place = t.parsed_or("url", "file:storage", |text| place(text, &folder));
    let place = match place {
        Some(Place::S3(bucket)) => Some(Place::S3(S3Bucket { region, endpoint, ..bucket })),
        Some(Place::Folder(path)) => {
            for (key, set) in [("region", region.is_some()), ("endpoint", endpoint.is_some())] {
                if set {
                    t.complain(
                        key,
                        "is for a bucket, but url names a folder: take it out, or set url = \"s3://…\"",
                    );
                }
            }
            Some(Place::Folder(path))
        }
        None => None,
    };
    t.finish();
    place
}

fn place(text: &str, folder: &Path) -> Result<Place, String> {
    let wrong = || format!("{text:?} is not a place to keep objects: use file:FOLDER, or s3://BUCKET/PREFIX");
    if let Some(path) = text.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(wrong()) } else { Ok(Place::Folder(folder.join(path))) };
    }
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "s3" && url.query().is_none());
    let url = url.ok_or_else(wrong)?;
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    Ok(Place::S3(S3Bucket {
        bucket: bucket.to_owned(),
        prefix: url.path().trim_matches('/').to_owned(),
        region: None,
        endpoint: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_folders_and_buckets() {
        let folder = Path::new("/etc/yard");
        let at = |text| place(text, folder);
        assert_eq!(at("file:storage"), Ok(Place::Folder("/etc/yard/storage".into())));
        assert_eq!(at("file:///srv/yard"), Ok(Place::Folder("/srv/yard".into())));
        let bucket = |prefix: &str| {
            let (bucket, prefix) = ("things".to_owned(), prefix.to_owned());
            Ok(Place::S3(S3Bucket { bucket, prefix, region: None, endpoint: None }))
        };
        assert_eq!(at("s3://things"), bucket(""));
        assert_eq!(at("s3://things/a/b/"), bucket("a/b"));
        for wrong in ["", "file:", "things", "s3://", "s3:things", "gs://things", "s3://things?x=1"] {
            assert!(at(wrong).is_err_and(|e| e.contains("use file:FOLDER")), "{wrong}");
        }
    }
}
