//! What the nodes have, as a capacity.

use yard_domain::{Capacity, Request};

use crate::wire::Node;

/// Resources that are Ray's own marks, not something to be had: each node's name, the head's mark, and the
/// memory of the object store.
fn is_mark(name: &str) -> bool {
    name.starts_with("node:") || name == "object_store_memory"
}

/// The sum over the living nodes; `None` if none has said yet what it has. Custom resources keep Ray's
/// names, `accelerator_type:A100` included (Ray gives 1 of it per node): a submission asks for it under the
/// same name. How many jobs the head stands is not Ray's to say: `jobs` stays 0 for the caller to fill in.
pub(crate) fn sum(nodes: &[Node]) -> Option<Capacity> {
    let mut total = Request::default();
    let mut known = false;
    for node in nodes.iter().filter(|node| node.state == "ALIVE") {
        for (name, amount) in node.resources_total.iter().flatten().filter(|(name, _)| !is_mark(name)) {
            known = true;
            let milli = units(*amount, 1_000.0);
            match name.as_str() {
                "CPU" => total.cpu_milli += milli,
                "GPU" => total.gpu_milli += milli,
                "memory" => total.memory_bytes += units(*amount, 1.0),
                custom => *total.custom_milli.entry(custom.to_owned()).or_default() += milli,
            }
        }
    }
    total.custom_milli.retain(|_, amount| *amount > 0);
    known.then_some(Capacity(total))
}

/// Rounded, as Ray's own amounts are multiples of 0.0001.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped; beyond 2^63 is nonsense anyway"
)]
fn units(amount: f64, scale: f64) -> u64 {
    (amount * scale).round().clamp(0.0, 9.0e18) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::wire::Nodes;

    #[test]
    fn living_nodes_are_summed_by_their_true_names() {
        let nodes: Nodes = serde_json::from_value(json!({"data": {"result": {"result": [
            {"state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 2e9, "node:10.0.0.1": 1.0, "FOO_BAR": 0.5,
                "object_store_memory": 8e7, "node:__internal_head__": 1.0}},
            {"state": "ALIVE", "resources_total": {"CPU": 0.5, "GPU": 2.0, "accelerator_type:A100": 1.0, "zero": 0.0}},
            {"state": "DEAD", "resources_total": {"CPU": 64.0}},
        ]}}}))
        .unwrap();
        let capacity = sum(&nodes.into_nodes()).unwrap().0;
        let custom =
            BTreeMap::from([("FOO_BAR".to_owned(), 500), ("accelerator_type:A100".to_owned(), 1_000)]);
        let expected = Request {
            cpu_milli: 4_500,
            gpu_milli: 2_000,
            memory_bytes: 2_000_000_000,
            jobs: 0,
            custom_milli: custom,
        };
        assert_eq!(capacity, expected);
    }

    #[test]
    fn nodes_that_have_not_said_anything_are_unknown_not_empty() {
        assert_eq!(sum(&[]), None);
        assert_eq!(sum(&[Node { state: "ALIVE".to_owned(), resources_total: None }]), None);
    }
}
