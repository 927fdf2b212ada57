//! Amounts of resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{Limits, Request};

use crate::quantity::milli_number;

/// What is asked for, in use, free or there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Amounts {
    /// CPUs.
    pub cpu: f64,
    /// GPUs.
    pub gpu: f64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Jobs.
    pub jobs: u64,
    /// Custom resources by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, f64>,
}

/// Bounds on what may be used; what is left out has no bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    /// CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<f64>,
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Jobs placed and not yet ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// Custom resources by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, f64>,
}

impl From<&Request> for Amounts {
    fn from(request: &Request) -> Self {
        Self {
            cpu: milli_number(request.cpu_milli),
            gpu: milli_number(request.gpu_milli),
            memory_bytes: request.memory_bytes,
            jobs: request.jobs,
            custom: custom(&request.custom_milli),
        }
    }
}

impl From<&Limits> for Quota {
    fn from(limits: &Limits) -> Self {
        Self {
            cpu: limits.cpu_milli.map(milli_number),
            gpu: limits.gpu_milli.map(milli_number),
            memory_bytes: limits.memory_bytes,
            jobs: limits.jobs,
            custom: custom(&limits.custom_milli),
        }
    }
}

fn custom(milli: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    milli.iter().map(|(name, m)| (name.clone(), milli_number(*m))).collect()
}
