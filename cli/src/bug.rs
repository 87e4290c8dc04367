//! Panics and broken invariants: exit code 70 and a file that says how to see it again.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::sync::Mutex;

/// Where the reproducer is written, in the current folder.
const FILE: &str = "adze-reproducer.txt";

/// Place and backtrace-free message of the last panic.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Runs a command; a panic is reported like any other bug of ours.
pub fn guard<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        let text = format!("{}{place}", message(info.payload()));
        // A poisoned lock holds an earlier panic's text: as good.
        *LAST.lock().unwrap_or_else(|e| e.into_inner()) = text;
    }));
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| LAST.lock().unwrap_or_else(|e| e.into_inner()).clone())
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// Writes the reproducer and gives a sentence that says where it is.
pub fn write_reproducer(problem: &str) -> String {
    let mut text = format!("adze {}\n", env!("CARGO_PKG_VERSION"));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "command: {}", command_line());
    let _ = writeln!(text, "folder: {}", std::env::current_dir().unwrap_or_default().display());
    let _ = writeln!(text, "problem: {problem}");
    match std::fs::write(FILE, text) {
        Ok(()) => format!("`{FILE}` says how to see it again; please report it with the model"),
        Err(error) => format!("please report it with the model and this command: {} ({error})", command_line()),
    }
}

fn command_line() -> String {
    let quote = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        let plain = arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=,:@+".contains(c)) && !arg.is_empty();
        if plain { arg } else { format!("'{}'", arg.replace('\'', "'\\''")) }
    };
    std::env::args_os().map(quote).collect::<Vec<_>>().join(" ")
}
