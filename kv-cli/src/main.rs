//! The program `kv`.

fn main() {}
