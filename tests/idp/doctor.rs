//! `cambio doctor` on the estate that `cambio init` made.

use serde_json::Value;

use crate::estate::Estate;
use crate::idp::Kind;

async fn the_doctor_finds_no_fault_until_there_is_one(kind: Kind) {
    let mut estate = Estate::of(kind).await;
    let (is_fine, report) = examine(&estate).await;
    assert!(is_fine, "{report:#}");
    assert_eq!(report["faults"], 0, "{report:#}");
    assert!(report["findings"].as_array().unwrap().len() > 5, "{report:#}");

    estate.idp.go_down();
    let (is_fine, report) = examine(&estate).await;
    assert!(!is_fine, "{report:#}");
    assert_ne!(report["faults"], 0, "{report:#}");
}

async fn examine(estate: &Estate) -> (bool, Value) {
    let (is_fine, printed) = estate.command(&["doctor", "--format", "json"]).await;
    (is_fine, serde_json::from_str(&printed).unwrap())
}

in_front_of_each!(the_doctor_finds_no_fault_until_there_is_one);
