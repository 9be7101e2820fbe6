//! Compiler errors for builders and outcomes that are ignored.

#[test]
fn ignored_writes_and_outcomes_are_reported() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
