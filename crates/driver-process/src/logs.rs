//! Reading an attempt's log while it grows.

use std::io::{self, SeekFrom};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::sleep;
use yard_ports::{DriverError, LogChunk};

use crate::attempt_dir::AttemptDir;
use crate::blocking::blocking;

/// Largest piece handed out at once, in bytes.
const CHUNK: usize = 64 << 10;

/// The log from `offset` on. With `follow` (the pause between looks) it ends when the attempt has ended.
pub(crate) fn stream(
    dir: AttemptDir,
    offset: u64,
    follow: Option<Duration>,
) -> impl Stream<Item = LogChunk> + Send {
    let reader = Reader { dir, offset, follow, file: None, ended: false };
    futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    })
}

struct Reader {
    dir: AttemptDir,
    offset: u64,
    follow: Option<Duration>,
    file: Option<File>,
    /// Whether the attempt had ended before the last read: then nothing comes after what is there.
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, DriverError> {
        loop {
            let chunk = self.read().await.map_err(|error| DriverError::Unreachable(error.to_string()))?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            let Some(pause) = self.follow.filter(|_| !self.ended) else { return Ok(None) };
            let dir = self.dir.clone();
            // One that has been forgotten meanwhile had ended.
            self.ended = blocking(move || dir.status()).await?.is_none_or(|status| status.is_end());
            if !self.ended {
                sleep(pause).await;
            }
        }
    }

    /// What there is; empty at the end, or as long as there is no log.
    async fn read(&mut self) -> io::Result<Bytes> {
        let file = match &mut self.file {
            Some(file) => file,
            none => match File::open(self.dir.log_path()).await {
                Ok(mut file) => {
                    match file.seek(SeekFrom::Start(self.offset)).await {
                        // Further than any file of this file system can be long: there is nothing there.
                        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(Bytes::new()),
                        sought => sought?,
                    };
                    none.insert(file)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
                Err(error) => return Err(error),
            },
        };
        let mut buffer = BytesMut::with_capacity(CHUNK);
        file.read_buf(&mut buffer).await?;
        Ok(buffer.freeze())
    }
}
