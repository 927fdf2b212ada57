//! The Ray Jobs API's documents: a submission of Ray's client as a document of ours, a job of ours as Ray's client
//! reads it. Ray 2.60's `ray/dashboard/modules/job/{common,pydantic_models}.py` say what they look like.

mod details;
mod settings;
mod submit;

pub use details::{JobDetails, is_final, ray_status};
pub use settings::{HEADER_PREFIX, METADATA_PREFIX, SETTINGS, Setting};
pub use submit::{RayContext, RaySubmission, client_field, submission};

/// Ray's word for each of Python's types, as its errors name them.
pub(crate) fn python_type(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "<class 'NoneType'>",
        Value::Bool(_) => "<class 'bool'>",
        Value::Number(n) if n.is_f64() => "<class 'float'>",
        Value::Number(_) => "<class 'int'>",
        Value::String(_) => "<class 'str'>",
        Value::Array(_) => "<class 'list'>",
        Value::Object(_) => "<class 'dict'>",
    }
}

#[cfg(test)]
mod tests;
