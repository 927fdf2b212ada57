//! New migrations must make the crate be built anew: the macro that embeds them can't say so by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/sqlite");
}
