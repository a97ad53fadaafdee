//! Numbers and lists in sentences.

/// A number of things: "1 class", "2 classes".
pub(super) fn number(n: usize, thing: &str) -> String {
    let plural = if thing.ends_with('s') { "es" } else { "s" };
    match n {
        0 => format!("no {thing}{plural}"),
        1 => format!("1 {thing}"),
        _ => format!("{n} {thing}{plural}"),
    }
}

/// A name between backquotes.
pub(super) fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// Names in a list: "`a`, `b` and `c`".
pub(super) fn and<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(quoted).collect();
    match &names[..] {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
