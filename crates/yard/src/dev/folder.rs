//! `.yard/`: everything that `yard dev` keeps, in one folder that one process at a time uses.
//!
//! | path | what it is |
//! |---|---|
//! | `yard.db` | the store |
//! | `yard.toml` | the configuration that was made up, for people to read |
//! | `python/` | the private Python environment |
//! | `log/` | a log of each server, and of yard itself |
//! | `run/` | a record of each server that runs: pid, start, ports |
//! | `ports/` | the ports of each server, kept over restarts |
//! | `token` | the operator token of this installation; only the owner may read it |
//! | `token-*` | the token of each Ray head; likewise |
//! | `queue/` | the queue server's state |
//! | `processes/` | attempts, where jobs run without Ray |
//! | `id`, `lock` | which folder this is; held by the process that uses it |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

/// Ports are drawn below the range from which the kernel serves outgoing connections, so that none is taken between
/// the draw and the server's start.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

/// The folder of one `yard dev`, held while this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    id: String,
    _lock: File,
}

/// Why the folder can't be used: one line.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses it.
    #[error("another `yard dev` (process {pid}) uses {path}: stop it, or use another folder with --dir", path = .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, as far as known.
        pid: String,
    },
    /// It can't be made, read or written.
    #[error("{path} can't be used: {source}; choose another folder with --dir", path = .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Folder {
    /// Opens the folder at `path`, making it if it is missing.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let fail = |source| FolderError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        let path = path.canonicalize().map_err(fail)?;
        let mut lock = OpenOptions::new();
        let mut lock =
            lock.create(true).truncate(false).read(true).write(true).open(path.join("lock")).map_err(fail)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            _ = lock.read_to_string(&mut pid);
            return Err(FolderError::InUse { path, pid: pid.trim().to_owned() });
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(fail)?;
        // It holds environments, tokens and logs: never part of the project around it.
        fs::write(path.join(".gitignore"), "*\n").map_err(fail)?;
        let id =
            kept(&path.join("id"), || Uuid::new_v4().simple().to_string()[..8].to_owned()).map_err(fail)?;
        for below in ["log", "run", "ports"] {
            fs::create_dir_all(path.join(below)).map_err(fail)?;
        }
        Ok(Self { path, id, _lock: lock })
    }

    /// What is at `below`.
    pub fn path(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// What marks the processes of the server `name`.
    pub fn mark(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// The log of the server `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("log/{name}.log"))
    }

    /// The file with the token of the server `name`, which is made at the first call. Only the owner may read it.
    pub fn token_file(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(&format!("token-{name}"));
        kept(&path, || Uuid::new_v4().simple().to_string())?;
        Ok(path)
    }

    /// The file with this installation's operator token, which is made at the first call. Only the owner may read it.
    pub fn operator_token(&self) -> io::Result<(PathBuf, String)> {
        let path = self.path("token");
        // Two of them: 244 random bits.
        let make = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let token = kept(&path, make)?;
        Ok((path, token.trim().to_owned()))
    }

    /// A folder for the server `name` with a path short enough for Unix sockets (about 100 bytes with what Ray adds).
    pub fn short_path(&self, name: &str) -> io::Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("yard-{}", self.id)).join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Removes what [`Folder::short_path`] made, logs of Ray included.
    pub fn remove_short_path(&self, name: &str) -> io::Result<()> {
        let all = std::env::temp_dir().join(format!("yard-{}", self.id));
        match fs::remove_dir_all(all.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Gone with the last of them.
        _ = fs::remove_dir(all);
        Ok(())
    }

    /// `count` free ports for the server `name`: those of the last time, if they are free.
    pub fn ports(&self, name: &str, count: usize) -> io::Result<Vec<u16>> {
        let path = self.path(&format!("ports/{name}.json"));
        let last: Option<Vec<u16>> =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(ports) =
            last.filter(|ports| ports.len() == count && ports.iter().all(|port| is_free(*port)))
        {
            return Ok(ports);
        }
        let ports = draw_ports(count)?;
        fs::write(path, serde_json::to_vec(&ports)?)?;
        Ok(ports)
    }
}

fn draw_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut ports = Vec::new();
    for _ in 0..1_000 {
        let span = u128::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(Uuid::new_v4().as_u128() % span).unwrap_or(0);
        if !ports.contains(&port) && is_free(port) {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    Err(io::Error::other(format!("no {count} free ports between {} and {}", PORTS.start, PORTS.end)))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The content of a small private file, made from `make` if it is missing.
fn kept(path: &Path, make: impl FnOnce() -> String) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(content) if !content.is_empty() => Ok(content),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let content = make();
            let mut file =
                OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
            file.write_all(content.as_bytes())?;
            Ok(content)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_process_at_a_time_and_everything_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/.yard");
        let folder = Folder::open(&path).unwrap();
        let busy = Folder::open(&path).unwrap_err().to_string();
        assert!(
            busy.contains(&format!("process {}", std::process::id())) && busy.contains("--dir"),
            "{busy}"
        );
        let (operator, secret) = folder.operator_token().unwrap();
        assert_eq!(
            (fs::metadata(&operator).unwrap().permissions().mode() & 0o777, secret.len()),
            (0o600, 64)
        );
        assert_eq!(folder.operator_token().unwrap().1, secret);
        let token = folder.token_file("east").unwrap();
        assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
        let before =
            (fs::read_to_string(&token).unwrap(), folder.ports("east", 7).unwrap(), folder.mark("x"));
        assert_eq!((before.0.len(), before.1.len()), (32, 7));
        drop(folder);
        let folder = Folder::open(&path).unwrap();
        folder.token_file("east").unwrap();
        assert_eq!(
            before,
            (fs::read_to_string(&token).unwrap(), folder.ports("east", 7).unwrap(), folder.mark("x"))
        );
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, before.1[3])).unwrap();
        assert_ne!(folder.ports("east", 7).unwrap(), before.1, "a taken port is not given out");
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::open(&file.path().join(".yard")).unwrap_err().to_string();
        assert!(error.contains("--dir") && !error.contains('\n'), "{error}");
    }
}
