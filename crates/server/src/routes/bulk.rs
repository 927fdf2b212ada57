//! `POST /v1/jobs/batch`: hand over many jobs in one request.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use yard_domain::{Arrival, Verdict};
use yard_ports::StoreError;
use yard_wire::canonical::{Listed, canonical_text, parse_list};
use yard_wire::views::{BulkAnswer, BulkRequest, BulkVerdict, Problem, ProblemCode};
use yard_wire::{Intake, Source};

use super::spill;
use super::submit::{DOOR, json_body, permit, turned_away};
use crate::access::Caller;
use crate::layers::RequestId;
use crate::problem::ApiError;
use crate::state::AppState;

#[utoipa::path(
    post, path = "/v1/jobs/batch", tag = "jobs", summary = "Hand over many jobs",
    description = "Each document gets the verdict that it would get alone; all are committed in one transaction. Answers only \
        after the commit. A document for a team that you may not submit for is `forbidden`, and the others go on. \
        Documents without a key get one from the request's id and their place.",
    request_body = BulkRequest,
    responses(
        (status = 200, description = "A verdict for each document, in their order", body = BulkAnswer),
        (status = 202, description = "The database is away: the same; what is pending is kept in a queue, to be accepted later", body = BulkAnswer),
        (status = 400, description = "The body is not a list of documents, or has too many", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 415, description = "The body is not declared to be JSON", body = Problem),
        (status = 503, description = "Nothing was committed, or it is not known: send it again", body = Problem),
    )
)]
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<BulkAnswer>), ApiError> {
    let body = json_body(&headers, body, state.limits.bulk_body_bytes_max)?;
    if headers.contains_key("idempotency-key") {
        let detail = "many documents can't share the key of one Idempotency-Key: give each its own \"key\"";
        return Err(ApiError::new(ProblemCode::BadRequest, detail));
    }
    let documents = documents(&state, &body)?;
    let arrivals = read(&state, &caller, &documents, &request.0);
    caller.about(format!("{} submissions", arrivals.len()));
    let mut verdicts: Vec<Option<BulkVerdict>> =
        arrivals.iter().map(|arrival| refused(&state, &caller, arrival)).collect();
    let each = arrivals.into_iter().zip(&documents).zip(&verdicts).filter(|(_, away)| away.is_none());
    let (let_in, texts): (Vec<Arrival>, Vec<&Value>) =
        each.map(|((arrival, (document, _)), _)| (arrival, document)).unzip();
    if !let_in.is_empty() {
        let mut given = judge(&state, let_in, &texts).await?.into_iter();
        for open in verdicts.iter_mut().filter(|v| v.is_none()) {
            *open = given.next();
        }
    }
    let verdicts: Option<Vec<BulkVerdict>> = verdicts.into_iter().collect();
    let missing = || ApiError::new(ProblemCode::Internal, "the store gave too few verdicts");
    let verdicts = verdicts.ok_or_else(missing)?;
    write_down(&caller, &verdicts);
    let waits = verdicts.iter().any(|verdict| verdict.verdict == "pending");
    let status = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(BulkAnswer { verdicts })))
}

/// Commits the verdicts on these, whose documents stand beside them; or, while the database is away, keeps them for later.
async fn judge(
    state: &AppState,
    arrivals: Vec<Arrival>,
    documents: &[&Value],
) -> Result<Vec<BulkVerdict>, ApiError> {
    let given = match state.store.accept(&arrivals).await {
        Err(error @ StoreError::Unavailable(_)) if state.spill.is_some() => {
            let texts = documents.iter().map(|document| canonical_text(document));
            let waiting: Vec<(Arrival, String)> = arrivals.into_iter().zip(texts).collect();
            return spill::put_off_many(state, &waiting, error).await;
        }
        given => given?,
    };
    if given.iter().any(|v| matches!(v, Verdict::Accepted { first: true, .. })) {
        (state.nudge)();
    }
    let verdicts = arrivals.iter().zip(&given).map(|(arrival, verdict)| {
        let verdict = BulkVerdict::new(&arrival.key, verdict);
        count(&verdict);
        verdict
    });
    Ok(verdicts.collect())
}

/// The verdict on a document that is not even looked at: nothing is kept of it. Whoever may not submit for a team does not
/// use up its rate, either.
fn refused(state: &AppState, caller: &Caller, arrival: &Arrival) -> Option<BulkVerdict> {
    if let Err(error) = permit(caller, arrival) {
        let verdict = BulkVerdict::forbidden(&arrival.key, &error.problem().detail);
        count(&verdict);
        return Some(verdict);
    }
    turned_away(state, arrival, DOOR).map(|seconds| BulkVerdict::rate_limited(&arrival.key, seconds))
}

/// For the audit log: how many of what. Which jobs they are, their histories say.
fn write_down(caller: &Caller, verdicts: &[BulkVerdict]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(&verdict.verdict).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    caller.about(format!("{} submissions: {}", verdicts.len(), told.join(", ")));
    if counts.len() == 1 && counts.contains_key("forbidden") {
        caller.came_to("forbidden");
    }
}

fn documents(state: &AppState, body: &Bytes) -> Result<Vec<Listed>, ApiError> {
    let documents = parse_list(body, "jobs").map_err(|e| {
        let detail = format!("the body must be {{\"jobs\": [document, …]}}: {e}");
        ApiError::new(ProblemCode::BadRequest, detail)
    })?;
    let (given, max) = (documents.len(), state.limits.bulk_max);
    if given > max {
        let detail = format!("\"jobs\" has {given} documents; at most {max} are allowed in one request");
        return Err(ApiError::new(ProblemCode::BadRequest, detail));
    }
    Ok(documents)
}

fn read(state: &AppState, caller: &Caller, documents: &[Listed], request: &str) -> Vec<Arrival> {
    let admission = state.admission.borrow().clone();
    let intake = Intake { admission: &admission, limits: &state.limits, defaults: &state.defaults };
    let by = caller.actor();
    let arrival = |(place, document): (usize, &Listed)| {
        let source = Source {
            door: DOOR.to_owned(),
            message_id: format!("{request}/{place}"),
            sent_at: None,
            by: Some(by.clone()),
            key: None,
        };
        let mut arrival = intake.arrival_listed(document, &source, (state.new_id)());
        spill::bind(&mut arrival);
        arrival
    };
    documents.iter().enumerate().map(arrival).collect()
}

fn count(verdict: &BulkVerdict) {
    let code = if verdict.verdict == "duplicate" { "repeated".to_owned() } else { verdict.verdict.clone() };
    metrics::counter!("yard_submissions_total", "door" => DOOR, "verdict" => code).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, header};
    use serde_json::{Value, json};
    use yard_domain::TeamId;
    use yard_wire::Limits;

    use crate::testing::{Answer, World};

    fn document(team: &str, key: &str, cpu: u32) -> Value {
        json!({"v": 1, "team": team, "key": key, "entrypoint": "x", "resources": {"cpu": cpu}})
    }

    async fn raw(world: &World, body: &str) -> Answer {
        let request = Request::post("/v1/jobs/batch").header(header::CONTENT_TYPE, "application/json");
        world.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    #[tokio::test]
    async fn each_document_gets_its_own_verdict_in_order() {
        let world = World::new().await;
        let old = world.job("old").await.to_string();
        let twice = r#"{"v": 1, "team": "ads", "key": "twice", "entrypoint": "x", "v": 1}"#;
        let list = [
            document("ads", "a", 1).to_string(),
            document("ads", "b", 99).to_string(),
            "7".to_owned(),
            twice.to_owned(),
            document("ads", "a", 1).to_string(),
            document("ads", "a", 2).to_string(),
            document("search", "old", 1).to_string(),
            r#"{"v": 1, "team": "ads", "entrypoint": "x"}"#.to_owned(),
        ];
        let answer = raw(&world, &format!("{{\"jobs\": [{}]}}", list.join(","))).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        let request = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let answer = answer.json();
        let verdicts = answer["verdicts"].as_array().unwrap();
        let names: Vec<_> = verdicts.iter().map(|v| v["verdict"].as_str().unwrap()).collect();
        let wanted =
            ["accepted", "rejected", "rejected", "rejected", "duplicate", "conflict", "conflict", "accepted"];
        assert_eq!(names, wanted, "{answer}");
        assert_eq!(verdicts[1]["errors"][0]["field"], "resources.cpu");
        assert_eq!(verdicts[2]["team"], "-");
        assert_eq!(verdicts[2]["key"], format!("http:{request}/2"));
        assert!(verdicts[3]["errors"][0]["message"].as_str().unwrap().contains("given twice"), "{answer}");
        assert_eq!((&verdicts[4]["job"], &verdicts[5]["job"]), (&verdicts[0]["job"], &verdicts[0]["job"]));
        assert_eq!(verdicts[6]["job"], old);
        assert_eq!(verdicts[7]["key"], format!("http:{request}/7"));
        assert_eq!(world.nudged(), 2, "once for the batch");
        assert_eq!(world.get("/v1/receipts/ads/b").await.json()["verdict"], "rejected");
        assert_eq!(world.get("/v1/receipts/ads/a").await.json()["job"], verdicts[0]["job"]);
    }

    #[tokio::test]
    async fn a_team_over_its_rate_does_not_hinder_others() {
        let mut world = World::new().await;
        world.state.submit_rate =
            Arc::new(
                |team: &TeamId| {
                    if team.as_str() == "ads" { Err(Duration::from_millis(1_200)) } else { Ok(()) }
                },
            );
        let body = json!({"jobs": [document("ads", "a", 1), document("search", "b", 1)]});
        let verdicts = world.post("/v1/jobs/batch", &body).await.json()["verdicts"].clone();
        assert_eq!(
            verdicts[0],
            json!({"verdict": "rate_limited", "team": "ads", "key": "a", "retry_after_s": 2})
        );
        assert_eq!(verdicts[1]["verdict"], "accepted");
        world.get("/v1/receipts/ads/a").await.problem(404, "not_found");
    }

    #[tokio::test]
    async fn what_is_no_list_or_too_much_is_refused_whole() {
        let mut world = World::new().await;
        world.state.limits = Arc::new(Limits { bulk_max: 2, bulk_body_bytes_max: 400, ..Limits::default() });
        for bad in ["[]", "{", "{\"jobs\": 1}", "{\"jobs\": [], \"more\": 1}"] {
            raw(&world, bad).await.problem(400, "bad_request");
        }
        let three = json!({"jobs": [1, 2, 3]});
        let problem = world.post("/v1/jobs/batch", &three).await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().contains("at most 2"), "{problem}");
        raw(&world, &" ".repeat(401)).await.problem(413, "body_too_large");
        let none = world.post("/v1/jobs/batch", &json!({"jobs": []})).await;
        assert_eq!(none.json(), json!({"verdicts": []}));
        let request = Request::post("/v1/jobs/batch")
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k");
        world.send(request.body(Body::from("{\"jobs\": []}")).unwrap()).await.problem(400, "bad_request");
        assert_eq!(world.get("/v1/jobs").await.json()["jobs"], json!([]));
    }
}
