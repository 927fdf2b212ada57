//! Of what is pushed to subscribers.

use serde_json::json;
use yard_wire::views::{DeliveryList, DeliveryView, PushView, ResendAnswer};

use super::{Example, JOB, KEY, LATER, NOW, TEAM, json_of};

/// The name of a subscription.
const SUBSCRIPTION: &str = "results";

/// Of what is answered.
pub(super) fn answers(operation: &str, status: &str) -> Vec<Example> {
    match (operation, status) {
        ("list_deliveries", "200") => {
            let next = Some(format!("{TEAM}/{SUBSCRIPTION}/4711"));
            vec![json_of("One that was given up", &DeliveryList { deliveries: vec![delivery()], next })]
        }
        ("retry_deliveries", "200") => {
            vec![json_of("Pending again", &ResendAnswer { resent: 3, more: false })]
        }
        _ => Vec::new(),
    }
}

fn delivery() -> DeliveryView {
    DeliveryView {
        team: TEAM.to_owned(),
        subscription: SUBSCRIPTION.to_owned(),
        id: 4711,
        state: "dead".to_owned(),
        attempts: 12,
        created_at: NOW.to_owned(),
        due_at: None,
        dead_at: Some(LATER.to_owned()),
        last_error: Some("answered 500".to_owned()),
        body: json!(pushed()),
    }
}

fn pushed() -> PushView {
    PushView {
        kind: "end".to_owned(),
        id: 4711,
        team: TEAM.to_owned(),
        key: KEY.to_owned(),
        job: Some(JOB.to_owned()),
        at: NOW.to_owned(),
        event: "succeeded".to_owned(),
        message: "succeeded".to_owned(),
        verdict: None,
        errors: Vec::new(),
        errors_left_out: 0,
        source: None,
        message_id: None,
        outcome: Some("succeeded".to_owned()),
        failure: None,
        seq: Some(6),
        actor: Some("dispatcher:east".to_owned()),
        from: Some("running".to_owned()),
        to: Some("succeeded".to_owned()),
        data: None,
        metadata: [("dag".to_owned(), "nightly".to_owned())].into(),
    }
}
