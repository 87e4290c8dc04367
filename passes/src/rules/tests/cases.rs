//! The cases of `testdata/rules`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use adze_ir::graph::Graph;
use adze_ir::text::parse_graph;

/// What a rule does on a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expect {
    /// It applies.
    Applies,
    /// A condition refuses it, and without that one the result is wrong.
    Wrong,
    /// A condition refuses it, and without that one the result is right but no better.
    Idle,
    /// A condition refuses it, and without that one there is nothing that could be made.
    Nothing,
    /// What is extracted with it is cheaper than what is extracted without it.
    Wins,
}

/// A graph with places to draw numbers for.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Name of the rule.
    pub rule: String,
    /// What the rule does.
    pub expect: Expect,
    /// Lines of the graph.
    pub text: String,
    /// File and line.
    place: String,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}", self.place, self.rule, self.expect)
    }
}

/// All cases, in the order of files and lines.
pub(super) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/rules");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().filter(|path| path.extension().is_some_and(|e| e == "cases")).flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        if let Some(head) = line.strip_prefix("== ") {
            let (rule, expect) = head.split_once(' ').unwrap_or_else(|| panic!("{place}: a rule and a word"));
            let expect = match expect {
                "applies" => Expect::Applies,
                "wrong" => Expect::Wrong,
                "idle" => Expect::Idle,
                "nothing" => Expect::Nothing,
                "wins" => Expect::Wins,
                other => panic!("{place}: `{other}`"),
            };
            cases.push(Case { rule: rule.to_owned(), expect, text: String::new(), place });
        } else if let Some(case) = cases.last_mut() {
            case.text += line;
            case.text += "\n";
        }
    }
    cases
}

/// Draws of one case until they are well-typed.
const TRIES: usize = 200;

impl Case {
    /// The graph with numbers in all places; `empty` lets extents be zero.
    pub fn draw(&self, empty: bool, random: &mut fastrand::Rng) -> Graph {
        let mut error = String::new();
        for _ in 0..TRIES {
            let text = constants(&self.numbers(empty, random), random);
            match parse_graph(&format!("graph @case {{\n{text}}}\n")) {
                Ok(graph) => return graph,
                Err(found) => error = format!("{found}\n{text}"),
            }
        }
        panic!("{self}: no draw is well-typed: {error}")
    }

    /// Puts a number for every `$name`, the same for the same name: `$perm4` is a permutation, `$z..` 0 to 2, `$k..` 2 to
    /// 4, every other 1 to 4.
    fn numbers(&self, empty: bool, random: &mut fastrand::Rng) -> String {
        let mut drawn: BTreeMap<String, String> = BTreeMap::new();
        let mut pieces = self.text.split('$');
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
            let (name, rest) = piece.split_at(end);
            let draw = || match (name.strip_prefix("perm"), name.as_bytes()[0]) {
                (Some(rank), _) => {
                    let rank = rank.trim_start_matches(|c: char| c.is_ascii_alphabetic());
                    let mut perm: Vec<usize> = (0..rank.parse().unwrap()).collect();
                    random.shuffle(&mut perm);
                    format!("{perm:?}")
                }
                (None, b'z') => random.i32(0..=2).to_string(),
                (None, b'k') => random.i32(2..=4).to_string(),
                _ => random.i32(if empty { 0..=2 } else { 1..=4 }).to_string(),
            };
            out += drawn.entry(name.to_owned()).or_insert_with(draw);
            out += rest;
        }
        out
    }
}

/// Writes out `random dtype[shape]` (positive for floats) and `signed dtype[shape]`.
fn constants(text: &str, random: &mut fastrand::Rng) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let found = ["random", "signed"].iter().find_map(|word| {
            let (left, ty) = line.split_once(&format!("= {word} "))?;
            Some((left, ty, *word == "signed"))
        });
        let Some((left, ty, signed)) = found else {
            out += &format!("{line}\n");
            continue;
        };
        let (dtype, dims) = ty.trim().trim_end_matches(']').split_once('[').unwrap();
        let dims: Vec<usize> = dims.split(',').filter(|d| !d.is_empty()).map(product).collect();
        let mut value = || match dtype {
            "i8" => random.i8(..).to_string(),
            "u8" => random.u8(..).to_string(),
            "i32" => random.i32(-3000..3000).to_string(),
            _ if signed => format!("{:?}", random.f32() * 2.0 - 1.0),
            _ => format!("{:?}", random.f32() + 0.25),
        };
        let values: Vec<String> = (0..dims.iter().product()).map(|_| value()).collect();
        out += &format!("{left}= const \"\" [{}] : {dtype}{dims:?}\n", values.join(", "));
    }
    out
}

/// `2*3` as a number.
fn product(text: &str) -> usize {
    text.split('*').map(|factor| factor.trim().parse::<usize>().unwrap()).product()
}

impl Expect {
    /// Whether the rule must do nothing.
    pub fn refuses(self) -> bool {
        matches!(self, Expect::Wrong | Expect::Idle | Expect::Nothing)
    }
}
