//! Holds the types, the reader and docs/schemas/submission.v1.json together.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::reader::FIELDS;
use super::*;
use crate::canonical::{canonical_text, parse_strict};
use crate::limits::{Defaults, Limits};

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas/submission.v1.json");
    let wanted = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, wanted, "run `UPDATE=1 cargo test -p yard-wire` and commit the schema");
}

#[test]
fn the_reader_knows_exactly_the_fields_of_the_schema() {
    let schema = schema();
    let properties = |node: &Value| -> BTreeSet<String> {
        node["properties"].as_object().unwrap().keys().cloned().collect()
    };
    for (section, fields) in FIELDS {
        let known: BTreeSet<String> = fields.iter().map(|f| (*f).to_owned()).collect();
        let node = if section.is_empty() { &schema } else { &schema["$defs"][definition(section)] };
        assert_eq!(properties(node), known, "section {section:?}");
        assert_eq!(node["additionalProperties"], json!(false), "section {section:?}");
    }
    let sections: BTreeSet<&str> =
        schema["$defs"].as_object().unwrap().keys().map(String::as_str).filter(|n| *n != "Memory").collect();
    let read: BTreeSet<&str> = FIELDS.iter().skip(1).map(|(section, _)| definition(section)).collect();
    assert_eq!(sections, read, "every section of the schema is read");
}

/// The type of a section.
fn definition(section: &str) -> &'static str {
    match section {
        "resources" | "ray_cluster.head" => "Resources",
        "ray_cluster" => "RayCluster",
        "ray_cluster.workers" => "Workers",
        "clusters" => "Clusters",
        "retry" => "Retry",
        "timeouts" => "Timeouts",
        other => panic!("section {other:?} has no type"),
    }
}

fn accepted(value: &Value) -> Result<(), Vec<yard_domain::FieldError>> {
    let mut faults = Faults::new(100);
    read(value, &Limits::default(), &Defaults::default(), &std::collections::BTreeMap::new(), &mut faults);
    if faults.count() == 0 { Ok(()) } else { Err(faults.into_list()) }
}

/// One field's value: sometimes right, sometimes not.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..5000).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9-]{0,10}|[0-9]{1,3}(GiB|MiB|GB)|\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let name = prop_oneof![
            proptest::sample::select(FIELDS.iter().flat_map(|(_, f)| f.iter().copied()).collect::<Vec<_>>())
                .prop_map(str::to_owned),
            "\\PC{0,6}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..5).prop_map(|m| json!(m)),
        ]
    })
}

/// A valid document in which up to two fields are replaced by anything.
fn nearly_valid() -> impl Strategy<Value = Value> {
    let names = FIELDS[0].1;
    let section = (0..FIELDS.len(), any::<proptest::sample::Index>(), any_value());
    proptest::collection::vec(section, 0..3).prop_map(move |changes| {
        let mut document = json!({
            "v": 1, "team": "ads", "key": "k", "name": "n", "entrypoint": "true", "runtime_env": {"pip": ["a"]},
            "resources": {"cpu": 1.5, "gpu": 0, "memory": "8GiB", "custom": {"A100": 1}}, "priority": -5,
            "ray_cluster": {"profile": "gpu", "env": {"A": "b"}, "head": {"cpu": 0.5}, "workers": {"max": 1, "cpu": 1}},
            "clusters": {"only": ["east"], "labels": {"a": "b"}}, "retry": {"max_retries": 2},
            "timeouts": {"queue_s": 60, "run_s": 60}, "metadata": {"k": "v"},
        });
        for (at, which, value) in changes {
            let (section, fields) = FIELDS[at];
            let mut path = section.split('.').filter(|name| !name.is_empty());
            let Some(target) = path.try_fold(&mut document, |at, name| at.get_mut(name)) else { continue };
            let fields = if section.is_empty() { names } else { fields };
            if let Some(map) = target.as_object_mut() {
                map.insert(fields[which.index(fields.len())].to_owned(), value);
            }
        }
        document
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_the_reader_accepts_the_types_accept(document in nearly_valid()) {
        if accepted(&document).is_ok() {
            // One spelling per number first: to JSON Schema 2.0 is an integer, to serde it is not.
            let canonical = parse_strict(canonical_text(&document).as_bytes()).unwrap();
            let read = serde_json::from_value::<Submission>(canonical);
            prop_assert!(read.is_ok(), "{document}: {:?}", read.err());
        }
    }

    #[test]
    fn what_the_types_refuse_the_reader_refuses_with_a_path(document in nearly_valid()) {
        let canonical = parse_strict(canonical_text(&document).as_bytes()).unwrap();
        if serde_json::from_value::<Submission>(canonical).is_err() {
            let errors = accepted(&document).unwrap_err();
            prop_assert!(errors.iter().all(|e| !e.message.is_empty() && !e.field.is_empty()), "{errors:?}");
        }
    }

    #[test]
    fn no_json_panics(document in any_value()) {
        let _ = accepted(&document);
    }
}
