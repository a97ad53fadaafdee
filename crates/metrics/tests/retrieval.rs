//! Retrieval against values worked by hand.

use metrics::{Embeddings, MetricsError, Retrieval};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn retrieval(values: &[f32], dim: usize, labels: &[u32]) -> Result<Retrieval, MetricsError> {
    metrics::retrieval(&Embeddings::new(values.into(), dim)?, labels)
}

fn precision_at_1(values: &[f32], dim: usize, labels: &[u32]) -> Result<f64, MetricsError> {
    metrics::precision_at_1(&Embeddings::new(values.into(), dim)?, labels)
}

fn precision_at_1_against(
    probes: &[f32],
    labels: &[u32],
    gallery: &[f32],
    gallery_labels: &[u32],
    dim: usize,
) -> Result<f64, MetricsError> {
    let [probes, gallery] = [probes, gallery].map(|values| Embeddings::new(values.into(), dim));
    metrics::precision_at_1_against(&probes?, labels, &gallery?, gallery_labels)
}

fn refusal<T>(text: &str) -> Result<T, MetricsError> {
    Err(MetricsError::Embeddings(text.into()))
}

fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-15,
        "found {found}, expected {expected}"
    );
}

#[test]
fn precision_at_1_r_precision_and_map_at_r_of_five_points_on_a_line() {
    // Class 0 at 0, 1, 10 (R = 2), class 1 at 3, 7 (R = 1).
    //   query    R nearest     hits    P@1  R-precision  MAP@R
    //   0 (c 0)  1, 3          1, 0    1    1/2          1/2 · 1/1       = 1/2
    //   1 (c 0)  0, 3          1, 0    1    1/2          1/2 · 1/1       = 1/2
    //   10 (c 0) 7, 3          0, 0    0    0            0
    //   3 (c 1)  1             0       0    0            0
    //   7 (c 1)  10            0       0    0            0
    let found = retrieval(&[0.0, 1.0, 10.0, 3.0, 7.0], 1, &[0, 0, 0, 1, 1]).unwrap();
    assert_close(found.p_at_1, 2.0 / 5.0);
    assert_close(found.r_precision, 1.0 / 5.0);
    assert_close(found.map_at_r, 1.0 / 5.0);
    assert_eq!(found.queries, 5);
}

#[test]
fn map_at_r_rewards_early_hits_and_r_precision_does_not() {
    // Class 0 at 0, 2, 5, 6 (R = 3), lone class 1 at 1, lone class 2 at 3.
    //   query  3 nearest         hits     R-precision  MAP@R
    //   0      1, 2, 3           0, 1, 0  1/3          1/3 · 1/2                 = 1/6
    //   2      1, 3, 0 (1 first: lower index; 0 at 2)
    //                            0, 0, 1  1/3          1/3 · 1/3                 = 1/9
    //   5      6, 3, 2           1, 0, 1  2/3          1/3 · (1/1 + 2/3)         = 5/9
    //   6      5, 3, 2           1, 0, 1  2/3          1/3 · (1/1 + 2/3)         = 5/9
    let found = retrieval(&[0.0, 2.0, 5.0, 6.0, 1.0, 3.0], 1, &[0, 0, 0, 0, 1, 2]).unwrap();
    assert_eq!(found.queries, 4);
    assert_close(found.p_at_1, 2.0 / 4.0);
    assert_close(found.r_precision, 2.0 / 4.0);
    assert_close(
        found.map_at_r,
        (1.0 / 6.0 + 1.0 / 9.0 + 5.0 / 9.0 + 5.0 / 9.0) / 4.0,
    );
}

#[test]
fn precision_at_1_alone_is_that_of_the_whole_ranking() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for dim in [1, 3] {
        // On a coarse grid, so that distances tie; some classes have one member.
        let embeddings: Vec<f32> = (0..300 * dim)
            .map(|_| rng.random_range(0..12) as f32)
            .collect();
        let labels: Vec<u32> = (0..300)
            .map(|i| if i < 20 { i } else { 20 + i % 7 })
            .collect();
        let whole = retrieval(&embeddings, dim, &labels).unwrap();
        assert_eq!(whole.queries, 280);
        assert!(whole.p_at_1 > 0.0 && whole.p_at_1 < 1.0);
        assert_eq!(
            precision_at_1(&embeddings, dim, &labels).unwrap(),
            whole.p_at_1
        );
    }
    assert_eq!(
        precision_at_1(&[0.0, 1.0], 1, &[0, 1]),
        refusal("all 2 labels differ: retrieval needs a class with at least two members")
    );
}

#[test]
fn precision_at_1_of_many_dimensions_is_that_of_the_whole_ranking() {
    let mut rng = ChaCha8Rng::seed_from_u64(784);
    let labels: Vec<u32> = (0..300).map(|i| if i < 280 { i % 7 } else { i }).collect();
    // Far from the origin and much nearer to each other than f32 can tell in a product; with ties; and
    // too large and too small to be squared in f32.
    for (dim, offset, scale, noise, levels) in [
        (64, 0.0, 1.0, 1e-3, 1000),
        (65, 1e3, 1.0, 1e-2, 1000),
        (200, 0.0, 1.0, 1e-3, 2),
        (100, 0.0, 2e30, 1.0, 1000),
        (100, 0.0, 1e-30, 1.0, 1000),
    ] {
        let centres: Vec<f32> = (0..8 * dim)
            .map(|_| rng.random_range(0..4) as f32)
            .collect();
        let embeddings: Vec<f32> = (0..300)
            .flat_map(|i| {
                let centre = &centres[i % 8 * dim..][..dim];
                let row = centre.iter().map(|centre| {
                    let level = rng.random_range(0..levels) as f32 / levels as f32;
                    offset + scale * (centre + noise * level)
                });
                row.collect::<Vec<_>>()
            })
            .collect();
        let whole = retrieval(&embeddings, dim, &labels).unwrap();
        assert!(whole.p_at_1 > 0.0 && whole.p_at_1 < 1.0);
        let found = precision_at_1(&embeddings, dim, &labels).unwrap();
        assert_eq!(found, whole.p_at_1, "{dim} dimensions");
    }
    assert_eq!(
        precision_at_1(&[0.5; 128], 64, &[0, 1]),
        refusal("all 2 labels differ: retrieval needs a class with at least two members")
    );
}

#[test]
fn only_the_r_nearest_count() {
    // Class 0 at 0 and 9, R = 1: each finds a stranger first and its mate second, which is rank 2.
    let found = retrieval(&[0.0, 9.0, 1.0, 8.0], 1, &[0, 0, 1, 2]).unwrap();
    assert_eq!(
        found,
        Retrieval {
            p_at_1: 0.0,
            r_precision: 0.0,
            map_at_r: 0.0,
            queries: 2
        }
    );
}

#[test]
fn a_point_finds_its_twin_and_not_itself() {
    // Each finds the other class: 5 its twin of class 1, and that one back, 7 and 7.5 each other.
    let found = retrieval(&[5.0, 5.0, 7.0, 7.5], 1, &[0, 1, 0, 1]).unwrap();
    assert_eq!((found.p_at_1, found.queries), (0.0, 4));
}

#[test]
fn equal_distances_rank_in_order_of_index() {
    let labels = [1, 0, 0, 1, 2];
    let points = |left: f32| [left, 0.0, -left, 50.0, 90.0];
    for left in [-1.0, 1.0] {
        // Index 1 lies between indices 0 and 2, finds the former, of class 1, and misses. Index 2
        // finds index 1 and hits. Index 0 finds index 1 and index 3 finds index 4: misses.
        let found = retrieval(&points(left), 1, &labels).unwrap();
        assert_eq!((found.p_at_1, found.queries), (1.0 / 4.0, 4));
    }
}

#[test]
fn distance_is_euclidean_over_all_dimensions() {
    // From the origin (3, 3) is 4.24 away and (0, 5) is 5; by the largest coordinate 3 and 5; by
    // the sum of coordinates 6 and 5.
    let found = precision_at_1_against(&[0.0, 0.0], &[7], &[0.0, 5.0, 3.0, 3.0], &[1, 7], 2);
    assert_eq!(found, Ok(1.0));
}

#[test]
fn embeddings_too_large_to_square_in_f32_still_rank() {
    let found = retrieval(&[0.0, 2e30, 5e30, 6e30], 1, &[0, 0, 1, 1]).unwrap();
    assert_eq!(found.p_at_1, 1.0);
}

#[test]
fn well_separated_classes_are_perfect() {
    let found = retrieval(
        &[0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 9.0, 9.0, 9.1, 9.0],
        2,
        &[4, 4, 4, 8, 8],
    )
    .unwrap();
    assert_eq!(
        found,
        Retrieval {
            p_at_1: 1.0,
            r_precision: 1.0,
            map_at_r: 1.0,
            queries: 5
        }
    );
}

#[test]
fn nearest_reference_gives_the_label() {
    // 1 is nearest to 0 (label 3), 9 to 10 (label 5), 5 to both and takes the first, -4 to 0; label
    // 6 is not among the references.
    let found = precision_at_1_against(
        &[1.0, 9.0, 5.0, -4.0],
        &[3, 3, 3, 6],
        &[0.0, 10.0],
        &[3, 5],
        1,
    );
    assert_eq!(found, Ok(2.0 / 4.0));
    // The other order of references: 5 now takes label 5.
    let found = precision_at_1_against(
        &[1.0, 9.0, 5.0, -4.0],
        &[3, 3, 3, 6],
        &[10.0, 0.0],
        &[5, 3],
        1,
    );
    assert_eq!(found, Ok(1.0 / 4.0));
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let labels: Vec<u32> = (0..500).map(|_| rng.random_range(0..7)).collect();
    let embeddings: Vec<f32> = (0..1000).map(|_| rng.random()).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| retrieval(&embeddings, 2, &labels).unwrap())
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        assert_eq!(with(threads), one, "{threads} threads");
    }
}

#[test]
fn bad_embeddings_are_refused_with_what_and_where() {
    assert_eq!(
        retrieval(&[1.0], 0, &[1]),
        refusal("the embedding dimension is 0: it must be at least 1")
    );
    assert_eq!(
        retrieval(&[1.0, 2.0, 3.0], 2, &[1]),
        refusal("3 values do not fill rows of 2")
    );
    assert_eq!(
        retrieval(&[1.0; 6], 2, &[1]).unwrap_err().to_string(),
        "embeddings: 6 embedding values and 1 labels with dimension 2: \
         give 2 values for each label, row by row"
    );
    assert!(retrieval(&[1.0; 4], 2, &[1, 1, 1]).is_err());
    // No overflow in the check of lengths.
    assert!(retrieval(&[], usize::MAX, &[1, 1]).is_err());
    assert_eq!(
        retrieval(&[], 2, &[]),
        refusal("embeddings: no embeddings: give at least one")
    );
    assert_eq!(
        retrieval(&[1.0, 2.0, 3.0, f32::INFINITY], 2, &[1, 1])
            .unwrap_err()
            .to_string(),
        "embeddings: row 1, column 1 is inf: embeddings must be finite"
    );
    assert_eq!(
        retrieval(&[1.0, 2.0], 1, &[1, 2]),
        refusal("all 2 labels differ: retrieval needs a class with at least two members")
    );
}

#[test]
fn refusals_say_whether_queries_or_references_are_at_fault() {
    let point = [1.0];
    assert_eq!(
        precision_at_1_against(&[f32::NAN], &[1], &point, &[1], 1)
            .unwrap_err()
            .to_string(),
        "queries: row 0, column 0 is NaN: embeddings must be finite"
    );
    assert_eq!(
        precision_at_1_against(&point, &[1], &[], &[], 1),
        refusal("references: no embeddings: give at least one")
    );
}

#[test]
fn probes_and_gallery_of_different_dimensions_are_refused() {
    let [probes, gallery] = [1, 2].map(|dim| Embeddings::new(vec![1.0; 2], dim).unwrap());
    let found = metrics::precision_at_1_against(&probes, &[1, 1], &gallery, &[1]);
    assert_eq!(found, refusal("queries of dimension 1, references of 2"));
}
