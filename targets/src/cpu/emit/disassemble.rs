//! Words as LLVM's disassembler reads them, for tests of encoders.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// How to read an instruction set.
pub(super) struct Reader {
    /// Options of `llvm-mc`.
    pub options: &'static [&'static str],
    /// What comments start with.
    pub comment: &'static str,
    /// An instruction that does nothing, and its text: stands between words, since one that is not known leaves no line.
    pub between: (u32, &'static str),
}

/// LLVM's disassembler of the newest version there is; `None` when there is none, which CI does not accept.
pub(super) fn disassembler() -> Option<&'static str> {
    let names = ["llvm-mc-22", "llvm-mc-21", "llvm-mc-20", "llvm-mc-19", "llvm-mc"];
    let found = names
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok());
    if found.is_none() {
        assert!(std::env::var_os("ADZE_REQUIRE").is_none(), "ADZE_REQUIRE is set and this is missing: llvm-mc");
        eprintln!("skipped: llvm-mc");
    }
    found
}

impl Reader {
    /// The text of each word, white space made one blank; nothing for what is not known.
    pub fn read(&self, program: &str, words: &[u32]) -> Vec<String> {
        let mut child = Command::new(program)
            .arg("--disassemble")
            .args(self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let line = |word: u32| word.to_le_bytes().iter().map(|byte| format!("{byte:#04x} ")).collect::<String>() + "\n";
        let input: String = words.iter().flat_map(|word| [line(*word), line(self.between.0)]).collect();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let plain =
            |line: &str| line.split(self.comment).next().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> =
            text.lines().map(plain).filter(|line| !line.is_empty() && !line.starts_with('.')).collect();
        let mut found: Vec<String> = lines.split(|line| line == self.between.1).map(|lines| lines.join(" ")).collect();
        found.pop();
        found
    }
}
