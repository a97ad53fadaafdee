//! The data behind a figure, for other programs.

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
    ) -> Self {
        let mut csv = line(&columns);
        for row in rows {
            csv += &line(&row);
        }
        Self { name, csv }
    }
}

fn line(fields: &[impl AsRef<str>]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field.as_ref())).collect();
    fields.join(",") + "\n"
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
