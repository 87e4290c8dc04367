//! Tokens of the text formats, shared by graph, tile IR and whatever else is written in them.

use std::fmt;

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pos}: found {found}, expected {expected}")]
pub struct ParseError {
    /// The place.
    pub pos: Pos,
    /// What stands there.
    pub found: String,
    /// What would be accepted.
    pub expected: String,
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word: letters, digits, `_`, `.`; not starting with a digit.
    Word(String),
    /// An integer without sign.
    Int(i64),
    /// A number with a point or an exponent, as written.
    Float(String),
    /// A quoted string, unescaped.
    Str(String),
    /// `%` and a word or number: a value, loop variable or buffer.
    Percent(String),
    /// `@` and a word or quoted string: the name of a graph, program or kernel.
    At(String),
    /// `->`.
    Arrow,
    /// `..`.
    DotDot,
    /// One other character.
    Punct(char),
    /// The end of the text.
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(text) | Token::Float(text) => write!(f, "`{text}`"),
            Token::Int(value) => write!(f, "`{value}`"),
            Token::Str(text) => write!(f, "{text:?}"),
            Token::Percent(text) => write!(f, "`%{text}`"),
            Token::At(text) => write!(f, "`@{text}`"),
            Token::Arrow => f.write_str("`->`"),
            Token::DotDot => f.write_str("`..`"),
            Token::Punct(c) => write!(f, "`{c}`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Deepest nesting of brackets, expressions and blocks that the parsers follow.
pub const MAX_DEPTH: u32 = 200;

/// A position in a sequence of tokens.
pub struct Cursor {
    tokens: Vec<(Token, Pos)>,
    next: usize,
    depth: u32,
}

/// Result of a parsing step.
pub type Parsed<T> = Result<T, ParseError>;

impl Cursor {
    /// Splits a text; `//` starts a comment that ends with the line.
    ///
    /// # Errors
    /// [`ParseError`] for an unfinished string or an integer beyond 63 bits.
    pub fn new(text: &str) -> Parsed<Self> {
        let mut lexer = Lexer { chars: text.chars().collect(), at: 0, pos: Pos { line: 1, column: 1 } };
        let mut tokens = Vec::new();
        loop {
            lexer.skip_blank();
            let pos = lexer.pos;
            let token = lexer.token()?;
            let end = token == Token::End;
            tokens.push((token, pos));
            if end {
                return Ok(Self { tokens, next: 0, depth: 0 });
            }
        }
    }

    /// The next token, without taking it.
    pub fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    /// The token after the next one.
    pub fn peek2(&self) -> &Token {
        &self.tokens[(self.next + 1).min(self.tokens.len() - 1)].0
    }

    /// The place of the next token.
    pub fn pos(&self) -> Pos {
        self.tokens[self.next].1
    }

    /// Takes the next token.
    pub fn bump(&mut self) -> Token {
        let token = self.tokens[self.next].0.clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    /// An error at the next token.
    pub fn unexpected<T>(&self, expected: impl Into<String>) -> Parsed<T> {
        Err(ParseError { pos: self.pos(), found: self.peek().to_string(), expected: expected.into() })
    }

    /// An error at a given place.
    pub fn error<T>(&self, pos: Pos, found: impl Into<String>, expected: impl Into<String>) -> Parsed<T> {
        Err(ParseError { pos, found: found.into(), expected: expected.into() })
    }

    /// Takes a character if it is next.
    pub fn eat(&mut self, c: char) -> bool {
        let found = *self.peek() == Token::Punct(c);
        if found {
            self.bump();
        }
        found
    }

    /// Takes a word if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w == word);
        if found {
            self.bump();
        }
        found
    }

    /// Takes a character that has to be next.
    ///
    /// # Errors
    /// [`ParseError`] when something else is.
    pub fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) { Ok(()) } else { self.unexpected(format!("`{c}`")) }
    }

    /// Takes a word that has to be next.
    ///
    /// # Errors
    /// [`ParseError`] when something else is.
    pub fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { self.unexpected(format!("`{word}`")) }
    }

    /// Takes any word.
    ///
    /// # Errors
    /// [`ParseError`] when something else is next.
    pub fn word(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            Token::Word(word) => {
                let word = word.clone();
                self.bump();
                Ok(word)
            }
            _ => self.unexpected(what),
        }
    }

    /// Takes a quoted string.
    ///
    /// # Errors
    /// [`ParseError`] when something else is next.
    pub fn string(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            Token::Str(text) => {
                let text = text.clone();
                self.bump();
                Ok(text)
            }
            _ => self.unexpected(what),
        }
    }

    /// Takes an integer with an optional minus.
    ///
    /// # Errors
    /// [`ParseError`] when something else is next.
    pub fn int(&mut self, what: &str) -> Parsed<i64> {
        let negative = self.eat('-');
        match self.peek() {
            Token::Int(value) => {
                let value = *value;
                self.bump();
                Ok(if negative { -value } else { value })
            }
            _ => self.unexpected(what),
        }
    }

    /// Takes an integer that is not negative.
    ///
    /// # Errors
    /// [`ParseError`] when something else is next.
    pub fn index(&mut self, what: &str) -> Parsed<usize> {
        let pos = self.pos();
        let value = self.int(what)?;
        usize::try_from(value).or_else(|_| self.error(pos, value.to_string(), what))
    }

    /// Takes the name after `@`.
    ///
    /// # Errors
    /// [`ParseError`] when something else is next.
    pub fn at_name(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::At(name) => {
                let name = name.clone();
                self.bump();
                Ok(name)
            }
            _ => self.unexpected("`@` and a name"),
        }
    }

    /// Runs a parser one level deeper, refusing more than [`MAX_DEPTH`] levels.
    ///
    /// # Errors
    /// What the parser returns, or [`ParseError`] when the text is nested too deeply.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            let pos = self.pos();
            return self.error(pos, "deeper nesting", format!("at most {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// `item, item, ...` up to a closing character, which is taken; a comma at the end is accepted.
    ///
    /// # Errors
    /// What the item parser returns, or [`ParseError`] when neither a comma nor the closing character follows.
    pub fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(item(self)?);
            if !self.eat(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    pos: Pos,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let c = self.peek(0);
        self.at += 1;
        if c == '\n' {
            self.pos = Pos { line: self.pos.line.saturating_add(1), column: 1 };
        } else {
            self.pos.column = self.pos.column.saturating_add(1);
        }
        c
    }

    fn skip_blank(&mut self) {
        while self.at < self.chars.len() {
            if self.peek(0).is_whitespace() {
                self.bump();
            } else if self.peek(0) == '/' && self.peek(1) == '/' {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.bump();
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Parsed<Token> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let c = self.peek(0);
        if c.is_ascii_digit() {
            return self.number();
        }
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Token::Word(self.word()));
        }
        match (c, self.peek(1)) {
            ('"', _) => Ok(Token::Str(self.quoted()?)),
            ('%', next) if is_word(next) => {
                self.bump();
                Ok(Token::Percent(self.word()))
            }
            ('@', '"') => {
                self.bump();
                Ok(Token::At(self.quoted()?))
            }
            ('@', next) if is_word(next) => {
                self.bump();
                Ok(Token::At(self.word()))
            }
            ('-', '>') => {
                self.bump();
                self.bump();
                Ok(Token::Arrow)
            }
            ('.', '.') => {
                self.bump();
                self.bump();
                Ok(Token::DotDot)
            }
            _ => Ok(Token::Punct(self.bump())),
        }
    }

    /// A word; `..` is not part of one, so that `1..n` and `a..b` read as ranges.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while is_word(self.peek(0)) && !(self.peek(0) == '.' && self.peek(1) == '.') {
            word.push(self.bump());
        }
        word
    }

    fn number(&mut self) -> Parsed<Token> {
        let pos = self.pos;
        let mut text = String::new();
        let mut float = false;
        loop {
            let (c, next) = (self.peek(0), self.peek(1));
            let exponent = matches!(c, 'e' | 'E') && (next.is_ascii_digit() || matches!(next, '-' | '+'));
            let point = c == '.' && next != '.' && !float;
            if !(c.is_ascii_digit() || exponent || point) {
                break;
            }
            float |= exponent || point;
            text.push(self.bump());
            if exponent && matches!(self.peek(0), '-' | '+') {
                text.push(self.bump());
            }
        }
        if float {
            return Ok(Token::Float(text));
        }
        match text.parse() {
            Ok(value) => Ok(Token::Int(value)),
            Err(_) => Err(ParseError { pos, found: text, expected: "an integer below 2^63".into() }),
        }
    }

    fn quoted(&mut self) -> Parsed<String> {
        let pos = self.pos;
        let error =
            |found: &str| ParseError { pos, found: found.into(), expected: "a string with a closing quote".into() };
        self.bump();
        let mut text = String::new();
        loop {
            if self.at >= self.chars.len() {
                return Err(error("an unfinished string"));
            }
            match self.bump() {
                '"' => return Ok(text),
                '\\' => text.push(self.escape().ok_or_else(|| error("an unknown escape"))?),
                c => text.push(c),
            }
        }
    }

    /// The escapes that Rust's `{:?}` writes.
    fn escape(&mut self) -> Option<char> {
        Some(match self.bump() {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            c @ ('"' | '\\' | '\'') => c,
            'u' => {
                if self.bump() != '{' {
                    return None;
                }
                let mut code = 0u32;
                for _ in 0..7 {
                    match self.bump() {
                        '}' => return char::from_u32(code),
                        digit => code = code.checked_mul(16)?.checked_add(digit.to_digit(16)?)?,
                    }
                }
                return None;
            }
            _ => return None,
        })
    }
}
