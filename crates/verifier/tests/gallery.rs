//! Galleries: exact searches, files, and refusals of what does not belong together.

mod network;

use network::verifier;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;
use verifier::{Embeddings, Gallery, Verifier, VerifierError};

fn gallery(verifier: &Verifier, rows: usize) -> Gallery {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // Few values, so with ties.
    let values = (0..4 * rows)
        .map(|_| rng.random_range(0..4) as f32)
        .collect();
    let names = (0..rows).map(|row| format!("row {row}, \"ü\"")).collect();
    Gallery::new(verifier, names, Embeddings::new(values, 4).unwrap()).unwrap()
}

#[test]
fn a_search_finds_what_sorting_all_distances_finds() {
    let verifier = verifier(1);
    let gallery = gallery(&verifier, 5_000);
    let query = [1.0, 2.0, 0.5, 3.0];
    let squares = gallery.embeddings().rows().map(|row| {
        let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
        row.iter().zip(&query).map(square).sum::<f32>()
    });
    let mut expected: Vec<(f32, usize)> = squares.zip(0..).collect();
    expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
    for k in [1, 7, 100, 5_000, 6_000] {
        let found = gallery.search(&query, k).unwrap();
        assert_eq!(found.len(), k.min(5_000));
        for ((name, found), (square, index)) in found.iter().zip(&expected) {
            assert_eq!((found.index, found.distance), (*index, square.sqrt()));
            assert_eq!(*name, gallery.names()[*index]);
        }
    }
    assert!(gallery.search(&query, 0).unwrap().is_empty());
    assert!(gallery.search(&query[..3], 1).is_err());
    assert!(gallery.search(&[f32::NAN; 4], 1).is_err());
}

#[test]
fn a_file_gives_the_gallery_back_to_its_own_model_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/g.safetensors");
    let made = gallery(&verifier(1), 20);
    made.save(&path).unwrap();
    assert_eq!(Gallery::open(&path, &verifier(1)).unwrap(), made);
    let refusal = Gallery::open(&path, &verifier(2)).unwrap_err();
    assert!(
        matches!(refusal, VerifierError::Gallery { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("another model"), "{refusal}");
}

#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    let verifier = verifier(1);
    let refusal = Gallery::open(&path, &verifier).unwrap_err();
    assert!(matches!(refusal, VerifierError::File { .. }), "{refusal}");
    let bytes = gallery(&verifier, 20).to_bytes().unwrap();
    for damaged in [
        &bytes[..bytes.len() - 1],
        &bytes[..9],
        b"",
        b"no gallery at all",
    ] {
        fs::write(&path, damaged).unwrap();
        let refusal = Gallery::open(&path, &verifier).unwrap_err();
        assert!(
            matches!(refusal, VerifierError::Gallery { .. }),
            "{refusal}"
        );
        assert!(refusal.to_string().contains("g.safetensors"), "{refusal}");
    }
}

#[test]
fn names_and_rows_have_to_match() {
    let verifier = verifier(1);
    let rows = |dimension| Embeddings::new(vec![0.0; 12], dimension).unwrap();
    assert!(Gallery::new(&verifier, vec!["a".into(); 2], rows(4)).is_err());
    assert!(Gallery::new(&verifier, vec!["a".into(); 4], rows(3)).is_err());
}

#[test]
fn a_folder_without_pictures_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    for (place, word) in [
        (folder.path(), "no pictures"),
        (Path::new("nowhere"), "nowhere"),
    ] {
        let refusal = Gallery::of_folder(&verifier(1), place, None).unwrap_err();
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}
