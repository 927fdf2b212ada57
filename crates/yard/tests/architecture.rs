//! The architecture, proved from the dependency lists: what is pure could do no I/O, and arrows point one way.

#![expect(clippy::expect_used, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates of ours by the names of ours that they depend on (normal dependencies only), and all packages
/// below each of ours.
struct Graph {
    direct: BTreeMap<String, BTreeSet<String>>,
    below: BTreeMap<String, BTreeSet<String>>,
}

fn graph() -> Graph {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let args = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let out = Command::new(cargo)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let text = |v: &Value, k: &str| v[k].as_str().expect("a string").to_owned();
    let list = |v: &Value, k: &str| v[k].as_array().expect("a list").clone();
    let names: BTreeMap<String, String> =
        list(&meta, "packages").iter().map(|p| (text(p, "id"), text(p, "name"))).collect();
    let normal = |d: &Value| list(d, "dep_kinds").iter().any(|k| k["kind"].is_null());
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&meta["resolve"], "nodes") {
        let deps = list(&node, "deps")
            .iter()
            .filter(|d| normal(d))
            .map(|d| names[&text(d, "pkg")].clone())
            .collect();
        edges.insert(names[&text(&node, "id")].clone(), deps);
    }
    let members: BTreeSet<String> =
        list(&meta, "workspace_members").iter().map(|m| names[m.as_str().expect("an id")].clone()).collect();
    let mut graph = Graph { direct: BTreeMap::new(), below: BTreeMap::new() };
    for member in &members {
        graph.direct.insert(member.clone(), edges[member].intersection(&members).cloned().collect());
        let (mut seen, mut todo) = (BTreeSet::new(), vec![member.clone()]);
        while let Some(next) = todo.pop() {
            todo.extend(edges[&next].iter().filter(|d| seen.insert((*d).clone())).cloned());
        }
        graph.below.insert(member.clone(), seen);
    }
    graph
}

#[test]
fn domain_planner_and_simulator_could_do_no_io() {
    let graph = graph();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([
        ("yard-domain", BTreeSet::new()),
        ("yard-planner", BTreeSet::from(["yard-domain"])),
        ("yard-simulator", BTreeSet::from(["yard-domain", "yard-planner"])),
    ]);
    // Whole subtrees that can do no I/O of their own: parsing, hashing, error derives, id formatting.
    let io = [
        "tokio",
        "sqlx",
        "reqwest",
        "hyper",
        "mio",
        "socket2",
        "rustix",
        "async-trait",
        "futures",
        "metrics",
        "tracing",
    ];
    for (name, ours) in allowed {
        let direct: BTreeSet<&str> = graph.direct[name].iter().map(String::as_str).collect();
        assert_eq!(direct, ours, "{name} depends on other crates of ours");
        for banned in io {
            assert!(!graph.below[name].contains(banned), "{name} has come to depend on {banned}");
        }
    }
}

#[test]
fn arrows_point_one_way() {
    let graph = graph();
    let adapters = [
        "yard-store-mysql",
        "yard-store-sqlite",
        "yard-store-sql",
        "yard-inbox-sqs",
        "yard-storage",
        "yard-webhook",
        "yard-driver-ray",
        "yard-driver-kuberay",
        "yard-driver-process",
    ];
    for inner in ["yard-ports", "yard-engine", "yard-wire", "yard-server", "yard-cli"] {
        for adapter in adapters {
            assert!(!graph.below[inner].contains(adapter), "{inner} must know ports only, not {adapter}");
        }
    }
    for adapter in adapters {
        for outer in ["yard-engine", "yard-server", "yard"] {
            assert!(!graph.below[adapter].contains(outer), "{adapter} must not know {outer}");
        }
    }
    assert!(!graph.below["yard-cli"].contains("sqlx") && !graph.below["yard-cli"].contains("yard-engine"));
    for engine_free in ["sqlx", "reqwest", "axum", "aws-sdk-sqs"] {
        assert!(
            !graph.below["yard-engine"].contains(engine_free),
            "the engine has come to depend on {engine_free}"
        );
    }
}
