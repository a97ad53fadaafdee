//! The kernels' C interface in Rust, read from its headers, so that it is written once. bindgen would
//! do it too, but needs libclang; headers as plain as these don't.

use std::fmt::Write;

/// A header's enums, structs and functions.
#[derive(Default)]
pub struct Interface {
    numbers: Vec<(String, i32)>,
    structs: Vec<(String, Vec<Declared>)>,
    functions: Vec<(Declared, Vec<Declared>)>,
}

/// A name with its type in Rust.
struct Declared {
    name: String,
    kind: String,
}

impl Interface {
    /// Adds what a header declares.
    ///
    /// # Panics
    ///
    /// Where it is not as plain as the headers of the kernels.
    pub fn read(&mut self, header: &str) {
        let text = declarations(header);
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (item, end) = if rest.starts_with("enum ") || rest.starts_with("struct ") {
                split(rest, "};")
            } else {
                split(rest, ";")
            };
            rest = end.trim_start();
            let (head, body) = item.split_once(['{', '(']).expect("a body or arguments");
            if let Some(name) = head.strip_prefix("struct ") {
                let fields = body.split(';').filter_map(Declared::new).collect();
                self.structs.push((name.trim().into(), fields));
            } else if head.starts_with("enum ") {
                let mut next = 0;
                for entry in body.split(',').map(str::trim).filter(|x| !x.is_empty()) {
                    let (name, number) = entry.split_once('=').unwrap_or((entry, ""));
                    next = number.trim().parse().unwrap_or(next);
                    self.numbers.push((name.trim().into(), next));
                    next += 1;
                }
            } else {
                let arguments = body.trim_end_matches(')').split(',');
                self.functions.push((
                    Declared::new(head).expect("a function has a name"),
                    arguments.filter_map(Declared::new).collect(),
                ));
            }
        }
    }

    /// The structs, constants and functions, the latter as methods of `Kernels` too.
    pub fn rust(&self) -> String {
        let mut out = String::new();
        let mut numbers = String::new();
        for (name, number) in &self.numbers {
            writeln!(out, "pub const {name}: i32 = {number};").unwrap();
            write!(numbers, "(\"{name}\", {name}), ").unwrap();
        }
        writeln!(out, "const NUMBERS: &[(&str, i32)] = &[{numbers}];").unwrap();
        let mut sizes = String::new();
        for (name, fields) in &self.structs {
            let list = listed(fields, |field| {
                format!("pub {}: {}", field.name, field.kind)
            });
            writeln!(out, "#[repr(C)] #[derive(Clone, Copy, Debug)]").unwrap();
            writeln!(out, "pub struct {name} {{ {list} }}").unwrap();
            write!(sizes, "size_of::<{name}>(), ").unwrap();
            for Declared { name: field, .. } in fields {
                write!(sizes, "std::mem::offset_of!({name}, {field}), ").unwrap();
            }
        }
        writeln!(out, "const SIZES: &[usize] = &[{sizes}];").unwrap();
        let (mut linked, mut methods) = (String::new(), String::new());
        for (Declared { name, kind }, arguments) in &self.functions {
            let declared = listed(arguments, |x| format!("{}: {}", x.name, x.kind));
            let kinds = listed(arguments, |x| x.kind.clone());
            let names = listed(arguments, |x| x.name.clone());
            let result = match kind.as_str() {
                "c_void" => String::new(),
                _ => format!(" -> {kind}"),
            };
            writeln!(linked, "pub fn {name}({declared}){result};").unwrap();
            writeln!(
                methods,
                "pub unsafe fn {name}(&self, {declared}){result} {{\n\
                 let linked: unsafe extern \"C\" fn({kinds}){result} = linked::{name};\n\
                 // SAFETY: the caller's; a library's function has the type of the linked one.\n\
                 unsafe {{ self.function(\"{name}\", linked)({names}) }}\n}}"
            )
            .unwrap();
        }
        writeln!(
            out,
            "pub mod linked {{ use super::*; unsafe extern \"C\" {{\n{linked}}} }}"
        )
        .unwrap();
        writeln!(out, "impl Kernels {{\n{methods}}}").unwrap();
        out
    }

    /// A C++ function that tells sizes, offsets and numbers, in the order of `SIZES` and `NUMBERS`.
    pub fn probe(&self) -> String {
        let mut all = String::new();
        for (name, fields) in &self.structs {
            write!(all, "sizeof({name}), ").unwrap();
            for Declared { name: field, .. } in fields {
                let field = field.trim_end_matches('_');
                write!(all, "offsetof({name}, {field}), ").unwrap();
            }
        }
        for (name, _) in &self.numbers {
            write!(all, "{name}, ").unwrap();
        }
        format!(
            "#include \"emulator_probe.h\"\n\
             size_t probe_interface(int64_t *numbers, size_t capacity) {{\n\
             const int64_t all[] = {{{all}}};\n\
             const size_t count = sizeof all / sizeof *all;\n\
             for (size_t i = 0; i < count && i < capacity; i++) numbers[i] = all[i];\n\
             return count;\n}}\n"
        )
    }
}

impl Declared {
    /// Of `const struct contrastive_matrix *data`; none of `void` and of nothing.
    fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text == "void" {
            return None;
        }
        let start = text.rfind([' ', '*']).expect("a type and a name") + 1;
        let (kind, name) = text.split_at(start);
        let words = kind.replace(['*'], " ");
        let base = words
            .split_whitespace()
            .find(|word| !["const", "struct"].contains(word))
            .expect("a type");
        let base = match base {
            "void" => "c_void",
            "char" => "c_char",
            "size_t" => "usize",
            "double" => "f64",
            "float" => "f32",
            "bool" => "bool",
            "int32_t" => "i32",
            "int64_t" => "i64",
            "uint16_t" => "u16",
            "uint32_t" => "u32",
            "uint64_t" => "u64",
            _ if base.starts_with("contrastive_") => base,
            _ => panic!("{base} in `{text}`: no type in Rust for it"),
        };
        let kind = match (kind.contains('*'), kind.contains("const ")) {
            (false, _) => base.into(),
            (true, true) => format!("*const {base}"),
            (true, false) => format!("*mut {base}"),
        };
        let name = if name == "type" { "type_" } else { name };
        Some(Self {
            name: name.into(),
            kind,
        })
    }
}

/// The header without comments, preprocessor lines and what is for C++ alone.
fn declarations(header: &str) -> String {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text += before;
        rest = split(comment, "*/").1;
    }
    text += rest;
    let mut for_c = true;
    let mut lines = String::new();
    for line in text.lines() {
        match line {
            "#ifdef __cplusplus" => for_c = false,
            "#endif" => for_c = true,
            _ if for_c && !line.starts_with('#') => {
                lines += line;
                lines.push('\n');
            }
            _ => {}
        }
    }
    lines
}

fn split<'a>(text: &'a str, end: &str) -> (&'a str, &'a str) {
    text.split_once(end)
        .unwrap_or_else(|| panic!("no {end:?} after {text:?}"))
}

fn listed(declared: &[Declared], as_text: impl Fn(&Declared) -> String) -> String {
    declared.iter().map(as_text).collect::<Vec<_>>().join(", ")
}
