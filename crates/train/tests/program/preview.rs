use image::RgbImage;

use crate::scratch::Scratch;

impl Scratch {
    /// The images on a sheet, by row, each reduced to one pixel for each of its own.
    fn sheet(&self, side: u32, rows: u32, columns: u32) -> Vec<Vec<RgbImage>> {
        let sheet = image::load_from_memory(&self.read("sheet.png")).unwrap();
        let factor = 64u32.div_ceil(side);
        let cell = side * factor;
        assert_eq!(sheet.width(), columns * (cell + 4) - 4);
        assert_eq!(sheet.height(), rows * (cell + 4) - 4);
        let sheet = sheet.to_rgb8();
        let image = |row: u32, column: u32| {
            RgbImage::from_fn(side, side, |x, y| {
                let [x, y] = [(column, x), (row, y)].map(|(at, i)| at * (cell + 4) + i * factor);
                *sheet.get_pixel(x, y)
            })
        };
        let row = |row| (0..columns).map(|column| image(row, column)).collect();
        (0..rows).map(row).collect()
    }
}

const PREVIEW: &str = "preview --config quick.toml --out sheet.png";

#[test]
fn without_transforms_every_copy_is_the_training_image() {
    let scratch = Scratch::new();
    let ended = scratch.succeeds(&format!("{PREVIEW} --images 10 --copies 2"));
    let said = "wrote sheet.png: 10 training images of ";
    assert!(ended.stderr.starts_with(said), "{}", ended.stderr);
    let rows = scratch.sheet(28, 10, 3);
    let (train, _) = data::digits().unwrap();
    for (class, row) in rows.iter().enumerate() {
        assert!(row[1] == row[0] && row[2] == row[0]);
        // One of each class, in order.
        let grey: Vec<u8> = row[0].pixels().map(|pixel| pixel.0[0]).collect();
        let mut images = (0..train.len()).filter(|&i| train.labels()[i] == class as u32);
        assert!(images.any(|i| train.image(i) == grey));
    }
}

#[test]
fn copies_are_transformed_and_turned_as_the_settings_say() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{PREVIEW} --images 3 --copies 12 --turns quarter"));
    for row in scratch.sheet(28, 3, 13) {
        let turns = [
            row[0].clone(),
            image::imageops::rotate90(&row[0]),
            image::imageops::rotate180(&row[0]),
            image::imageops::rotate270(&row[0]),
        ];
        let turn = |copy| turns.iter().position(|turn| turn == copy).unwrap();
        let found: std::collections::BTreeSet<usize> = row.iter().map(turn).collect();
        assert!(found.len() > 2, "{found:?}");
    }
    scratch.succeeds(&format!(
        "{PREVIEW} --images 2 --copies 3 --set transform.zoom=0.3"
    ));
    for row in scratch.sheet(28, 2, 4) {
        assert!(row[1..].iter().all(|copy| *copy != row[0]));
        assert_ne!(row[1], row[2]);
    }
    let sheet = scratch.read("sheet.png");
    scratch.succeeds(&format!(
        "{PREVIEW} --images 2 --copies 3 --set transform.zoom=0.3 --quiet"
    ));
    assert!(scratch.read("sheet.png") == sheet, "not the same bytes");
}

#[test]
fn a_folder_of_coloured_pictures_is_shown_as_the_network_sees_it() {
    let scratch = Scratch::new();
    for (class, colour) in [("red", [200, 0, 0]), ("blue", [0, 0, 200])] {
        std::fs::create_dir_all(scratch.path("pictures").join(class)).unwrap();
        for i in 0..10 {
            let picture = RgbImage::from_fn(16, 16, |x, _| match x < 3 + i {
                true => image::Rgb(colour),
                false => image::Rgb([255; 3]),
            });
            let name = format!("pictures/{class}/{i}.png");
            picture.save(scratch.path(&name)).unwrap();
        }
    }
    let flags = "--data folder:pictures --input 3x16x16 --images 4 --copies 1";
    scratch.succeeds(&format!("{PREVIEW} {flags}"));
    for (row, images) in scratch.sheet(16, 4, 2).into_iter().enumerate() {
        let colour = [[0, 0, 200], [200, 0, 0]][row / 2];
        assert_eq!(images[0].get_pixel(0, 8).0, colour);
        assert_eq!(images[0].get_pixel(15, 8).0, [255; 3]);
        assert_eq!(images[0], images[1]);
    }
}

#[test]
fn a_sheet_that_cannot_be_made_is_refused() {
    let scratch = Scratch::new();
    scratch.refuses_usage("preview", &["--out <FILE>"]);
    scratch.refuses_usage(&format!("{PREVIEW} --copies 0"), &["--copies", "1..=200"]);
    let line = format!("{PREVIEW} --turns quarter --input 1x28x20");
    scratch.refuses(2, &line, &["data.turns", "20x28", "`mirror`"]);
    let line = "preview --config quick.toml --out quick.toml/sheet.png --quiet";
    scratch.refuses(1, line, &["cannot write quick.toml/sheet.png"]);
}
