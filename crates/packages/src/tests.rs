use std::convert::Infallible;

use futures::{TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use yard_domain::Timestamp;
use yard_ports::store::StoreLimits;
use yard_store_sqlite::SqliteOptions;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

async fn shelf(folder: &std::path::Path, limits: PackageLimits) -> Shelf {
    let options = SqliteOptions::new(StoreLimits { place_deadline: MINUTE, launch_deadline: MINUTE });
    let path = folder.join("yard.db");
    yard_store_sqlite::migrate(&path, &options).await.unwrap();
    let store = yard_store_sqlite::connect(&path, &options).await.unwrap();
    let objects = folder.join("objects");
    std::fs::create_dir_all(&objects).unwrap();
    Shelf::new(store, Arc::new(LocalFileSystem::new_with_prefix(objects).unwrap()), limits, Duration::ZERO)
}

fn uri(name: &str) -> PackageUri {
    PackageUri::new("gcs", name).unwrap()
}

async fn put(shelf: &Shelf, name: &str, chunks: &[&'static [u8]]) -> Result<(), PutError> {
    let chunks: Vec<Result<Bytes, Infallible>> = chunks.iter().map(|c| Ok(Bytes::from_static(c))).collect();
    shelf.put(&uri(name), stream::iter(chunks)).await
}

async fn read(shelf: &Shelf, name: &str) -> Result<Vec<u8>, PackageError> {
    let content = shelf.open(uri(name).as_str()).await?;
    let read: Vec<Bytes> = content.stream.try_collect().await.unwrap();
    assert_eq!(read.iter().map(Bytes::len).sum::<usize>() as u64, content.bytes);
    Ok(read.concat())
}

fn objects(folder: &std::path::Path) -> usize {
    let folder = folder.join("objects").join(FOLDER);
    if folder.exists() { std::fs::read_dir(folder).unwrap().count() } else { 0 }
}

#[tokio::test]
async fn an_upload_comes_back_as_it_was_and_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path(), PackageLimits::default()).await;
    assert!(matches!(read(&shelf, "a.zip").await, Err(PackageError::Missing(_))));
    put(&shelf, "a.zip", &[b"he", b"", b"llo"]).await.unwrap();
    put(&shelf, "b.zip", &[b"hello"]).await.unwrap();
    put(&shelf, "empty.zip", &[]).await.unwrap();
    assert_eq!(read(&shelf, "a.zip").await.unwrap(), b"hello");
    assert_eq!(read(&shelf, "b.zip").await.unwrap(), b"hello");
    assert_eq!(read(&shelf, "empty.zip").await.unwrap(), b"");
    assert_eq!(objects(folder.path()), 2);
    assert!(shelf.touch("gcs://a.zip").await.unwrap() && !shelf.touch("gcs://c.zip").await.unwrap());
}

#[tokio::test]
async fn what_is_too_large_or_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path(), PackageLimits { bytes_max: 5, ..PackageLimits::default() }).await;
    put(&shelf, "fits.zip", &[b"12345"]).await.unwrap();
    assert!(matches!(put(&shelf, "big.zip", &[b"123", b"456"]).await, Err(PutError::TooLarge(5))));
    let broken = stream::iter([Ok(Bytes::from_static(b"12")), Err("reset")]);
    assert!(matches!(shelf.put(&uri("cut.zip"), broken).await, Err(PutError::Broken(_))));
    assert!(matches!(read(&shelf, "big.zip").await, Err(PackageError::Missing(_))));
    assert_eq!(objects(folder.path()), 1);
}

#[tokio::test]
async fn what_nobody_uses_and_what_is_nobody_s_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let limits = PackageLimits { keep: Duration::ZERO, ..PackageLimits::default() };
    let shelf = shelf(folder.path(), limits).await;
    put(&shelf, "a.zip", &[b"a"]).await.unwrap();
    let long = Shelf { limits: PackageLimits::default(), ..shelf.clone() };
    put(&long, "b.zip", &[b"b"]).await.unwrap();
    std::fs::write(folder.path().join("objects").join(FOLDER).join("left-behind"), "x").unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await; // the store's clock must have moved on
    let now = shelf.store.now().await.unwrap();
    assert_eq!(shelf.collect(now).await.unwrap(), 1);
    assert_eq!(objects(folder.path()), 2);
    let later = Timestamp::from_micros(now.as_micros() + 2 * 86_400_000_000);
    // A day later what no package names is nobody's.
    assert_eq!(shelf.collect(later).await.unwrap(), 1);
    assert_eq!(read(&shelf, "b.zip").await.unwrap(), b"b");
}

#[test]
fn names_stay_below_their_folder() {
    for (protocol, name) in
        [("gcs", "../x.zip"), ("gcs", ".hidden"), ("gcs", "a/b"), ("gcs", ""), ("s3", "x.zip")]
    {
        assert!(PackageUri::new(protocol, name).is_err(), "{protocol} {name}");
    }
    assert_eq!(uri("_ray_pkg_0af.zip").as_str(), "gcs://_ray_pkg_0af.zip");
    assert!(PackageUri::new("gcs", "my_pkg-1.0+cpu-py3-none-any.whl").is_ok());
    assert!(PackageUri::new("gcs", &"x".repeat(256)).is_err());
}

fn links() -> Links {
    Links::new("http://yard:8920", LinkKey::parse("a key of enough characters").unwrap(), None)
}

fn zip(files: &[&str]) -> &'static [u8] {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for file in files {
        zip.start_file(*file, zip::write::SimpleFileOptions::default()).unwrap();
    }
    zip.finish().unwrap().into_inner().leak()
}

async fn fetch(shelf: &Shelf, link: &str) -> Result<Vec<u8>, DownloadError> {
    let (grant, name) = link.strip_prefix("http://yard:8920").unwrap().strip_prefix(LINK_PATH).unwrap()[1..]
        .split_once('/')
        .unwrap();
    let content = shelf.download(grant, name).await?;
    let read: Vec<Bytes> = content.stream.try_collect().await.unwrap();
    assert_eq!(read.iter().map(Bytes::len).sum::<usize>() as u64, content.bytes);
    Ok(read.concat())
}

#[tokio::test]
async fn a_link_gives_the_package_as_ray_has_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = shelf(folder.path(), PackageLimits::default()).await;
    let shelf = plain.clone().with_links(Some(links()));
    put(&shelf, "a.zip", &[zip(&["top/a.py", "top/b.py"])]).await.unwrap();
    put(&shelf, "empty.zip", &[zip(&[])]).await.unwrap();
    put(&shelf, "m-1-py3-none-any.whl", &[b"a wheel"]).await.unwrap();
    let fetched = fetch(&shelf, &shelf.link("gcs://a.zip", MINUTE).await.unwrap()).await.unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(fetched)).unwrap();
    let names: Vec<String> =
        (0..archive.len()).map(|i| archive.by_index(i).unwrap().name().unwrap().into_owned()).collect();
    assert_eq!(names, [shield::NAME, "top/a.py", "top/b.py"]);
    let empty = fetch(&shelf, &shelf.link("gcs://empty.zip", MINUTE).await.unwrap()).await.unwrap();
    assert_eq!(zip::ZipArchive::new(std::io::Cursor::new(empty)).unwrap().len(), 1);
    let wheel =
        fetch(&shelf, &shelf.link("gcs://m-1-py3-none-any.whl", MINUTE).await.unwrap()).await.unwrap();
    assert_eq!(wheel, b"a wheel");
    assert_eq!(read(&shelf, "a.zip").await.unwrap(), zip(&["top/a.py", "top/b.py"]), "what is stored stays");
}

#[tokio::test]
async fn no_link_is_made_to_what_it_would_not_give() {
    let folder = tempfile::tempdir().unwrap();
    let plain = shelf(folder.path(), PackageLimits::default()).await;
    let shelf = plain.clone().with_links(Some(links()));
    put(&shelf, "broken.zip", &[b"no archive"]).await.unwrap();
    put(&shelf, "a.tar.gz", &[b"tar"]).await.unwrap();
    for name in ["broken.zip", "a.tar.gz"] {
        let refused = shelf.link(uri(name).as_str(), MINUTE).await;
        assert!(matches!(refused, Err(PackageError::NoLink { .. })), "{name}: {refused:?}");
    }
    assert!(matches!(shelf.link("gcs://never.zip", MINUTE).await, Err(PackageError::Missing(_))));
    assert!(matches!(plain.link("gcs://a.tar.gz", MINUTE).await, Err(PackageError::NoLink { .. })));
}

#[tokio::test]
async fn a_link_that_has_ended_or_is_another_s_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plain = shelf(folder.path(), PackageLimits::default()).await;
    let shelf = plain.clone().with_links(Some(links()));
    put(&shelf, "a.zip", &[zip(&["a"])]).await.unwrap();
    let long_ago = Timestamp::from_micros(1_700_000_000_000_000);
    let ended = links().sign("a.zip", long_ago, MINUTE);
    assert!(matches!(fetch(&shelf, &ended).await, Err(DownloadError::Link(BadLink::Ended))));
    let link = shelf.link("gcs://a.zip", MINUTE).await.unwrap();
    let other = link.replace("a.zip", "b.zip");
    assert!(matches!(fetch(&shelf, &other).await, Err(DownloadError::Link(BadLink::Signature))));
    assert!(matches!(fetch(&plain, &link).await, Err(DownloadError::NoLinks)));
}
