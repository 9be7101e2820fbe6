//! The test program, which runs each referee on each store.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anykv::KvStore;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::stores::{self, Backends};

/// A test that another project publishes for its own stores.
#[derive(Debug, Clone, Copy)]
pub struct Referee {
    name: &'static str,
    run: fn(Arc<dyn KvStore>, Runtime) -> Result<(), Failed>,
}

impl Referee {
    /// Creates a test. `run` gets an empty store and the runtime that opened it. An error or a panic fails the test.
    pub const fn new(name: &'static str, run: fn(Arc<dyn KvStore>, Runtime) -> Result<(), Failed>) -> Self {
        Self { name, run }
    }
}

/// Runs one test for each referee and store, with the command line of a test program, and exits the process.
pub fn main(referees: &[Referee]) -> ! {
    let arguments = Arguments::from_args();
    let conclusion = run(&arguments, referees);
    std::process::exit(i32::from(conclusion.exit_code() != ExitCode::SUCCESS) * 101)
}

/// Starts the servers for the first test, and stops the servers before it returns.
fn run(arguments: &Arguments, referees: &[Referee]) -> Conclusion {
    let backends: Arc<OnceLock<Backends>> = Arc::default();
    let trials = stores::names().into_iter().enumerate().flat_map(|(index, store)| {
        let backends = Arc::clone(&backends);
        referees.iter().map(move |referee| {
            let (backends, run) = (Arc::clone(&backends), referee.run);
            Trial::test(format!("{store}/{}", referee.name), move || {
                let url = backends.get_or_init(Backends::start).urls().swap_remove(index);
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let store = runtime.block_on(stores::open(&url));
                run(store, runtime)
            })
        })
    });
    libtest_mimic::run(arguments, trials.collect())
}
