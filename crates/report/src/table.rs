//! The data behind a figure, for other programs.

use anyhow::Result;

/// A table with a line of names above its rows.
pub struct Table {
    /// The file's name, without its `.csv`.
    pub name: &'static str,
    /// The table as CSV (RFC 4180, but with bare line feeds).
    pub csv: String,
}

impl Table {
    /// A table of `rows`, each as long as `columns`.
    pub fn new<const N: usize>(
        name: &'static str,
        columns: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(columns)?;
        for row in rows {
            csv.write_record(row)?;
        }
        let csv = String::from_utf8(csv.into_inner()?)?;
        Ok(Self { name, csv })
    }
}
