/// The Euclidean distance of two embeddings, (D,) each, which every verdict goes by: computed in
/// f64 and rounded once. If one is shorter, the other's further numbers are ignored.
pub fn euclidean(a: &[f32], b: &[f32]) -> f32 {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt() as f32
}
