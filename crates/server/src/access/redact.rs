//! What the planner says of other teams' jobs, without their names: for those who don't see these teams.
//!
//! Its explanations say 'a job of team ads ends' where that is what a job waits for. Whoever does not see `ads` is told
//! 'a job of another team'. It works on the answer as JSON, so that no field is forgotten that is added later.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use yard_domain::TeamId;
use yard_wire::views::ProblemCode;

use super::Caller;
use crate::problem::ApiError;
use crate::state::AppState;

const TEAM: &str = "another team";
const JOB: &str = "a job of another team";
/// What programs decide by, and names of other things than teams and jobs. A team may be called like one of them.
const LEFT_ALONE: [&str; 13] = [
    "cause",
    "class",
    "cluster",
    "code",
    "event",
    "from",
    "kind",
    "obstacles",
    "owner_kind",
    "placed_on",
    "resource",
    "state",
    "to",
];

/// The answer as this caller may see it.
pub(crate) async fn for_caller<T: Serialize + DeserializeOwned>(
    state: &AppState,
    caller: &Caller,
    answer: T,
) -> Result<T, ApiError> {
    if caller.sees_all() {
        return Ok(answer);
    }
    let hidden: BTreeSet<TeamId> =
        state.store.stats().await?.open.into_keys().map(|(team, _)| team).collect();
    let known = state.store.teams().await?.into_iter().map(|team| team.id);
    let hidden: BTreeSet<String> = hidden
        .into_iter()
        .chain(known)
        .filter(|team| !caller.sees(team))
        .map(|team| team.to_string())
        .collect();
    let broken = |_| ApiError::new(ProblemCode::Internal, "this is a fault of the server; its log says more");
    let mut value = serde_json::to_value(answer).map_err(broken)?;
    Redactor::new(hidden, &value).redact(&mut value);
    serde_json::from_value(value).map_err(broken)
}

struct Redactor {
    teams: BTreeSet<String>,
    jobs: BTreeSet<String>,
}

impl Redactor {
    fn new(teams: BTreeSet<String>, value: &Value) -> Self {
        let mut jobs = BTreeSet::new();
        collect(value, &teams, &mut jobs);
        Self { teams, jobs }
    }

    fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.redact(value)),
            Value::Object(fields) => {
                let told = fields.iter_mut().filter(|(name, _)| !LEFT_ALONE.contains(&name.as_str()));
                told.for_each(|(_, value)| self.redact(value));
            }
            _ => {}
        }
    }

    /// Word by word: a team's name inside another word is none. A word that happens to be a team's name but is not one
    /// here is replaced as well: rather a clumsy sentence than a name.
    fn text(&self, text: &str) -> String {
        if self.teams.contains(text) {
            return TEAM.to_owned();
        }
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            told.push_str(self.word(word));
            let next = after.chars().next().map_or(0, char::len_utf8);
            told.push_str(&after[..next]);
            rest = &after[next..];
        }
        told.replace(&format!("team {TEAM}"), TEAM)
            .replace(&format!("job {JOB} of {TEAM}"), JOB)
            .replace(&format!("job {JOB}"), JOB)
    }

    fn word<'w>(&self, word: &'w str) -> &'w str {
        // A name at a sentence's end, or before a colon, is still a name; only '-' is part of names.
        if self.teams.contains(word) {
            TEAM
        } else if self.jobs.contains(word) {
            JOB
        } else {
            word
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// The jobs that stand beside one of these teams.
fn collect(value: &Value, teams: &BTreeSet<String>, jobs: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, teams, jobs)),
        Value::Object(fields) => {
            jobs.extend(foreign_job(fields, teams));
            fields.values().for_each(|value| collect(value, teams, jobs));
        }
        _ => {}
    }
}

fn foreign_job(fields: &Map<String, Value>, teams: &BTreeSet<String>) -> Option<String> {
    let team = fields.get("team")?.as_str()?;
    let job = fields.get("job")?.as_str()?;
    teams.contains(team).then(|| job.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_other_teams_and_their_jobs_are_gone_and_ones_own_stay() {
        let id = "00000000-0002-7101-8101-010101010101";
        let mut value = json!({
            "team": "ads",
            "job": "mine",
            "message": format!("it starts when job {id} of team search-1 on east ends"),
            "ahead": [{"team": "search-1", "code": "its_turn", "message": "3 jobs of team search-1 are placed first"}],
            "changes": [{"jobs": [{"job": id, "team": "search-1", "cluster": "east"}, {"job": "mine-2", "team": "ads"}]}],
            "kept": "kept for a job of team search-1, which waits; search-12 and searching stay",
        });
        Redactor::new(["search-1".to_owned()].into(), &value).redact(&mut value);
        assert_eq!(
            value,
            json!({
                "team": "ads",
                "job": "mine",
                "message": "it starts when a job of another team on east ends",
                "ahead": [{"team": "another team", "code": "its_turn", "message": "3 jobs of another team are placed first"}],
                "changes": [{"jobs": [
                    {"job": "a job of another team", "team": "another team", "cluster": "east"},
                    {"job": "mine-2", "team": "ads"},
                ]}],
                "kept": "kept for a job of another team, which waits; search-12 and searching stay",
            })
        );
    }
}
