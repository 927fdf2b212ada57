//! Schemas that say more than can be derived from the types.

use serde_json::{Value, json};
use yard_wire::Limits;
use yard_wire::views::EVERY_TEAM;

use super::parameters::LABEL;

/// Puts them into the document's.
pub(super) fn complete(schemas: &mut Value, limits: &Limits) {
    // The schema that is published for producers is the only one.
    for (name, schema) in yard_wire::submission::components() {
        schemas[name] = schema;
    }
    schemas["BulkRequest"]["properties"]["jobs"]["maxItems"] = json!(limits.bulk_max);
    schemas["TokenRequest"]["properties"]["teams"]["items"] =
        json!({"type": "string", "anyOf": [{"pattern": LABEL}, {"const": EVERY_TEAM}]});
    // An operator is one for every team; everybody else needs teams.
    schemas["TokenRequest"]["anyOf"] = json!([
        {"properties": {"role": {"const": "operator"}}},
        {"required": ["teams"], "properties": {"teams": {"type": "array", "minItems": 1}}},
    ]);
}
