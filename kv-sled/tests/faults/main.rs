//! Faults around a store: full disks, damaged files, a second opener, missing permissions, no file descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod damage;
mod derived;
mod disk;
mod misplaced;
mod openers;
mod permissions;
mod salvage;

/// Runs the task in the environment variables, as a child process of another test. Without them it does nothing.
#[test]
fn child_that_opens() {
    child::main();
}
