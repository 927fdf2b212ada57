//! The quick run of every benchmark, on a real server: whatever it shows, it must come to its end, with a figure
//! for each target. Left out, with a line that says so, where there is no server.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_benchmark_comes_to_its_end() {
    if std::env::var_os("YARD_TEST_MARIADB_URL").is_none() {
        eprintln!("left out: YARD_TEST_MARIADB_URL is not set (tests/env/up.py --mariadb sets it)");
        return;
    }
    let out =
        Command::new(env!("CARGO_BIN_EXE_bench")).args(["all", "--quick"]).output().expect("the bench runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{stderr}");
    let json = stdout.find("\n{").expect("JSON after the table");
    let report: Value = serde_json::from_str(&stdout[json..]).expect("valid JSON");
    let findings = report["findings"].as_array().expect("findings");
    let sqs = std::env::var_os("YARD_TEST_SQS_ENDPOINT").is_some();
    let expected = [
        ("intake", 1),
        ("life", 2),
        ("claim", 3),
        ("leases", 3),
        ("latency", if sqs { 6 } else { 2 }),
        ("api", 4),
        ("events", 1),
        ("memory", 2),
    ];
    for (bench, count) in expected {
        let of: Vec<&Value> = findings.iter().filter(|f| f["bench"] == bench).collect();
        assert_eq!(of.len(), count, "{bench}");
        for finding in of {
            assert!(finding["figure"].as_f64().is_some_and(|v| v > 0.0), "{finding}");
        }
    }
    // While nothing happens, nothing may be calculated.
    let kubernetes =
        findings.iter().filter(|f| f["bench"] == "kubernetes" && f["figure"].is_number()).count();
    let expected = if std::env::var_os("YARD_TEST_KUBECONFIG").is_some() { 10 } else { 0 };
    assert_eq!(kubernetes, expected, "kubernetes");
    assert_eq!(report["environment"]["database"]["innodb_flush_log_at_trx_commit"], "1");
    let renewal = findings.iter().find(|f| f["bench"] == "leases").expect("the first of leases");
    assert_eq!(renewal["figure"], 1.0, "a renewal writes one row, whatever the number of jobs");
}
