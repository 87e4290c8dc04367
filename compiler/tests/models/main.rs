//! The shared trained networks, end to end: recorded cases, the interpreter as oracle, other machines, open dimensions,
//! states, memory. What each needs and how it is skipped stands in `docs/testing.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod c99;
mod cross;
mod dynamic;
mod explain;
mod glue;
mod jobs;
mod leaves;
mod memory;
mod npu;
mod recorded;
mod replay;
mod rules;
mod samples;
mod seeded;
mod shared;
