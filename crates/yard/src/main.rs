//! One queue in, many Ray clusters out: the binary.

fn main() {}
