//! `${NAME}` and `$NAME` in values: taken from the environment, never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where the values of variables come from.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

/// The value of a variable, where it is set.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }

    /// These alone.
    pub fn of(pairs: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let map: BTreeMap<_, _> = pairs.into_iter().collect();
        Self(Arc::new(move |name| map.get(name).map(|value| (*value).to_owned())))
    }

    /// The text with its variables filled in. `$$` is a dollar; so is one that no name follows.
    ///
    /// # Errors
    /// Every variable that is not set, or a brace that is never closed.
    pub fn fill(&self, text: &str) -> Result<String, Vec<VariableError>> {
        let (mut filled, mut errors, mut rest) = (String::with_capacity(text.len()), Vec::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            rest = match next(after) {
                Piece::Dollar(rest) => {
                    filled.push('$');
                    rest
                }
                Piece::Variable(name, rest) => {
                    match (self.0)(name) {
                        Some(value) => filled.push_str(&value),
                        None => errors.push(VariableError::NotSet(name.to_owned())),
                    }
                    rest
                }
                Piece::Broken => {
                    errors.push(VariableError::Form);
                    ""
                }
            };
        }
        filled.push_str(rest);
        if errors.is_empty() { Ok(filled) } else { Err(errors) }
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

/// Why a text cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// There is no such variable.
    #[error("the variable {0} is not set; set it in the environment of Weir, or write $$ for a dollar")]
    NotSet(String),
    /// `${` without a name and a brace.
    #[error("`${{` needs the name of a variable and `}}` after it; write $$ for a dollar")]
    Form,
}

enum Piece<'t> {
    Dollar(&'t str),
    Variable(&'t str, &'t str),
    Broken,
}

/// What a dollar means, by what follows it.
fn next(after: &str) -> Piece<'_> {
    if let Some(rest) = after.strip_prefix('$') {
        return Piece::Dollar(rest);
    }
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some((name, rest)) if !name.is_empty() && name_length(name) == name.len() => Piece::Variable(name, rest),
            _ => Piece::Broken,
        };
    }
    match name_length(after) {
        0 => Piece::Dollar(after),
        length => {
            let (name, rest) = after.split_at(length);
            Piece::Variable(name, rest)
        }
    }
}

/// How much of the text, from its beginning, is the name of a variable.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_once() {
        let variables = Variables::of([("A", "1"), ("B_2", "$A")]);
        for (text, filled) in [
            ("none", "none"),
            ("${A}", "1"),
            ("$A", "1"),
            ("x${A}y$B_2-z", "x1y$A-z"),
            ("$$A $$", "$A $"),
            ("cost: 5$", "cost: 5$"),
            ("$5 ^a$|b", "$5 ^a$|b"),
        ] {
            assert_eq!(variables.fill(text).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn all_that_is_missing_is_told() {
        let variables = Variables::of([]);
        let missing = |name: &str| VariableError::NotSet(name.to_owned());
        assert_eq!(variables.fill("${A}$B").unwrap_err(), [missing("A"), missing("B")]);
        for text in ["${", "${}", "${A", "${A-b}", "${1}"] {
            assert_eq!(variables.fill(text).unwrap_err(), [VariableError::Form], "{text}");
        }
    }
}
