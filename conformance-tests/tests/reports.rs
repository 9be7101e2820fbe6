//! Reports of a good and of a broken store, as text, as JSON and as a table.

mod support;

use conformance_tests::faulty::Fault;
use conformance_tests::{Level, Outcome, Report, Suite, matrix};
use serde_json::Value;

const SEED: u64 = 42;

fn broken() -> Suite {
    let id = "singles/delete_always_reports_deleted";
    let Some(fault) = Fault::all().find(|fault| fault.id == id) else { panic!("there is no broken store {id}") };
    support::suite("broken", |good, clock| fault.wrap(good, clock))
        .with_rerun("kv conformance memory: --case {case} --seed {seed}")
}

async fn basics(suite: Suite) -> Report {
    suite.with_seed(SEED).run("basics/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_has_rule_operations_and_rerun_command() {
    let report = basics(broken()).await;
    let failure = report.failures().find(|case| case.id == "basics/delete_twice").unwrap();
    let Outcome::Failed { text } = &failure.outcome else { panic!("{failure:?}") };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("basics/delete_twice: ") && lines[0].contains("expected"), "{text}");
    assert_eq!(lines[1], format!("clause D-1: {}", failure.rule));
    let operations: Vec<_> = lines.iter().skip_while(|line| **line != "last operations:").skip(1).take(3).collect();
    assert!(operations[0].starts_with("set k"), "{text}");
    assert!(operations[1].starts_with("delete k") && operations[2].starts_with("delete k"), "{text}");
    assert!(operations[2].contains(" -> ") && operations[2].contains("Deleted"), "{text}");
    assert!(lines.contains(&"store broken, seed 42"), "{text}");
    assert_eq!(lines.last(), Some(&"run it again: kv conformance memory: --case basics/delete_twice --seed 42"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_has_failures_levels_and_a_total() {
    let (good, broken) = (basics(support::suite("good", |good, _| good)).await, basics(broken()).await);
    assert!(good.is_green() && !broken.is_green());
    let all = good.cases.len();

    let text = good.to_string();
    assert!(!text.contains("FAIL"), "{text}");
    assert_eq!(text.lines().last(), Some(format!("{all} passed, 0 failed, 0 skipped on good (seed 42)").as_str()));

    let (text, failed) = (broken.to_string(), broken.failures().count());
    assert_eq!(text.lines().filter(|line| line.starts_with("FAIL  basics/delete_")).count(), failed, "{text}");
    let levels: Vec<_> = text.lines().filter(|line| line.starts_with("Core ")).collect();
    assert_eq!(levels.len(), 1, "{text}");
    assert!(levels[0].contains(&format!("{failed} failed")), "{text}");
    let total = format!("{} passed, {failed} failed, 0 skipped on broken (seed 42)", all - failed);
    assert_eq!(text.lines().last(), Some(total.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_case_has_a_reason() {
    let bare = Suite::new("bare", kv_memory::CAPABILITIES, |_| async { Ok(kv_memory::MemoryStore::new()) });
    let report = bare.run_named(&["basics/set_then_get", "restart/values_survive"]).await;
    assert_eq!((report.counts(None).passed, report.counts(None).skipped), (1, 1));
    assert_eq!(report.counts(Some(Level::Durable)).skipped, 1);
    assert!(report.to_string().contains("skipped 1: needs a store that can be reopened"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_namespace_skips_the_longest_namespaces() {
    let report = support::suite("in a namespace", |good, _| good).in_namespaces().run("namespace_keys/").await;
    let counts = report.counts(None);
    assert_eq!((counts.passed, counts.failed, counts.skipped), (0, 0, report.cases.len()), "{report}");
    assert!(report.to_string().contains("needs stores outside any namespace"), "{report}");
    let outside = support::suite("outside", |good, _| good).run("namespace_keys/").await;
    assert_eq!((outside.cases.len(), outside.counts(None).skipped), (report.cases.len(), 0), "{outside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_has_a_line_for_each_case() {
    let report = basics(broken()).await;
    let json = report.to_json();
    assert_eq!((&json["store"], &json["seed"]), (&Value::from("broken"), &Value::from(SEED)));
    let cases = json["cases"].as_array().unwrap();
    assert_eq!(cases.len(), report.cases.len());
    for (case, expected) in cases.iter().zip(&report.cases) {
        assert_eq!((&case["id"], &case["clause"]), (&Value::from(expected.id), &Value::from(expected.clause)));
        assert_eq!((&case["level"], &case["rule"]), (&Value::from("Core"), &Value::from(expected.rule)));
        assert!(case["duration"].is_f64(), "{case}");
        match &expected.outcome {
            Outcome::Failed { text } => {
                assert_eq!((&case["outcome"], &case["text"]), (&Value::from("failed"), &Value::from(text.as_str())));
            }
            _ => assert_eq!((&case["outcome"], case.get("text")), (&Value::from("passed"), None)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_has_a_column_for_each_store() {
    let (good, broken) = (basics(support::suite("good", |good, _| good)).await, basics(broken()).await);
    let table = matrix(&[good.clone(), broken.clone()]);
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 3), "{table}");
    assert_eq!(rows[0], ["", "`good`", "`broken`"]);
    let cells = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| (row[1].to_owned(), row[2].to_owned()));
    let failed = broken.failures().count();
    assert_eq!(cells("Core"), Some((good.cases.len().to_string(), format!("**{failed} failed**"))));
    for level in Level::ALL {
        assert!(cells(&level.to_string()).is_some(), "{level} is missing:\n{table}");
    }
    assert_eq!(cells("list"), Some(("by index".into(), "by index".into())));
}
