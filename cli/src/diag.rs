//! Diagnostics: text for people, JSON for pipelines, exit codes for both.

use std::process::ExitCode;

use adze_compiler::Error;
use adze_compiler::onnx::{ErrorKind, ImportError, Place};
use clap::ValueEnum;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde::Serialize;

/// Form of diagnostics.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MessageFormat {
    /// For people.
    Text,
    /// One JSON object per line and diagnostic.
    Json,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// An error of the compiler.
    Error(Box<Error>),
    /// A comparison over its threshold; already printed.
    Threshold,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(Box::new(error.into()))
    }
}

/// One diagnostic in its general form.
#[derive(Serialize)]
struct Diagnostic {
    severity: &'static str,
    code: String,
    stage: &'static str,
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Failure {
    /// Writes the diagnostics to standard error and gives the exit code.
    pub fn report(&self, format: MessageFormat) -> ExitCode {
        let Failure::Error(error) = self else { return ExitCode::from(3) };
        let reproducer = (error.kind() == ErrorKind::Bug).then(|| crate::bug::write_reproducer(&error.to_string()));
        for mut diagnostic in diagnostics(error) {
            if reproducer.is_some() {
                diagnostic.help.clone_from(&reproducer);
            }
            match format {
                MessageFormat::Json => match serde_json::to_string(&diagnostic) {
                    Ok(line) => eprintln!("{line}"),
                    Err(problem) => eprintln!("{}: {problem}", diagnostic.message),
                },
                MessageFormat::Text => eprint!("{}", render(&diagnostic, error)),
            }
        }
        ExitCode::from(error.exit_code())
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Model => "wrong",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Bug => "bug",
    }
}

fn diagnostics(error: &Error) -> Vec<Diagnostic> {
    let stage = error.stage();
    if let Error::Import(ImportError::Issues(issues)) = error {
        let one = |issue: &adze_compiler::onnx::Issue| Diagnostic {
            severity: "error",
            code: format!("{stage}::{}", kind_name(issue.kind)),
            stage,
            kind: kind_name(issue.kind),
            message: format!("{}: found {}", issue.place, issue.found),
            node: match &issue.place {
                Place::Node { name, .. } => Some(name.clone()),
                _ => None,
            },
            help: Some(format!("accepted: {}", issue.accepted)),
        };
        return issues.iter().map(one).collect();
    }
    let kind = kind_name(error.kind());
    let message = error.to_string();
    vec![Diagnostic {
        severity: "error",
        code: format!("{stage}::{kind}"),
        stage,
        kind,
        message,
        node: None,
        help: None,
    }]
}

fn render(diagnostic: &Diagnostic, error: &Error) -> String {
    let mut shown = MietteDiagnostic::new(diagnostic.message.clone()).with_code(diagnostic.code.clone());
    if let Some(help) = &diagnostic.help {
        shown = shown.with_help(help.clone());
    }
    let mut report = None;
    if let Error::Parse { path, error, text } = error {
        let line_start: usize = text.split_inclusive('\n').take(error.pos.line as usize - 1).map(str::len).sum();
        let label = format!("found {}, expected {}", error.found, error.expected);
        let offset = (line_start + error.pos.column as usize - 1).min(text.len());
        let labelled = shown.clone().with_label(LabeledSpan::at_offset(offset, label));
        report = Some(Report::new(labelled).with_source_code(NamedSource::new(path.to_string_lossy(), text.clone())));
    }
    let report = report.unwrap_or_else(|| Report::new(shown));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut out = String::new();
    match GraphicalReportHandler::new_themed(theme).with_width(120).render_report(&mut out, report.as_ref()) {
        Ok(()) => out,
        Err(_) => format!("error[{}]: {}\n", diagnostic.code, diagnostic.message),
    }
}
