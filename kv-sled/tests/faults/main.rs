//! Faults in the environment of a store: full disks, damaged files, stores that are already open, missing permissions,
//! and too few file descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod damage;
mod derived;
mod disk;
mod full;
mod gap;
mod misplaced;
mod openers;
mod permissions;
mod salvage;
mod unacknowledged;

/// The main function of the child process of the other tests. Does nothing without the environment variables of a
/// child.
#[test]
fn child_that_opens() {
    child::main();
}
