//! Agreement with scikit-learn, as `scripts/metrics-fixture.sh` recorded it.

use metrics::{Embeddings, Roc, Whitening, precision_at_1_against, retrieval};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    verification: Vec<VerificationCase>,
    retrieval: Vec<RetrievalCase>,
    against: Vec<AgainstCase>,
    shrinkage: Vec<ShrinkageCase>,
}

#[derive(Deserialize)]
struct VerificationCase {
    name: String,
    distances: Vec<f32>,
    same: Vec<bool>,
    auc: f64,
    /// Without that of the first point, which accepts nothing.
    thresholds: Vec<f64>,
    far: Vec<f64>,
    tar: Vec<f64>,
    eer: f64,
    eer_threshold: f64,
    best_balanced_accuracy: f64,
}

#[derive(Deserialize)]
struct RetrievalCase {
    name: String,
    dim: usize,
    embeddings: Vec<f32>,
    labels: Vec<u32>,
    queries: usize,
    p_at_1: f64,
    r_precision: f64,
    map_at_r: f64,
}

#[derive(Deserialize)]
struct AgainstCase {
    name: String,
    dim: usize,
    queries: Vec<f32>,
    query_labels: Vec<u32>,
    references: Vec<f32>,
    reference_labels: Vec<u32>,
    p_at_1: f64,
}

#[derive(Deserialize)]
struct ShrinkageCase {
    name: String,
    dim: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
    shrinkage: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/sklearn.json")).unwrap()
}

fn assert_close(case: &str, what: &str, found: f64, expected: f64) {
    let tolerance = 1e-12 * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= tolerance,
        "{case}: {what} is {found}, scikit-learn has {expected}"
    );
}

#[test]
fn roc_auc_eer_and_best_balanced_accuracy_agree() {
    for case in fixture().verification {
        let roc = Roc::new(&case.distances, &case.same).unwrap();
        assert_close(&case.name, "AUC", roc.auc(), case.auc);
        let eer = roc.eer();
        assert_close(&case.name, "EER", eer.rate, case.eer);
        assert_close(
            &case.name,
            "EER threshold",
            eer.threshold,
            case.eer_threshold,
        );
        let best = roc.balanced_accuracy_at(roc.best_threshold());
        let expected = case.best_balanced_accuracy;
        assert_close(&case.name, "best balanced accuracy", best, expected);

        let points: Vec<_> = roc.points().collect();
        let thresholds: Vec<f64> = points.iter().skip(1).map(|p| p.threshold).collect();
        assert_eq!(thresholds, case.thresholds, "{}", case.name);
        for ((point, far), tar) in points.iter().zip(&case.far).zip(&case.tar) {
            assert_close(&case.name, "FAR", point.far, *far);
            assert_close(&case.name, "TAR", point.tar, *tar);
            assert_close(&case.name, "FRR", point.frr, 1.0 - tar);
        }
    }
}

#[test]
fn retrieval_agrees() {
    for case in fixture().retrieval {
        let embeddings = Embeddings::new(case.embeddings, case.dim).unwrap();
        let found = retrieval(&embeddings, &case.labels).unwrap();
        assert_eq!(found.queries, case.queries, "{}", case.name);
        assert_close(&case.name, "P@1", found.p_at_1, case.p_at_1);
        assert_close(
            &case.name,
            "R-precision",
            found.r_precision,
            case.r_precision,
        );
        assert_close(&case.name, "MAP@R", found.map_at_r, case.map_at_r);
    }
}

#[test]
fn precision_against_references_agrees() {
    for case in fixture().against {
        let found = precision_at_1_against(
            &Embeddings::new(case.queries, case.dim).unwrap(),
            &case.query_labels,
            &Embeddings::new(case.references, case.dim).unwrap(),
            &case.reference_labels,
        );
        assert_close(&case.name, "P@1", found.unwrap(), case.p_at_1);
    }
}

#[test]
fn ledoit_wolf_weights_agree() {
    for case in fixture().shrinkage {
        let features = Embeddings::new(case.features, case.dim).unwrap();
        // Rotated to their principal components, which changes nothing.
        let found = Whitening::fit(&features, &case.labels, case.dim).unwrap();
        assert_eq!(found.components(), case.dim, "{}", case.name);
        let expected = case.shrinkage;
        assert_close(&case.name, "shrinkage", found.shrinkage(), expected);
    }
}
