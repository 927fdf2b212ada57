//! `[policy]` and `[[priority_class]]`: how placement decides.

use std::time::Duration;

use yard_domain::policy::{Fit, Preemption, Scores};
use yard_domain::{Policy, Priority, PriorityClass};

use super::reader::Table;
use super::service::{secs, to_u32};
use super::teams::id;

const YEAR_S: u64 = 366 * 86_400;

/// Reads `[policy]` and every `[[priority_class]]`.
pub(super) fn policy(root: &mut Table<'_, '_>) -> Policy {
    let default = Policy::default();
    let mut t = root.table("policy");
    let half_life = t.span_or("half_life_s", Duration::ZERO, secs(0, YEAR_S));
    let reservations = t.integer_or("reservations_max", u64::from(default.reservations_max), 0..=10_000);
    let policy = Policy {
        half_life: Some(half_life).filter(|span| !span.is_zero()),
        scores: scores(&mut t),
        reservations_max: to_u32(reservations),
        preemption: preemption(&mut t),
        classes: classes(root, default.classes),
        ..default
    };
    t.finish();
    policy
}

fn scores(policy: &mut Table<'_, '_>) -> Scores {
    let default = Scores::default();
    let mut t = policy.table("score");
    let weight =
        |t: &mut Table<'_, '_>, key, default: u32| to_u32(t.integer_or(key, u64::from(default), 0..=1_000));
    let scores = Scores {
        fit: t.choice("fit", &[("spread", Fit::Spread), ("pack", Fit::Pack)]).unwrap_or_default(),
        fit_weight: weight(&mut t, "fit_weight", default.fit_weight),
        cost_weight: weight(&mut t, "cost_weight", default.cost_weight),
        locality_weight: weight(&mut t, "locality_weight", default.locality_weight),
        failures_weight: weight(&mut t, "failures_weight", default.failures_weight),
        queue_weight: weight(&mut t, "queue_weight", default.queue_weight),
    };
    t.finish();
    scores
}

fn preemption(policy: &mut Table<'_, '_>) -> Preemption {
    let default = Preemption::default();
    let mut t = policy.table("preemption");
    let preemption = Preemption {
        reclaim: t.switch_or("reclaim", default.reclaim),
        within_team: t.switch_or("within_team", default.within_team),
        victims_max: to_u32(t.integer_or("victims_max", u64::from(default.victims_max), 0..=100_000)),
    };
    t.finish();
    preemption
}

/// The declared classes, highest first; `default` if there are none.
fn classes(root: &mut Table<'_, '_>, default: Vec<PriorityClass>) -> Vec<PriorityClass> {
    let mut classes: Vec<PriorityClass> = Vec::new();
    for mut t in root.tables("priority_class", "id") {
        if let Some(class) = class(&mut t) {
            if classes.iter().any(|other| other.id == class.id) {
                t.complain("id", format!("{} is taken by a class before: give each its own", class.id));
            } else if let Some(other) = classes.iter().find(|other| other.priority == class.priority) {
                let message = format!(
                    "{} is the priority of class {} too: a class is a band of priorities, so give each its own",
                    class.priority.get(),
                    other.id
                );
                t.complain("priority", message);
            }
            classes.push(class);
        }
        t.finish();
    }
    classes.sort_by_key(|class| std::cmp::Reverse(class.priority));
    if classes.is_empty() { default } else { classes }
}

fn class(t: &mut Table<'_, '_>) -> Option<PriorityClass> {
    let id = id(t, "high");
    let most = i64::from(Priority::MAX);
    let priority = t.signed("priority", -most..=most).and_then(Priority::new);
    if priority.is_none() && !t.is_set("priority") {
        t.missing("priority", "add the lowest priority in the class, such as priority = 100");
    }
    let (preempts, preemptible) = (t.switch_or("preempts", false), t.switch_or("preemptible", false));
    Some(PriorityClass { id: id?, priority: priority?, preempts, preemptible })
}
