//! What is written in an attempt's folder. Both forms only ever gain optional fields: a newer yard meets
//! the folders of an older one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use yard_domain::{Failure, FailureClass, InstanceId};
use yard_ports::packages::package_name;
use yard_ports::{LaunchRequest, RemoteStatus};

use crate::config::ProcessConfig;
use crate::packages::Wanted;

/// `request.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    instance: String,
    pub(crate) name: String,
    pub(crate) job: String,
    pub(crate) attempt: u32,
    pub(crate) team: String,
    job_name: String,
    metadata: BTreeMap<String, String>,
    pub(crate) entrypoint: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) working_dir: Option<PathBuf>,
    stop_grace_ms: u64,
    stop_poll_ms: u64,
    run_timeout_ms: u64,
}

impl RequestRecord {
    /// What to write for `request`, and the packages that it wants; `Err` says everything that this host can't do.
    pub(crate) fn new(
        request: &LaunchRequest,
        config: &ProcessConfig,
    ) -> Result<(Self, Vec<Wanted>), String> {
        let mut runtime = Runtime::read(&request.runtime_env)?;
        let folder = config.dir.join(request.name.as_str());
        runtime.add_python_path(&folder);
        let packages = std::mem::take(&mut runtime.packages);
        let record = Self {
            instance: request.instance.to_string(),
            name: request.name.to_string(),
            job: request.job.to_string(),
            attempt: request.attempt.0,
            team: request.team.to_string(),
            job_name: request.job_name.clone(),
            metadata: request.metadata.clone(),
            entrypoint: request.entrypoint.clone(),
            env: runtime.env,
            working_dir: runtime.working_dir,
            stop_grace_ms: millis(config.stop_grace),
            stop_poll_ms: millis(config.stop_poll).max(1),
            run_timeout_ms: millis(request.run_timeout),
        };
        Ok((record, packages))
    }

    /// Whose it is; `None` if that can't be told.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        Uuid::try_parse(&self.instance).ok().map(InstanceId)
    }

    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }

    pub(crate) fn stop_poll(&self) -> Duration {
        Duration::from_millis(self.stop_poll_ms)
    }

    pub(crate) fn run_timeout(&self) -> Duration {
        Duration::from_millis(self.run_timeout_ms)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The part of Ray's runtime environment that means something without Ray.
#[derive(Debug, Default)]
struct Runtime {
    env: BTreeMap<String, String>,
    working_dir: Option<PathBuf>,
    packages: Vec<Wanted>,
}

impl Runtime {
    /// Python finds what was unpacked, as it does on a Ray cluster.
    fn add_python_path(&mut self, folder: &Path) {
        let mut paths: Vec<String> =
            self.packages.iter().map(|p| folder.join(&p.place).display().to_string()).collect();
        if paths.is_empty() {
            return;
        }
        paths.extend(self.env.get("PYTHONPATH").cloned());
        self.env.insert("PYTHONPATH".to_owned(), paths.join(":"));
    }

    fn read_modules(&mut self, modules: &[Value], problems: &mut Vec<String>) {
        for (i, module) in modules.iter().enumerate() {
            match module.as_str().filter(|uri| is_archive(uri)) {
                Some(uri) => self.packages.push(Wanted::module(uri, i)),
                None => problems.push(format!(
                    "runtime_env.py_modules[{i}] must be an uploaded .zip or .whl; others need a Ray cluster"
                )),
            }
        }
    }

    fn read(given: &serde_json::Map<String, Value>) -> Result<Self, String> {
        let mut runtime = Self::default();
        let mut problems = Vec::new();
        for (key, value) in given {
            match (key.as_str(), value) {
                ("env_vars", Value::Object(vars)) => {
                    for (name, value) in vars {
                        match value {
                            Value::String(text) if is_env(name, text) => {
                                runtime.env.insert(name.clone(), text.clone());
                            }
                            _ => problems.push(format!(
                                "runtime_env.env_vars.{name} can't be an environment variable"
                            )),
                        }
                    }
                }
                ("env_vars", _) => problems.push("runtime_env.env_vars must map names to texts".to_owned()),
                ("working_dir", Value::String(path)) if path.starts_with('/') => {
                    runtime.working_dir = Some(PathBuf::from(path));
                }
                ("working_dir", Value::String(uri)) if is_archive(uri) => {
                    // First on PYTHONPATH.
                    runtime.packages.insert(0, Wanted::working_dir(uri));
                }
                ("working_dir", _) => problems.push(
                    "runtime_env.working_dir must be an absolute path on this host, or an uploaded .zip"
                        .to_owned(),
                ),
                ("py_modules", Value::Array(modules)) => runtime.read_modules(modules, &mut problems),
                // The client has used it already.
                ("excludes", _) => {}
                _ => problems.push(format!("runtime_env.{key} needs a Ray cluster")),
            }
        }
        if problems.is_empty() { Ok(runtime) } else { Err(problems.join("; ")) }
    }
}

/// Whether this is a package that can be unpacked here.
fn is_archive(uri: &str) -> bool {
    let unpacks = Path::new(uri).extension().is_some_and(|e| e == "zip" || e == "whl");
    unpacks && package_name(uri).is_some()
}

fn is_env(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// `exit`: how an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub(crate) enum ExitRecord {
    /// Because somebody wished it, before or after it had started.
    Stopped,
    /// Because it ran too long.
    TimedOut { limit_ms: u64 },
    /// By itself.
    Exited { code: i32, log_end: String },
    /// By a signal that was not the shim's.
    Signaled { signal: i32, log_end: String },
    /// The command could not be started.
    NotStarted { class: String, reason: String },
}

impl ExitRecord {
    /// The same in the port's words.
    pub(crate) fn status(self) -> RemoteStatus {
        let failed = |class, code, message: String| RemoteStatus::Failed(Failure::new(class, code, message));
        match self {
            Self::Stopped => RemoteStatus::Stopped,
            Self::TimedOut { limit_ms } => {
                let message = format!("ran longer than {} s", limit_ms.div_ceil(1_000));
                failed(FailureClass::RunTimeout, None, message)
            }
            Self::Exited { code: 0, .. } => RemoteStatus::Succeeded,
            Self::Exited { code, log_end } => failed(FailureClass::User, Some(code), log_end),
            Self::Signaled { signal, log_end } if log_end.is_empty() => {
                failed(FailureClass::User, None, format!("killed by signal {signal}"))
            }
            Self::Signaled { signal, log_end } => failed(
                FailureClass::User,
                None,
                format!("killed by signal {signal}; its log ends: {log_end}"),
            ),
            Self::NotStarted { class, reason } => {
                failed(FailureClass::from_code(&class).unwrap_or(FailureClass::Launch), None, reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(json: &serde_json::Value) -> Result<Runtime, String> {
        Runtime::read(json.as_object().unwrap())
    }

    #[test]
    fn every_part_of_a_runtime_env_that_cannot_be_had_is_named() {
        let problems = runtime(&serde_json::json!({
            "pip": ["torch"], "working_dir": "s3://b/x.zip", "env_vars": {"A": 1, "B=": "x", "OK": "y"},
        }))
        .unwrap_err();
        for part in
            ["pip needs a Ray cluster", "working_dir must be", "env_vars.A can't", "env_vars.B= can't"]
        {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert!(!problems.contains("OK"), "{problems}");
        let good = runtime(&serde_json::json!({"env_vars": {"A": "1"}, "working_dir": "/tmp"})).unwrap();
        assert_eq!(good.env, BTreeMap::from([("A".to_owned(), "1".to_owned())]));
        assert_eq!(good.working_dir, Some(PathBuf::from("/tmp")));
    }

    #[test]
    fn packages_are_found_with_their_places() {
        let mut read = runtime(&serde_json::json!({
            "working_dir": "gcs://_ray_pkg_1.zip", "py_modules": ["gcs://_ray_pkg_2.zip"], "excludes": ["x"],
            "env_vars": {"PYTHONPATH": "/mine"},
        }))
        .unwrap();
        let wanted = [Wanted::working_dir("gcs://_ray_pkg_1.zip"), Wanted::module("gcs://_ray_pkg_2.zip", 0)];
        assert_eq!(read.packages, wanted);
        read.add_python_path(Path::new("/a"));
        assert_eq!(read.env["PYTHONPATH"], "/a/work:/a/modules/0:/mine");
        let wrong = serde_json::json!({"py_modules": ["gcs://x.tar.gz", "gcs://../x.zip", 1]});
        assert_eq!(runtime(&wrong).unwrap_err().matches("must be an uploaded").count(), 3);
    }

    #[test]
    fn exits_read_as_the_ports_states() {
        let log_end = "boom".to_owned();
        let user =
            |code, message: &str| RemoteStatus::Failed(Failure::new(FailureClass::User, code, message));
        assert_eq!(
            ExitRecord::Exited { code: 0, log_end: log_end.clone() }.status(),
            RemoteStatus::Succeeded
        );
        assert_eq!(ExitRecord::Exited { code: 3, log_end }.status(), user(Some(3), "boom"));
        let killed = ExitRecord::Signaled { signal: 9, log_end: String::new() };
        assert_eq!(killed.status(), user(None, "killed by signal 9"));
        assert_eq!(ExitRecord::Stopped.status(), RemoteStatus::Stopped);
    }
}
