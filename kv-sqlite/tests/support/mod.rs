//! Helpers that several test programs share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kv_core::Version;
use libtest_mimic::{Arguments, Failed, Trial};

pub mod history;
pub mod model;
pub mod step;
pub mod trace;

/// The environment variable with the name of a child. If it is not set, a test program runs its tests.
const CHILD: &str = "KV_SQLITE_TEST_CHILD";

/// Runs the child that the environment variable names. If the variable is not set, runs the tests.
pub fn main(child: impl FnOnce(&str), tests: Vec<Trial>) {
    match std::env::var(CHILD) {
        Ok(name) => child(&name),
        Err(_) => libtest_mimic::run(&Arguments::from_args(), tests).exit(),
    }
}

/// Makes a test that fails if `run` panics.
pub fn test(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok::<(), Failed>(())
    })
}

/// Returns the command that runs this program as the child of this name.
pub fn child(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, name).env("KV_SQLITE_TEST_PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Returns the path of the database, which the parent has passed to this child.
pub fn path() -> PathBuf {
    std::env::var_os("KV_SQLITE_TEST_PATH").unwrap().into()
}

/// A child that is killed when this value is dropped.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Random numbers, seeded by the operating system.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self::seeded(u64::from_le_bytes(Version::random().as_bytes()[..8].try_into().unwrap()))
    }

    pub fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}
