//! The binary's parts: configuration, telemetry, putting the parts together, and `yard dev`.

pub mod compose;
pub mod config;
pub mod dev;
pub mod drivers;
pub mod jwks;
pub mod metrics_help;
pub mod pushes;
pub mod render;
pub mod run;
pub mod serve;
pub mod simulate;
pub mod telemetry;
pub mod token;
mod wall_clock;
