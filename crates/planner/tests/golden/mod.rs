//! The scenarios in `tests/scenarios`: each a world and a plan that a person can read. See the README there.

use std::fs;
use std::path::{Path, PathBuf};

use yard_planner::plan;

use crate::model::check;

pub mod read;
mod write;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}

/// Every scenario's plan is the one written down, and the model finds nothing wrong with it.
#[test]
fn scenarios_give_the_plans_written_down() {
    let rewrite = std::env::var_os("SCENARIOS_REWRITE").is_some();
    let mut wrong = Vec::new();
    let files = files();
    assert!(files.len() >= 15, "only {} scenarios", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let scenario = read::scenario(input).unwrap_or_else(|why| panic!("{name}: {why}"));
        let snapshot = scenario.snapshot();
        let plan = plan(&snapshot, &scenario.policy, read::NOW, scenario.seed);
        let got = write::plan(&scenario, &plan);
        for violation in check(&snapshot, &scenario.policy, read::NOW, &plan) {
            wrong.push(format!("{name} breaks a rule: {violation}"));
        }
        if rewrite {
            fs::write(&path, format!("{input}\n\n{got}")).unwrap();
        } else if got != expected {
            wrong.push(format!("{name}: expected\n{expected}but the plan is\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    for (line, why) in [
        ("teem a", "line 1: there is no `teem`"),
        ("team a weigth=2", "line 1: team has no field `weigth`"),
        ("team a weight=x", "line 1: weight=x"),
        ("team a quota=cpu", "line 1: quota=cpu"),
    ] {
        let said = read::scenario(line).err().unwrap();
        assert!(said.starts_with(why), "{said}");
    }
}
