//! The driver itself: the port's calls over the attempts' folders.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::broadcast;
use yard_domain::{Capacity, InstanceId, RemoteName};
use yard_ports::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, Packages, RemoteStatus,
};

use crate::attempt_dir::AttemptDir;
use crate::blocking::{blocking, unreachable};
use crate::config::ProcessConfig;
use crate::packages::{Fetched, Shelf, Wanted};
use crate::record::RequestRecord;
use crate::{logs, observe};

/// News that an observer may miss before it looks at everything instead.
const NEWS_MAX: usize = 1_024;

/// Runs attempts as child processes of this host. Cheap to make; holds nothing that matters: everything is
/// in the folders.
pub struct ProcessDriver {
    config: ProcessConfig,
    environment: Vec<(OsString, OsString)>,
    /// Names of attempts of which this process knows that something has just happened.
    news: broadcast::Sender<RemoteName>,
    packages: Option<Arc<dyn Packages>>,
    shelf: Shelf,
}

impl ProcessDriver {
    /// A driver on `config.dir`, which is made if it is not there.
    pub fn new(mut config: ProcessConfig) -> io::Result<Self> {
        std::fs::create_dir_all(&config.dir)?;
        config.dir = config.dir.canonicalize()?;
        AttemptDir::sweep(&config.dir)?;
        let pass = |name: &String| std::env::var_os(name).map(|value| (OsString::from(name), value));
        let environment = config.pass_env.iter().filter_map(pass).collect();
        let (news, shelf) = (broadcast::Sender::new(NEWS_MAX), Shelf::default());
        Ok(Self { config, environment, news, packages: None, shelf })
    }

    /// The same, with where to get the packages that runtime environments name. Without, they are refused.
    #[must_use]
    pub fn with_packages(self, packages: Arc<dyn Packages>) -> Self {
        Self { packages: Some(packages), ..self }
    }

    /// What a new attempt wants; of one that is there already, nothing.
    async fn missing(&self, name: &RemoteName, wanted: Vec<Wanted>) -> Result<Vec<Wanted>, DriverError> {
        let dir = self.dir(name);
        let nothing = wanted.is_empty() || blocking(move || dir.exists()).await?;
        Ok(if nothing { Vec::new() } else { wanted })
    }

    /// What was fetched for this launch.
    async fn fetched(&self, name: &RemoteName, wanted: Vec<Wanted>) -> Result<Fetched, DriverError> {
        let wanted = self.missing(name, wanted).await?;
        if wanted.is_empty() {
            return Ok(Fetched::nothing(&self.config));
        }
        self.shelf.take(name, &wanted).ok_or_else(|| {
            DriverError::Unreachable("its packages have not been fetched, or waited too long".to_owned())
        })
    }

    fn dir(&self, name: &RemoteName) -> AttemptDir {
        AttemptDir::of(&self.config.dir, name)
    }

    fn start_shim(&self, name: &RemoteName) -> Result<(), DriverError> {
        let dir = self.dir(name);
        let complaints = dir.complaints().map_err(unreachable)?;
        let mut shim = Command::new(&self.config.shim.program)
            .args(&self.config.shim.args)
            .arg(dir.path())
            .current_dir(&self.config.dir)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .map_err(|error| {
                DriverError::Unreachable(format!("starting {}: {error}", self.config.shim.program.display()))
            })?;
        let (news, name) = (self.news.clone(), name.clone());
        // Only for speed: without this task (after a restart, say) the regular look finds out the same.
        tokio::spawn(async move {
            if let Some(mut started) = shim.stdout.take() {
                // A byte when the command has started, or the end if it hasn't: a look is due either way.
                let _ = started.read_u8().await;
                let _ = news.send(name.clone());
            }
            if let Err(error) = shim.wait().await {
                tracing::warn!(%name, %error, "waiting for a shim");
            }
            let _ = news.send(name);
        });
        Ok(())
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn prepare(&self, request: &LaunchRequest) -> Result<(), DriverError> {
        let (_, wanted) = RequestRecord::new(request, &self.config).map_err(DriverError::Refused)?;
        let wanted = self.missing(&request.name, wanted).await?;
        if !wanted.is_empty() && !self.shelf.has(&request.name, &wanted) {
            let fetched = Fetched::new(&self.config, self.packages.as_deref(), wanted).await?;
            self.shelf.put(request.name.clone(), fetched);
        }
        Ok(())
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        let (record, wanted) = RequestRecord::new(request, &self.config).map_err(DriverError::Refused)?;
        let fetched = self.fetched(&request.name, wanted).await?;
        let (root, name, ours) = (self.config.dir.clone(), request.name.clone(), request.instance);
        let found = blocking(move || {
            if AttemptDir::claim(&root, &name, &record, &fetched)? {
                return Ok(Found::Nothing);
            }
            let Some(job) = AttemptDir::of(&root, &name).remote_job(&name)? else {
                return Ok(Found::Vanished);
            };
            Ok(Found::Job(job.instance, job.status))
        })
        .await?;
        let outcome = match found {
            Found::Nothing => LaunchOutcome::Launched,
            Found::Job(instance, status) if instance == Some(ours) => LaunchOutcome::Adopted(status),
            Found::Job(..) => return Err(DriverError::NameTaken(request.name.to_string())),
            Found::Vanished => {
                return Err(DriverError::Unreachable("it was being removed just now".to_owned()));
            }
        };
        // One that was only made (its launcher died, or is just at it) gets a shim: several do no harm.
        if matches!(outcome, LaunchOutcome::Launched | LaunchOutcome::Adopted(RemoteStatus::Pending)) {
            self.start_shim(&request.name)?;
        }
        Ok(outcome)
    }

    fn observe(&self) -> ObservationStream {
        observe::stream(&self.config, self.news.subscribe()).boxed()
    }

    async fn stop(&self, name: &RemoteName) -> Result<(), DriverError> {
        let dir = self.dir(name);
        let there = blocking(move || {
            if !dir.exists()? {
                return Ok(false);
            }
            dir.stop().map(|()| true)
        })
        .await?;
        // It may just have ended without a shim whose end would be news.
        let _ = self.news.send(name.clone());
        if there { Ok(()) } else { Err(DriverError::NotFound) }
    }

    async fn forget(&self, name: &RemoteName) -> Result<(), DriverError> {
        let dir = self.dir(name);
        let forgotten = blocking(move || match dir.status()? {
            None => Ok(None),
            Some(status) if !status.is_end() => Ok(Some(false)),
            Some(_) => dir.discard().map(|there| there.then_some(true)),
        });
        match forgotten.await? {
            Some(true) => Ok(()),
            Some(false) => Err(DriverError::Refused("it has not ended".to_owned())),
            None => Err(DriverError::NotFound),
        }
    }

    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
        let dir = self.dir(name);
        let there = {
            let dir = dir.clone();
            blocking(move || dir.exists())
        }
        .await?;
        if !there {
            return Err(DriverError::NotFound);
        }
        Ok(logs::stream(dir, offset, follow.then_some(self.config.log_poll)).boxed())
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        Ok(self.config.capacity.clone())
    }
}

/// What a launch finds under its name.
enum Found {
    Nothing,
    Job(Option<InstanceId>, RemoteStatus),
    Vanished,
}

impl std::fmt::Debug for ProcessDriver {
    /// Without the environment's values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessDriver").field("config", &self.config).finish_non_exhaustive()
    }
}
