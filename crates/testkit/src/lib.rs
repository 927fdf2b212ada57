//! Fakes over the ports, builders, a real database per test, and the conformance suites.

pub mod driver_suite;
pub mod memory_archive;
pub mod null_driver;
pub mod store_suite;
