//! Names of C: identifiers that are no keywords and mean one thing in a scope.

use std::collections::BTreeSet;

/// Words that generated functions use themselves, and C's.
const RESERVED: &[&str] = &[
    "auto",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "typedef",
    "union",
    "unsigned",
    "void",
    "volatile",
    "while",
    "asm",
    "typeof",
    "linux",
    "unix",
    "main",
    "memcpy",
    "memset",
    "l",
    "lo",
    "hi",
    "dims",
    "call",
    "phase",
    "thread",
    "threads",
    "thread_id",
    "status",
    "arena",
    "weights",
    "run",
    "step",
    "init",
];

/// Names given out, none of them twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// An identifier like the wanted one: other characters become underscores, a taken or reserved one gets a number.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut stem: String = wanted.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // `v12` is how values are called, and what starts with an underscore belongs to the compiler.
        let value = stem.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let macro_like = !stem.contains(|c: char| c.is_ascii_lowercase());
        let foreign =
            stem.starts_with("adze") || stem.ends_with("_t") || !stem.starts_with(|c: char| c.is_alphabetic());
        if value || macro_like || foreign {
            stem = format!("n_{}", stem.trim_end_matches("_t"));
        }
        let mut name = stem.clone();
        let mut count = 1;
        while RESERVED.contains(&name.as_str()) || self.0.contains(&name) {
            count += 1;
            name = format!("{stem}_{count}");
        }
        self.0.insert(name.clone());
        name
    }
}

/// Text that can stand in a comment.
pub(super) fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace("*/", "* /").replace("/*", "/ *")
}
