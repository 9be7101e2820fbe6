//! The command `kv completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Answer, Failure};
use crate::output::Output;

pub(crate) fn run(shell: Shell, output: &mut Output) -> Result<Answer, Failure> {
    // The generator panics if its stream fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kv", &mut script);
    output.stream().write_all(&script).map_err(Failure::output)?;
    Ok(Answer::Yes)
}
