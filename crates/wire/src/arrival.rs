//! From raw bytes to what the store commits: the same for SQS and HTTP, valid or not.

use serde_json::Value;
use yard_domain::{
    Arrival, FieldError, JobId, JobSpec, NewJob, RetryPolicy, SubmissionKey, Timeouts, Timestamp,
};

use crate::admission::Admission;
use crate::canonical::{Listed, canonical_hash, canonical_text, hash_bytes, parse_strict};
use crate::effective::effective_document;
use crate::limits::{Defaults, Limits};
use crate::submission::{self, Draft, Faults};

/// The team of a receipt for a submission from which none could be read.
pub const NO_TEAM: &str = "-";

/// The name of the HTTP API's door: in receipts, and in the configuration of who may submit for whom.
pub const API_DOOR: &str = "http";
/// The Ray Jobs API's.
pub const RAY_DOOR: &str = "ray";

/// Where a submission came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which door: `sqs:<queue>` or `http`.
    pub door: String,
    /// The message's or request's own id.
    pub message_id: String,
    /// When it was sent, by the queue's clock, if it says so.
    pub sent_at: Option<Timestamp>,
    /// Who hands it over, if the door knows.
    pub by: Option<String>,
    /// The key that came beside the document (`Idempotency-Key`), if any.
    pub key: Option<String>,
}

impl Source {
    /// The key of a submission that brings none: `sqs:<message id>`, `http:<request id>`. The same at every redelivery.
    fn fallback_key(&self) -> String {
        let kind = self.door.split(':').next().unwrap_or("-");
        format!("{kind}:{}", self.message_id)
    }
}

/// The rules by which submissions are judged.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'a> {
    /// The installation.
    pub admission: &'a Admission,
    /// Bounds on the document.
    pub limits: &'a Limits,
    /// What is filled in.
    pub defaults: &'a Defaults,
}

impl Intake<'_> {
    /// Judges what arrived. Never fails: what can't be a job becomes a list of everything that is wrong, under
    /// the team and key that it claims (as far as they can be read), so that its receipt is found.
    /// `id` is the job's id if its key turns out to be new.
    pub fn arrival(&self, raw: &[u8], source: &Source, id: JobId) -> Arrival {
        let mut faults = Faults::new(self.limits.errors_max);
        let document = self.parse(raw, &mut faults);
        let body_hash = document.as_ref().map_or_else(|| hash_bytes(raw), canonical_hash);
        self.judge(document.as_ref(), body_hash, source, id, faults)
    }

    /// Like [`Intake::arrival`], of a document that has been parsed by [`crate::canonical::parse_strict`]: for doors
    /// that answer what is no JSON in their own way.
    pub fn arrival_of(&self, document: &Value, source: &Source, id: JobId) -> Arrival {
        let faults = Faults::new(self.limits.errors_max);
        self.judge(Some(document), canonical_hash(document), source, id, faults)
    }

    /// Like [`Intake::arrival`], of a document of a list ([`crate::canonical::parse_list`]).
    pub fn arrival_listed(&self, (document, fault): &Listed, source: &Source, id: JobId) -> Arrival {
        let mut faults = Faults::new(self.limits.errors_max);
        let text = canonical_text(document);
        let max = self.limits.body_bytes_max;
        if text.len() > max {
            let message = format!("the document has {} bytes; at most {max} are allowed", text.len());
            faults.push("", "too_large", message);
        }
        if let Some(fault) = fault {
            faults.push("", "invalid", format!("is not valid JSON: {fault}"));
        }
        self.judge(Some(document), hash_bytes(text.as_bytes()), source, id, faults)
    }

    fn judge(
        &self,
        document: Option<&Value>,
        body_hash: [u8; 32],
        source: &Source,
        id: JobId,
        mut faults: Faults,
    ) -> Arrival {
        let mut draft = document.and_then(|v| {
            submission::read(v, self.limits, self.defaults, &self.admission.teams, &mut faults)
        });
        if let Some(draft) = &mut draft {
            self.admission.check(&source.door, draft, &mut faults);
        }
        let given = self.given_key(draft.as_ref(), document, source, &mut faults);
        let team = draft.as_ref().and_then(|d| d.team.as_ref()).map(ToString::to_string);
        let key = SubmissionKey {
            team: team.or_else(|| claimed_team(document)).unwrap_or_else(|| NO_TEAM.to_owned()),
            key: given.clone().unwrap_or_else(|| source.fallback_key()),
        };
        let content = match draft.and_then(|d| new_job(d, &key.key, given.is_some(), id, body_hash)) {
            Some(job) if faults.count() == 0 => Ok(Box::new(job)),
            _ => Err(self.told(faults.into_list(), source, &key)),
        };
        Arrival {
            key,
            source: source.door.clone(),
            message_id: source.message_id.clone(),
            sent_at: source.sent_at,
            by: source.by.clone(),
            body_hash,
            content,
        }
    }

    /// The errors, with the one that must not be missing whatever else is wrong: a team hears nothing of what came through a
    /// door that is not its own.
    fn told(&self, mut errors: Vec<FieldError>, source: &Source, key: &SubmissionKey) -> Vec<FieldError> {
        let team = key.team.parse::<yard_domain::TeamId>().ok();
        let kept_out = team.and_then(|team| self.admission.keeps_out(&source.door, &team));
        if let Some(error) = kept_out.filter(|error| !errors.iter().any(|e| e.code == error.code)) {
            errors.insert(0, error);
        }
        errors
    }

    fn parse(&self, raw: &[u8], faults: &mut Faults) -> Option<Value> {
        let max = self.limits.body_bytes_max;
        if raw.len() > max {
            faults.push(
                "",
                "too_large",
                format!("the document has {} bytes; at most {max} are allowed", raw.len()),
            );
            return None;
        }
        parse_strict(raw).map_err(|e| faults.push("", "invalid", format!("is not valid JSON: {e}"))).ok()
    }

    /// The key that the producer gave, in the document or beside it.
    fn given_key(
        &self,
        draft: Option<&Draft>,
        document: Option<&Value>,
        source: &Source,
        faults: &mut Faults,
    ) -> Option<String> {
        let in_document = match draft {
            Some(draft) => draft.key.clone(),
            None => claimed(document, "key").filter(|k| submission::is_key(k, self.limits)),
        };
        let Some(beside) = &source.key else { return in_document };
        if !submission::is_key(beside, self.limits) {
            let max = self.limits.key_bytes_max;
            let message = format!("is no key: use 1 to {max} visible ASCII characters, no spaces");
            faults.push("Idempotency-Key", "invalid", message);
            return in_document;
        }
        if in_document.as_ref().is_some_and(|k| k != beside) {
            let message = "differs from the document's \"key\": give one of them, or the same in both";
            faults.push("Idempotency-Key", "invalid", message);
            return in_document;
        }
        Some(beside.clone())
    }
}

/// A text field of a document that can't be read as a whole.
fn claimed(document: Option<&Value>, field: &str) -> Option<String> {
    document?.get(field)?.as_str().map(str::to_owned)
}

fn claimed_team(document: Option<&Value>) -> Option<String> {
    claimed(document, "team").filter(|t| t.parse::<yard_domain::TeamId>().is_ok())
}

/// `None` if a part is missing, which the faults then say.
fn new_job(draft: Draft, key: &str, key_given: bool, id: JobId, body_hash: [u8; 32]) -> Option<NewJob> {
    let spec = JobSpec {
        name: draft.name.unwrap_or_else(|| if key_given { key.to_owned() } else { short(&draft.entrypoint) }),
        entrypoint: draft.entrypoint,
        runtime_env: draft.runtime_env,
        request: draft.request?,
        ray_cluster: draft.ray_cluster,
        priority: draft.priority,
        clusters: draft.clusters?,
        retry: RetryPolicy { max_retries: draft.max_retries },
        timeouts: Timeouts { queue: draft.queue_timeout, run: draft.run_timeout },
        metadata: draft.metadata,
    };
    let team = draft.team?;
    let document = effective_document(&team.to_string(), key, &spec);
    Some(NewJob { id, team, key: key.to_owned(), body_hash, spec, document })
}

/// The first words of an entrypoint, as a name.
fn short(entrypoint: &str) -> String {
    const CHARS: usize = 60;
    let line = entrypoint.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(CHARS).collect()
}

#[cfg(test)]
mod pod_tests;
#[cfg(test)]
mod tests;
