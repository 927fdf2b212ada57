//! The placement policy as JSON text, to and fro. What a text does not name stands as by default, so that a binary
//! that knows more choices reads what one that knows fewer has written.

use std::time::Duration;

use serde_json::{Map, Value, json};
use yard_domain::policy::{Fit, Preemption, Scores};
use yard_domain::{Policy, Priority, PriorityClass};

pub(crate) fn write_policy(policy: &Policy) -> String {
    let Policy { scores, preemption, .. } = policy;
    let classes = policy.classes.iter().map(|class| {
        json!({
            "id": class.id.as_str(),
            "priority": class.priority.get(),
            "preempts": class.preempts,
            "preemptible": class.preemptible,
        })
    });
    json!({
        "placements_max": policy.placements_max,
        "half_life_us": policy.half_life.map(|h| u64::try_from(h.as_micros()).unwrap_or(u64::MAX)),
        "reservations_max": policy.reservations_max,
        "scores": {
            "fit": scores.fit.code(),
            "fit_weight": scores.fit_weight,
            "cost_weight": scores.cost_weight,
            "locality_weight": scores.locality_weight,
            "failures_weight": scores.failures_weight,
            "queue_weight": scores.queue_weight,
        },
        "preemption": {
            "reclaim": preemption.reclaim,
            "within_team": preemption.within_team,
            "victims_max": preemption.victims_max,
        },
        "classes": classes.collect::<Vec<_>>(),
    })
    .to_string()
}

pub(crate) fn read_policy(text: &str) -> Option<Policy> {
    let value: Map<String, Value> = serde_json::from_str(text).ok()?;
    let usual = Policy::default();
    let none = Map::new();
    let part = |name: &str| value.get(name).map_or(Some(&none), Value::as_object);
    let (scores, preemption) = (part("scores")?, part("preemption")?);
    let classes = match value.get("classes") {
        None => usual.classes,
        Some(list) => list.as_array()?.iter().map(read_class).collect::<Option<_>>()?,
    };
    let half_life = match value.get("half_life_us") {
        None | Some(Value::Null) => None,
        Some(micros) => Some(Duration::from_micros(micros.as_u64()?)),
    };
    Some(Policy {
        placements_max: number(&value, "placements_max", usual.placements_max)?,
        half_life,
        reservations_max: number(&value, "reservations_max", usual.reservations_max)?,
        scores: Scores {
            fit: scores.get("fit").map_or(Some(usual.scores.fit), |fit| Fit::from_code(fit.as_str()?))?,
            fit_weight: number(scores, "fit_weight", usual.scores.fit_weight)?,
            cost_weight: number(scores, "cost_weight", usual.scores.cost_weight)?,
            locality_weight: number(scores, "locality_weight", usual.scores.locality_weight)?,
            failures_weight: number(scores, "failures_weight", usual.scores.failures_weight)?,
            queue_weight: number(scores, "queue_weight", usual.scores.queue_weight)?,
        },
        preemption: Preemption {
            reclaim: flag(preemption, "reclaim", usual.preemption.reclaim)?,
            within_team: flag(preemption, "within_team", usual.preemption.within_team)?,
            victims_max: number(preemption, "victims_max", usual.preemption.victims_max)?,
        },
        classes,
    })
}

fn read_class(value: &Value) -> Option<PriorityClass> {
    Some(PriorityClass {
        id: value.get("id")?.as_str()?.parse().ok()?,
        priority: Priority::new(value.get("priority")?.as_i64()?)?,
        preempts: value.get("preempts")?.as_bool()?,
        preemptible: value.get("preemptible")?.as_bool()?,
    })
}

fn number(value: &Map<String, Value>, name: &str, usual: u32) -> Option<u32> {
    value.get(name).map_or(Some(usual), |number| u32::try_from(number.as_u64()?).ok())
}

fn flag(value: &Map<String, Value>, name: &str, usual: bool) -> Option<bool> {
    value.get(name).map_or(Some(usual), Value::as_bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(read_policy(&write_policy(&Policy::default())), Some(Policy::default()));
        let policy = Policy {
            placements_max: 1,
            half_life: Some(Duration::from_hours(24)),
            scores: Scores {
                fit: Fit::Pack,
                fit_weight: 2,
                cost_weight: 3,
                locality_weight: 4,
                failures_weight: 5,
                queue_weight: 6,
            },
            reservations_max: 7,
            preemption: Preemption { reclaim: false, within_team: false, victims_max: 8 },
            classes: vec![PriorityClass {
                id: "high".parse().unwrap(),
                priority: Priority::new(-9).unwrap(),
                preempts: true,
                preemptible: true,
            }],
        };
        assert_eq!(read_policy(&write_policy(&policy)), Some(policy));
    }

    #[test]
    fn what_is_not_named_is_as_by_default_and_what_does_not_fit_is_refused() {
        assert_eq!(read_policy("{}"), Some(Policy::default()));
        for bad in ["", "[]", r#"{"placements_max":-1}"#, r#"{"scores":1}"#, r#"{"classes":[{}]}"#] {
            assert_eq!(read_policy(bad), None, "{bad}");
        }
    }
}
