//! What can be asked next with what an answer holds.

use serde_json::{Value, json};

/// Operation and status, where it leads, and the parameters of that.
type Link = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const JOB: &[(&str, &str)] = &[("id", "$response.body#/id")];
const RECEIPT: &[(&str, &str)] = &[("team", "$response.body#/team"), ("key", "$response.body#/key")];
const FIRST_JOB: &[(&str, &str)] = &[("id", "$response.body#/jobs/0/id")];
const FIRST_CLUSTER: &[(&str, &str)] = &[("id", "$response.body#/clusters/0/id")];

const LINKS: &[Link] = &[
    ("submit_job", "201", "get_job", JOB),
    ("submit_job", "201", "explain_job", JOB),
    ("submit_job", "201", "job_history", JOB),
    ("submit_job", "201", "follow_job_events", JOB),
    ("submit_job", "201", "job_logs", JOB),
    ("submit_job", "201", "stop_job", JOB),
    ("submit_job", "201", "get_receipt", RECEIPT),
    ("submit_job", "200", "get_job", JOB),
    ("submit_job", "202", "get_receipt", RECEIPT),
    ("list_jobs", "200", "get_job", FIRST_JOB),
    ("list_jobs", "200", "job_history", FIRST_JOB),
    ("list_jobs", "200", "job_logs", FIRST_JOB),
    ("list_teams", "200", "explain_team", &[("team", "$response.body#/teams/0/id")]),
    ("list_clusters", "200", "drain_cluster", FIRST_CLUSTER),
    ("list_clusters", "200", "resume_cluster", FIRST_CLUSTER),
    ("list_catalog_versions", "200", "get_catalog", &[("version", "$response.body#/versions/0/version")]),
    ("create_token", "201", "revoke_token", JOB),
    ("list_tokens", "200", "revoke_token", &[("id", "$response.body#/tokens/0/id")]),
];

/// Puts the links into an operation's answers.
pub(super) fn complete(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for (_, status, to, parameters) in LINKS.iter().filter(|(from, ..)| *from == id) {
        let parameters: serde_json::Map<String, Value> =
            parameters.iter().map(|(name, from)| ((*name).to_owned(), json!(from))).collect();
        operation["responses"][*status]["links"][*to] = json!({"operationId": to, "parameters": parameters});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::openapi::{document, every_operation};

    #[test]
    fn every_link_leads_from_and_to_what_there_is() {
        let document = document(&ServerConfig::default(), &yard_wire::Limits::default());
        let find = |id: &str| every_operation(&document).find(|(_, _, o)| o["operationId"] == id).unwrap().2;
        for (from, status, to, parameters) in LINKS {
            let answer = &find(from)["responses"][status];
            assert!(answer["description"].is_string(), "{from} {status}");
            for (name, value) in *parameters {
                let known = find(to)["parameters"].as_array().unwrap().iter().any(|p| p["name"] == *name);
                assert!(known, "{to} has no parameter {name}");
                let example = answer["content"]["application/json"]["examples"].as_object().unwrap();
                let body = &example.values().next().unwrap()["value"];
                let pointer = value.strip_prefix("$response.body#").unwrap();
                assert!(body.pointer(pointer).is_some(), "{from} {status} has no {pointer}: {body}");
            }
        }
    }
}
