//! Fakes over the ports, builders, a real database per test, and the conformance suites.
