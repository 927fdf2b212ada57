//! The driver for a Kubernetes cluster with the KubeRay operator: a RayJob, with a Ray cluster of its own, per attempt.
//!
//! The RayJob's name is the attempt's remote name, so a second creation of the same attempt can't start a second run: the
//! API server says that it exists, the driver reads it back, and adopts it if its label carries our installation's id.
//! [ADR 12](../../../docs/adr/0012-kuberay.md) says why things are as they are.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | what can be set |
//! | `template.rs`, `reader.rs`, `schema.rs` | what RayJobs are made from: named profiles, checked against the CRD |
//! | `render.rs` | from a profile and a launch to a RayJob |
//! | `facts.rs`, `lean_meta.rs`, `status.rs` | RayJobs as they are read, and what their status means |
//! | `evidence.rs` | what pods and events say about why one failed |
//! | `table.rs` | what the cluster showed last, what is new, and what has stood still for too long |
//! | `client.rs` | calls to the API server: who we are, timeouts, and what each kind of failure means |
//! | `cluster.rs` | every call that the driver makes |
//! | `observe.rs` | one watch of all RayJobs |
//! | `orphans.rs` | Ray clusters whose `RayJob` is gone |
//! | `heads.rs` | whose head is still there |
//! | `headless.rs` | which RayJobs have no head to be asked for a log yet |
//! | `logs.rs` | the log, from Ray's own interface through the API server |
//! | `pod_logs.rs` | what head, workers and submitter print, from Kubernetes |
//! | `capacity/` | what there is for our pods: nodes less what pods of others ask for |
//! | `driver.rs` | the port's calls |

mod capacity;
mod client;
mod cluster;
mod config;
mod driver;
mod evidence;
mod facts;
mod headless;
mod heads;
mod lean_meta;
mod logs;
mod observe;
mod orphans;
mod pod_logs;
mod quantity;
mod reader;
mod render;
mod schema;
mod status;
mod table;
mod template;

pub use config::{Access, KubeRayConfig};
pub use driver::{KubeRayDriver, render_yaml};
pub use schema::Problem;
pub use template::{Template, TemplateError};
