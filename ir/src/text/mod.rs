//! Text form of the IRs: lexer, parsers and printers, side by side. `parse(print(x)) == x`.

mod common;
mod graph;
mod lex;
mod tile;

pub use common::{Spelling, parse_attr, parse_extent, parse_loc, parse_op_attrs, parse_type, print_op};
pub use graph::{brief_const, parse_dims, parse_graph, parse_state, print_dims, print_graph, print_node, print_state};
pub(crate) use graph::{parse_const, percent, print_const};
pub use lex::{Cursor, MAX_DEPTH, ParseError, Parsed, Pos, Token};
pub use tile::{parse_program, print_program};
