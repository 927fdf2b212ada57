//! `GET /v1/deliveries` and `POST /v1/deliveries/retry`: what is on its way to subscribers, and what was given up.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use yard_domain::{DeliveryState, PushName, Right, SubscriptionId, TeamId};
use yard_ports::push::{DeliveryFilter, Resend};
use yard_wire::views::{DeliveryList, DeliveryView, Problem, ResendAnswer};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Deliveries on a page unless the request says otherwise.
const PAGE: u32 = 50;
/// Most deliveries sent again in one call.
const RESEND_MAX: u32 = 1_000;
/// Most of them named in one call.
const NAMED_MAX: usize = 200;

/// Where a page ends.
struct Cursor(SubscriptionId, u64);

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(());
        let team = next()?.parse().map_err(drop)?;
        let name = next()?.parse().map_err(drop)?;
        let pos = next()?.parse().map_err(drop)?;
        if parts.next().is_some() { Err(()) } else { Ok(Self(SubscriptionId { team, name }, pos)) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

struct KnownState(DeliveryState);

impl FromStr for KnownState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || "must be pending or dead".to_owned();
        DeliveryState::from_code(text).map(Self).ok_or_else(unknown)
    }
}

#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "push", summary = "List what is on its way to subscribers",
    description = "Each is an event for a subscription that has not got it: pending, or dead after its last attempt. What has \
        arrived is not listed.",
    params(
        ("team" = Option<String>, Query, description = "Of this team"),
        ("subscription" = Option<String>, Query, description = "Of the subscription of this name"),
        ("state" = Option<String>, Query, description = "pending or dead"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 50"),
        ("cursor" = Option<String>, Query, description = "Go on after a page: its `next`"),
    ),
    responses(
        (status = 200, body = DeliveryList),
        (status = 400, description = "Parameters are wrong, with every error", body = Problem),
    )
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<DeliveryList>, ApiError> {
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    let team = params.one::<TeamId>("team");
    let name = params.one::<PushName>("subscription").map(|name| name.to_string());
    let of_state = params.one::<KnownState>("state").map(|state| state.0);
    let after = params.one_as::<Cursor>("cursor", "the `next` of the page before");
    params.finish()?;
    let teams = match team {
        Some(team) if caller.sees(&team) => Some(vec![team]),
        Some(_) => Some(Vec::new()),
        None => caller.teams(),
    };
    let after = after.map(|Cursor(subscription, pos)| (subscription, pos));
    let filter = DeliveryFilter { teams, name, state: of_state, after, limit: limit.saturating_add(1) };
    let mut rows = state.store.deliveries(&filter).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let last = if more { rows.last() } else { None };
    let next = last.map(|row| Cursor(row.subscription.clone(), row.pos).to_string());
    Ok(Json(DeliveryList { deliveries: rows.iter().map(DeliveryView::from).collect(), next }))
}

#[utoipa::path(
    post, path = "/v1/deliveries/retry", operation_id = "retry_deliveries", tag = "push", summary = "Send dead deliveries again",
    description = "They are pending again, as if they had never been tried. At most 1,000 in one call: ask again while `more` is \
        true.",
    params(
        ("team" = String, Query, description = "Of this team"),
        ("subscription" = Option<String>, Query, description = "Of the subscription of this name; by default of all"),
        ("id" = Option<String>, Query, description = "Of these events: repeat it, or use commas; by default all"),
    ),
    responses(
        (status = 200, body = ResendAnswer),
        (status = 400, description = "Parameters are wrong, with every error", body = Problem),
        (status = 404, description = "There is no such team", body = Problem),
    )
)]
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<ResendAnswer>, ApiError> {
    let team = params.one::<TeamId>("team");
    params.required("team", team.is_some(), "whose deliveries to send again");
    let name = params.one::<PushName>("subscription").map(|name| name.to_string());
    let positions = params.list_as::<u64>("id", "a whole number: the `id` of an event");
    if positions.len() > NAMED_MAX {
        params.wrong("id", "names too many events: at most 200 in one call, or none for all");
    }
    params.finish()?;
    let unknown = |team: &TeamId| ApiError::not_found(format!("there is no team {team}"));
    let Some(team) = team else { return Err(ApiError::not_found("there is no such team")) };
    if !caller.sees(&team) {
        return Err(unknown(&team));
    }
    caller.about(format!("deliveries of team {team}"));
    caller.need(Right::Submit, &team)?;
    let known = state.store.teams().await?.iter().any(|known| known.id == team);
    let which = Resend { team, name, positions, limit: RESEND_MAX };
    let resent = state.store.resend_deliveries(&which).await?;
    if resent == 0 && !known {
        return Err(unknown(&which.team));
    }
    Ok(Json(ResendAnswer { resent, more: resent == RESEND_MAX }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use yard_domain::{JobId, LeaseScope, Role};
    use yard_ports::push::{DeliveryFailure, DeliveryResult, NewDelivery, PushStep};

    use super::*;
    use crate::testing::World;

    fn to(team: &str) -> SubscriptionId {
        SubscriptionId { team: team.parse().unwrap(), name: "hook".parse().unwrap() }
    }

    /// Three deliveries for each of `ads` and `search`; the first two of each are dead.
    async fn world() -> World {
        let world = World::new().await;
        let store = &world.state.store;
        let lease = async |scope: LeaseScope| {
            store.acquire_lease(&scope, "test", Duration::from_mins(5)).await.unwrap().unwrap()
        };
        let lane = |pos| JobId::new(pos, [0; 10]);
        let made = |team, pos| NewDelivery {
            subscription: to(team),
            pos,
            lane: lane(pos),
            body: format!("{{\"id\":{pos}}}"),
        };
        let deliveries: Vec<_> =
            ["ads", "search"].iter().flat_map(|team| (1..=3).map(move |pos| made(team, pos))).collect();
        let step = PushStep { after: 0, upto: 3, deliveries: &deliveries, pending_max: 9 };
        assert!(store.step_push(&lease(LeaseScope::push_plan()).await, step).await.unwrap());
        for team in ["ads", "search"] {
            let failed = |pos| DeliveryResult {
                pos,
                lane: lane(pos),
                result: Err(DeliveryFailure { error: "answered 500".to_owned(), wait: None }),
            };
            let held = lease(LeaseScope::push(&to(team))).await;
            store.record_deliveries(&held, &to(team), &[failed(1), failed(2)]).await.unwrap();
        }
        world
    }

    #[tokio::test]
    async fn deliveries_are_listed_by_pages() {
        let world = world().await;
        let page = world.get("/v1/deliveries?state=dead&limit=3").await.json();
        let (list, next) = (page["deliveries"].as_array().unwrap(), page["next"].as_str().unwrap());
        assert_eq!((list.len(), next), (3, "search/hook/1"));
        let first = &list[0];
        assert_eq!(
            (&first["team"], &first["subscription"], &first["id"], &first["state"], &first["attempts"]),
            (&json!("ads"), &json!("hook"), &json!(1), &json!("dead"), &json!(1))
        );
        assert_eq!((&first["last_error"], &first["body"]), (&json!("answered 500"), &json!({"id": 1})));
        assert!(first["dead_at"].is_string() && first.get("due_at").is_none());
        let rest = world.get(&format!("/v1/deliveries?state=dead&limit=3&cursor={next}")).await.json();
        assert_eq!((rest["deliveries"].as_array().unwrap().len(), rest.get("next")), (1, None));
        let count = async |query: &str| {
            world.get(&format!("/v1/deliveries?{query}")).await.json()["deliveries"].as_array().unwrap().len()
        };
        assert_eq!(
            (count("").await, count("team=ads").await, count("team=ads&state=pending").await),
            (6, 3, 1)
        );
        assert_eq!((count("subscription=other").await, count("team=nobody").await), (0, 0));
        for wrong in ["state=lost", "cursor=x", "cursor=a/b/c", "team=No", "limit=0", "what=1"] {
            world.get(&format!("/v1/deliveries?{wrong}")).await.problem(400, "bad_request");
        }
    }

    #[tokio::test]
    async fn the_dead_are_sent_again() {
        let world = world().await;
        let retry = async |query: &str| world.post(&format!("/v1/deliveries/retry{query}"), &json!({})).await;
        assert_eq!(retry("?team=ads&id=2,3").await.json(), json!({"resent": 1, "more": false}));
        assert_eq!(retry("?team=ads&subscription=hook").await.json()["resent"], 1);
        assert_eq!(retry("?team=ads").await.json()["resent"], 0);
        let left = world.get("/v1/deliveries?state=dead").await.json();
        assert_eq!(left["deliveries"].as_array().unwrap().len(), 2, "another team's are left alone");
        retry("").await.problem(400, "bad_request");
        retry("?team=ads&id=x").await.problem(400, "bad_request");
        retry("?team=nobody").await.problem(404, "not_found");
    }

    #[tokio::test]
    async fn another_team_s_deliveries_are_not_there() {
        let world = world().await;
        let viewer = world.token(Role::Viewer, &["ads"]).await;
        let submitter = world.token(Role::Submitter, &["ads"]).await;
        let teams = async |query: &str| {
            let list = world.ask("GET", &format!("/v1/deliveries{query}"), &viewer.text, None).await.json();
            let list = list["deliveries"].as_array().unwrap().clone();
            list.into_iter().map(|d| d["team"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(teams("").await, ["ads"; 3]);
        assert!(teams("?team=search").await.is_empty());
        let ask = async |token: &str, team: &str| {
            world.ask("POST", &format!("/v1/deliveries/retry?team={team}"), token, None).await
        };
        ask(&viewer.text, "ads").await.problem(403, "forbidden");
        let hidden = ask(&submitter.text, "search").await.problem(404, "not_found");
        let unknown = ask(&submitter.text, "nobody").await.problem(404, "not_found");
        assert_eq!(
            hidden["detail"].as_str().unwrap().replace("search", "nobody"),
            unknown["detail"].as_str().unwrap()
        );
        assert_eq!(ask(&submitter.text, "ads").await.json()["resent"], 2);
        let lines = world.audit_lines().await;
        let done = ("delivery.retry".to_owned(), "deliveries of team ads".to_owned(), "ok".to_owned());
        assert!(lines.contains(&done), "{lines:?}");
    }
}
