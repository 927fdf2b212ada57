//! What a simulated world is like: `[model]` and `[[incident]]`, for `yard simulate --scenario`.

use std::path::Path;
use std::time::Duration;

use yard_domain::ClusterId;
use yard_simulator::{Incident, Model, Trouble};

use super::problem::ConfigErrors;
use super::reader::Table;
use super::service::{millis, secs, to_u32};
use super::sources::{Environment, Purpose, Sources};

const YEAR_S: u64 = 366 * 86_400;

/// Reads a scenario, called `name` in messages. What it leaves out is as in `base`.
pub fn read_scenario(name: &str, text: &str, base: &Model) -> Result<(Model, Vec<Incident>), ConfigErrors> {
    let nothing = Environment::default();
    let sources = Sources::new(text, Path::new(""), &nothing, Purpose::Document);
    let scenario = super::tree(&sources, text, |tree| {
        let mut root = Table::root(&sources, tree);
        let model = model(&mut root, base);
        let mut incidents = Vec::new();
        for mut t in root.tables("incident", "cluster") {
            incidents.extend(incident(&mut t));
            t.finish();
        }
        root.finish();
        Some((model, incidents))
    });
    let (problems, _) = sources.into_findings();
    let errors = ConfigErrors { file: name.to_owned(), problems };
    scenario.filter(|_| errors.problems.is_empty()).ok_or(errors)
}

fn model(root: &mut Table<'_, '_>, base: &Model) -> Model {
    let mut t = root.table("model");
    let hours = |n: u64| secs(0, n * 3_600);
    let (shortest, longest) = base.launch_delay;
    let shortest = t.span_or("launch_delay_min_s", shortest, hours(24));
    let longest = t.span_or("launch_delay_max_s", longest, hours(24));
    if longest < shortest {
        t.complain("launch_delay_max_s", "is below launch_delay_min_s: raise it, or lower that".to_owned());
    }
    let model = Model {
        pass_interval: t.span_or("pass_interval_ms", base.pass_interval, millis(1, 86_400_000)),
        placements_max: to_u32(t.integer_or("placements_max", u64::from(base.placements_max), 1..=100_000)),
        launch_delay: (shortest, longest),
        user_failure_rate: t.number_or("user_failure_rate", base.user_failure_rate, 0.0..=1.0),
        launch_failure_rate: t.number_or("launch_failure_rate", base.launch_failure_rate, 0.0..=1.0),
        preempt_grace: t.span_or("preempt_grace_s", base.preempt_grace, hours(24)),
        lost_grace: t.span_or("lost_grace_s", base.lost_grace, hours(24)),
        idle_after: t.span_or("idle_after_s", base.idle_after, secs(1, 864_000)),
        ..base.clone()
    };
    t.finish();
    model
}

fn incident(t: &mut Table<'_, '_>) -> Option<Incident> {
    let after = t.span_or("after_s", Duration::ZERO, secs(0, 10 * YEAR_S));
    let cluster = t.parsed("cluster", str::parse::<ClusterId>);
    if cluster.is_none() && !t.is_set("cluster") {
        t.missing("cluster", "add to which cluster it happens, such as cluster = \"east\"");
    }
    let words = || Trouble::ALL.map(|t| format!("{:?}", t.code())).join(", ");
    let trouble = t.parsed("what", |text| {
        Trouble::from_code(text).ok_or_else(|| format!("{text:?} is not one of {}", words()))
    });
    if trouble.is_none() && !t.is_set("what") {
        t.missing("what", &format!("add what happens: one of {}", words()));
    }
    Some(Incident { after, cluster: cluster?, trouble: trouble? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_changes_what_it_names() {
        let text = "[model]\nuser_failure_rate = 0.5\npass_interval_ms = 250\n\
            [[incident]]\nafter_s = 60\ncluster = \"east\"\nwhat = \"lost\"\n";
        let (model, incidents) = read_scenario("s.toml", text, &Model::default()).unwrap();
        assert!((model.user_failure_rate - 0.5).abs() < f64::EPSILON);
        assert_eq!(model.pass_interval, Duration::from_millis(250));
        assert_eq!(model.lost_grace, Model::default().lost_grace);
        assert_eq!((incidents[0].after.as_secs(), incidents[0].trouble), (60, Trouble::Lost));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = "[model]\nuser_failure_rate = 2\nspeed = 1\nlaunch_delay_max_s = 1\n[[incident]]\nwhat = \"gone\"\n";
        let errors = read_scenario("s.toml", text, &Model::default()).unwrap_err();
        let keys: Vec<_> = errors.problems.iter().map(|p| p.key.as_str()).collect();
        let want = [
            "model.user_failure_rate",
            "model.speed",
            "model.launch_delay_max_s",
            "incident ?.cluster",
            "incident ?.what",
        ];
        assert_eq!(keys, want, "{errors}");
    }
}
