/// The Euclidean distance of two embeddings, the one that verdicts are given on: in f64, rounded
/// once. Of unequal lengths, the shorter one counts.
pub fn euclidean(a: &[f32], b: &[f32]) -> f32 {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt() as f32
}
