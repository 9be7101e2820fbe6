//! What the compiler says to who forgets something.

#[test]
fn a_forgotten_write_or_outcome_is_a_warning() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
