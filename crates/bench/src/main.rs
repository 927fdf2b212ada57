//! Benchmarks: our figure beside a floor measured in the same run, as a ratio.

fn main() {}
