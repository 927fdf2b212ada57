//! Packages of a runtime environment on this host: fetched, then unpacked into the attempt's folder before anybody else
//! can see it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;
use yard_domain::RemoteName;
use yard_ports::{DriverError, Packages};
use zip::ZipArchive;

use crate::attempt_dir::PREPARED;
use crate::config::ProcessConfig;

/// The folder of an attempt in which its command runs, unless its runtime environment names one of this host.
pub(crate) const WORK: &str = "work";
/// The folder of an attempt's modules.
const MODULES: &str = "modules";

/// A package and where it belongs in an attempt's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) uri: String,
    pub(crate) place: PathBuf,
}

impl Wanted {
    pub(crate) fn working_dir(uri: &str) -> Self {
        Self { uri: uri.to_owned(), place: WORK.into() }
    }

    pub(crate) fn module(uri: &str, index: usize) -> Self {
        Self { uri: uri.to_owned(), place: Path::new(MODULES).join(index.to_string()) }
    }
}

/// How long what was fetched waits for its launch: whoever fetched it may have lost its lease meanwhile.
const WAITS_FOR: Duration = Duration::from_mins(10);

/// What was fetched for launches that are to come.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<HashMap<RemoteName, (Instant, Fetched)>>);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<RemoteName, (Instant, Fetched)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is there already, for this launch.
    pub(crate) fn has(&self, name: &RemoteName, wanted: &[Wanted]) -> bool {
        self.lock().get(name).is_some_and(|(_, fetched)| fetched.wanted == wanted)
    }

    /// Keeps it for the launch; what has waited too long for another goes.
    pub(crate) fn put(&self, name: RemoteName, fetched: Fetched) {
        let mut shelf = self.lock();
        shelf.retain(|_, (since, _)| since.elapsed() < WAITS_FOR);
        shelf.insert(name, (Instant::now(), fetched));
    }

    /// Hands it to the launch.
    pub(crate) fn take(&self, name: &RemoteName, wanted: &[Wanted]) -> Option<Fetched> {
        let (_, fetched) = self.lock().remove(name)?;
        (fetched.wanted == wanted).then_some(fetched)
    }
}

/// Archives that were fetched, in a folder of their own, which goes with this.
#[derive(Debug)]
pub(crate) struct Fetched {
    folder: PathBuf,
    wanted: Vec<Wanted>,
    bytes_max: u64,
    entries_max: usize,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // What stays is swept at the next start.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Fetched {
    /// Of a launch that wants nothing.
    pub(crate) fn nothing(config: &ProcessConfig) -> Self {
        Self::of(config, Vec::new())
    }

    fn of(config: &ProcessConfig, wanted: Vec<Wanted>) -> Self {
        let folder = config.dir.join(format!("{PREPARED}{}", Uuid::new_v4().simple()));
        let (bytes_max, entries_max) = (config.unpacked_bytes_max, config.unpacked_entries_max);
        Self { folder, wanted, bytes_max, entries_max }
    }

    /// Fetches what is wanted; nothing has been launched if that fails.
    pub(crate) async fn new(
        config: &ProcessConfig,
        packages: Option<&dyn Packages>,
        wanted: Vec<Wanted>,
    ) -> Result<Self, DriverError> {
        let failed = |e: io::Error| DriverError::Unreachable(format!("fetching packages: {e}"));
        let fetched = Self::of(config, wanted);
        let Some(packages) = packages else {
            return Err(DriverError::Refused("runtime_env: there are no packages on this host".to_owned()));
        };
        tokio::fs::create_dir(&fetched.folder).await.map_err(failed)?;
        for (i, wanted) in fetched.wanted.iter().enumerate() {
            let mut content = packages.open(&wanted.uri).await?;
            let mut file = tokio::fs::File::create(fetched.archive(i)).await.map_err(failed)?;
            while let Some(chunk) = content.stream.next().await {
                file.write_all(&chunk.map_err(failed)?).await.map_err(failed)?;
            }
            file.flush().await.map_err(failed)?;
        }
        Ok(fetched)
    }

    fn archive(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index}.zip"))
    }

    /// Unpacks everything below `folder`. An error of the kind `InvalidData` is the package's own fault.
    pub(crate) fn unpack(&self, folder: &Path) -> io::Result<()> {
        let mut left = self.bytes_max;
        for (i, wanted) in self.wanted.iter().enumerate() {
            unpack(&self.archive(i), &folder.join(&wanted.place), &mut left, self.entries_max)
                .map_err(|e| io::Error::new(e.kind(), format!("package {}: {e}", wanted.uri)))?;
        }
        Ok(())
    }
}

fn unpack(archive: &Path, target: &Path, left: &mut u64, entries_max: usize) -> io::Result<()> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut archive =
        ZipArchive::new(File::open(archive)?).map_err(|e| bad(format!("is no zip file: {e}")))?;
    if archive.len() > entries_max {
        return Err(bad(format!("has {} entries; at most {entries_max} are allowed", archive.len())));
    }
    fs::create_dir_all(target)?;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| bad(format!("can't be read: {e}")))?;
        let inside = entry.enclosed_name().filter(|_| !entry.is_symlink());
        let inside = inside.ok_or_else(|| bad(format!("holds {:?}, which leads out of it", entry.name())))?;
        let path = target.join(inside);
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = entry.unix_mode().map_or(0o600, |mode| mode & 0o700 | 0o600);
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path)?;
        // What the archive says of its sizes is only its word.
        copy(&mut entry, &mut file, left).map_err(|e| match e.kind() {
            io::ErrorKind::FileTooLarge => bad("unpacks to more than is allowed on this host".to_owned()),
            io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => bad(format!("is damaged: {e}")),
            _ => e,
        })?;
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut impl Write, left: &mut u64) -> io::Result<()> {
    let copied = io::copy(&mut from.take(left.saturating_add(1)), to)?;
    *left = left.checked_sub(copied).ok_or(io::ErrorKind::FileTooLarge)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(folder: &Path, entries: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("x.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in entries {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    #[test]
    fn an_archive_is_unpacked_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let zip = archive(folder.path(), &[("main.py", "print(1)"), ("lib/a.py", "x = 1")]);
        let (target, mut left) = (folder.path().join("out"), 20);
        unpack(&zip, &target, &mut left, 2).unwrap();
        assert_eq!(fs::read_to_string(target.join("lib/a.py")).unwrap(), "x = 1");
        assert_eq!(left, 7);
        let refused = |left: u64, entries| unpack(&zip, &target, &mut { left }, entries).unwrap_err();
        for error in [refused(12, 9), refused(99, 1)] {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }

    #[test]
    fn what_leads_out_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../evil", "/etc/evil", "a/../../evil"] {
            let zip = archive(folder.path(), &[(name, "x")]);
            let target = folder.path().join("deep/out");
            let result = unpack(&zip, &target, &mut 100, 10);
            assert!(!folder.path().join("deep/evil").exists() && !folder.path().join("evil").exists());
            if let Err(error) = result {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            }
        }
        let path = folder.path().join("x.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        zip.add_symlink("link", "/etc", SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        assert!(unpack(&path, &folder.path().join("o"), &mut 100, 10).is_err());
        fs::write(&path, "no zip").unwrap();
        assert!(unpack(&path, &folder.path().join("o"), &mut 100, 10).is_err());
    }
}
