//! One attempt's folder: its files, and what they say together.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;
use yard_domain::{Failure, FailureClass, RemoteName};
use yard_ports::{RemoteJob, RemoteStatus};

use crate::packages::Fetched;
use crate::record::{ExitRecord, RequestRecord};

/// What the names of folders begin with that are not complete yet.
pub(crate) const PREPARED: &str = ".new-";
const DISCARDED: &str = ".gone-";
/// A prepared folder this old belongs to a yard that died.
const ABANDONED_AFTER: Duration = Duration::from_mins(10);
/// How much of a log's end is looked at for the reason of a failure, in bytes.
const LOG_END_MAX: u64 = 1_000;
const LOG_END_LINES: usize = 5;

/// An attempt's folder, which may or may not be there.
#[derive(Debug, Clone)]
pub(crate) struct AttemptDir {
    path: PathBuf,
}

impl AttemptDir {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn of(root: &Path, name: &RemoteName) -> Self {
        Self::at(root.join(name.as_str()))
    }

    /// Makes the folder with everything in it, at once. `false` if there was one of that name.
    pub(crate) fn claim(
        root: &Path,
        name: &RemoteName,
        record: &RequestRecord,
        packages: &Fetched,
    ) -> io::Result<bool> {
        let target = Self::of(root, name);
        if target.exists()? {
            return Ok(false);
        }
        let prepared = Self::at(root.join(format!("{PREPARED}{}", Uuid::new_v4().simple())));
        fs::DirBuilder::new().mode(0o700).create(&prepared.path)?;
        let filled = prepared.fill(record).and_then(|()| packages.unpack(&prepared.path));
        let filled = filled.and_then(|()| fs::rename(&prepared.path, &target.path));
        let Err(error) = filled else { return Ok(true) };
        fs::remove_dir_all(&prepared.path)?;
        // A folder is never renamed onto one that isn't empty, and no attempt's folder is ever empty.
        let lost_race =
            matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists);
        if lost_race { Ok(false) } else { Err(error) }
    }

    fn fill(&self, record: &RequestRecord) -> io::Result<()> {
        self.create_new("lock")?;
        let mut file = self.create_new("request.json")?;
        file.write_all(&serde_json::to_vec(record)?)
    }

    /// Removes what was left by processes that died while making or discarding a folder.
    pub(crate) fn sweep(root: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let abandoned = || -> io::Result<bool> {
                Ok(entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > ABANDONED_AFTER))
            };
            if name.starts_with(DISCARDED) || name.starts_with(PREPARED) && abandoned().unwrap_or(false) {
                // Another process may be at it too; what can't be removed now stays for the next start.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Makes the folder disappear at once, then removes it (what can't be, goes at the next [`Self::sweep`]).
    /// `false` if there is none.
    pub(crate) fn discard(&self) -> io::Result<bool> {
        let Some(root) = self.path.parent() else { return Ok(false) };
        let discarded = root.join(format!("{DISCARDED}{}", Uuid::new_v4().simple()));
        match fs::rename(&self.path, &discarded) {
            Ok(()) => {
                let _ = fs::remove_dir_all(&discarded);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where its shim may write what goes wrong.
    pub(crate) fn complaints(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.join("shim.log"))
    }

    pub(crate) fn exists(&self) -> io::Result<bool> {
        fs::exists(&self.path)
    }

    /// What was asked for; `None` if it can't be read as such.
    pub(crate) fn request(&self) -> io::Result<Option<RequestRecord>> {
        Ok(self.read("request.json")?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) fn has_started(&self) -> io::Result<bool> {
        fs::exists(self.path.join("started"))
    }

    /// The point of no return: from now on it may have run. The content is only for people.
    pub(crate) fn mark_started(&self) -> io::Result<()> {
        write!(self.create_new("started")?, "shim {}", std::process::id())
    }

    /// Whether it is to be stopped. One whose folder is gone can't be known to anybody any more: it is too.
    pub(crate) fn stop_wished(&self) -> io::Result<bool> {
        Ok(fs::exists(self.path.join("stop"))? || !self.exists()?)
    }

    /// Has it stopped: by its shim, or here and now if it has none yet. Nothing happens to one that has ended.
    pub(crate) fn stop(&self) -> io::Result<()> {
        if self.status()?.is_none_or(|status| status.is_end()) {
            return Ok(());
        }
        OpenOptions::new().create(true).append(true).open(self.path.join("stop"))?;
        if self.has_started()? {
            return Ok(());
        }
        // No shim has come as far as starting it. With the lock, none will: those to come find the file.
        // Without it, there is one that will look for the file before long.
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        if self.has_started()? || self.exit()?.is_some() {
            Ok(())
        } else {
            self.write_exit(&ExitRecord::Stopped)
        }
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> io::Result<Option<RemoteStatus>> {
        let Some(bytes) = self.read("exit")? else { return Ok(None) };
        let unreadable = |_| lost("its record of the end can't be read");
        Ok(Some(serde_json::from_slice(&bytes).map_or_else(unreadable, ExitRecord::status)))
    }

    /// Records the end. Only ever called with the lock held.
    pub(crate) fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        let prepared = self.path.join("exit.new");
        fs::write(&prepared, serde_json::to_vec(record)?)?;
        fs::rename(prepared, self.path.join("exit"))
    }

    /// Takes the lock; `None` if somebody has it. It is free again when every handle on the file is closed.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        self.flock(FlockOperation::NonBlockingLockExclusive)
    }

    fn flock(&self, operation: FlockOperation) -> io::Result<Option<File>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join("lock"))?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the attempt stands; `None` if there is no folder.
    pub(crate) fn status(&self) -> io::Result<Option<RemoteStatus>> {
        match self.status_unless_discarded() {
            // Files that vanish one after the other: it is being discarded.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.exists()? => Ok(None),
            other => other,
        }
    }

    fn status_unless_discarded(&self) -> io::Result<Option<RemoteStatus>> {
        if let Some(end) = self.exit()? {
            return Ok(Some(end));
        }
        if !self.has_started()? {
            return Ok(self.exists()?.then_some(RemoteStatus::Pending));
        }
        // The lock is looked at only once `started` is there: before that, a look could make the shim
        // believe that another shim has it.
        if self.flock(FlockOperation::NonBlockingLockShared)?.is_none() {
            return Ok(Some(RemoteStatus::Running));
        }
        // It may have ended between the first look and the lock.
        Ok(Some(self.exit()?.unwrap_or_else(|| lost("its process vanished without recording an end"))))
    }

    /// The attempt as the port shows it; `None` if there is no folder. `name` must be the folder's own.
    pub(crate) fn remote_job(&self, name: &RemoteName) -> io::Result<Option<RemoteJob>> {
        let instance = self.request()?.and_then(|request| request.instance());
        let job = |status| RemoteJob { name: name.clone(), instance, status };
        Ok(self.status()?.map(job))
    }

    /// The last few lines of the log.
    pub(crate) fn log_end(&self) -> io::Result<String> {
        let mut file = File::open(self.log_path())?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_END_MAX).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<&str> =
            text.lines().rev().filter(|l| !l.trim().is_empty()).take(LOG_END_LINES).collect();
        lines.reverse();
        Ok(lines.join("\n"))
    }

    fn create_new(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn lost(message: &str) -> RemoteStatus {
    RemoteStatus::Failed(Failure::new(FailureClass::Lost, None, message))
}
