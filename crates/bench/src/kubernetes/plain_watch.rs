//! A watch by kube-rs alone: the floor of how soon a change is known.

use std::time::Instant;

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::LONGEST;
use crate::Result;

/// See the module.
pub struct PlainWatch {
    seen: mpsc::UnboundedReceiver<(String, Instant)>,
    task: JoinHandle<()>,
}

impl PlainWatch {
    /// Returns when all that is there has been read.
    pub async fn begin(api: Api<DynamicObject>, wanted: watcher::Config) -> Result<Self> {
        let mut events = watcher::watcher(api, wanted).boxed();
        while !matches!(events.next().await.ok_or("the watch has ended")??, Event::InitDone) {}
        let (tell, seen) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object)) = event {
                    // Nobody listens any more at the end.
                    _ = tell.send((object.name_any(), Instant::now()));
                }
            }
        });
        Ok(Self { seen, task })
    }

    /// When a change of this one was seen.
    pub async fn until(&mut self, name: &str) -> Result<Instant> {
        loop {
            let next = tokio::time::timeout(LONGEST, self.seen.recv()).await?;
            let (seen, at) = next.ok_or("the watch has ended")?;
            if seen == name {
                return Ok(at);
            }
        }
    }
}

impl Drop for PlainWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
