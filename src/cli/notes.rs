//! What a command says on stderr while it runs.

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::Style;

const DIM: Style = Style::new().dimmed();

/// Says on stderr what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes {
    pub dim: bool,
}

impl Notes {
    /// Dim on a terminal, unless `NO_COLOR` is set.
    pub fn usual() -> Self {
        Self { dim: colours_allowed() && io::stderr().is_terminal() }
    }

    /// Says something. Where nobody listens, nothing is lost.
    pub fn say(self, text: &str) {
        let text = plain(text);
        let mut err = io::stderr().lock();
        let _ = if self.dim { writeln!(err, "{DIM}{text}{DIM:#}") } else { writeln!(err, "{text}") };
    }
}

/// Whether colours are wanted where a terminal shows them: see no-color.org.
pub(super) fn colours_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a server says must not steer the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
