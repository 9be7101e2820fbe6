//! The program `kv`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_cli::main()
}
