//! The rules of the house, checked on the text of `src/`: imports run downwards only, files stay short, and nothing
//! is left undone.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, as in `src/lib.rs`.
const FLOORS: &[(&str, u8)] = &[
    ("cli", 6),
    ("endpoint", 5),
    ("controller", 5),
    ("manifest", 5),
    ("worker", 4),
    ("source", 3),
    ("rule", 3),
    ("health", 3),
    ("access", 3),
    ("stream", 2),
    ("record", 1),
    ("api", 1),
    ("telemetry", 0),
];

const MOST_LINES: usize = 550;
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];
const UNDONE: &[&str] = &["todo", "unimplemented"];
/// Writes generated files when asked to, through the test runner: no test that was given up.
const WRITERS: &[&str] = &["generated.rs"];

/// Where a rule is broken.
#[derive(Debug, PartialEq)]
struct Fault {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// The names and punctuation of a file, without its comments, texts and characters; `::` is one token.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let text: String = chars[at..end].iter().collect();
        let quoted = text.ends_with(['"', '\'', '#']) && text.len() > 1;
        let skipped = quoted || text.starts_with("//") || text.starts_with("/*") || chars[at].is_whitespace();
        let lines = text.matches('\n').count();
        if !skipped {
            found.push(Token { text, line });
        }
        line += lines;
        at = end;
    }
    found
}

/// Where the token that begins at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let until = |stop: &dyn Fn(&[char]) -> bool, from: usize| {
        (from..rest.len()).find(|&end| stop(&rest[end..])).map_or(rest.len(), |end| end)
    };
    let starts = |text: &str| rest.iter().copied().take(text.chars().count()).eq(text.chars());
    let name = |from: usize| until(&|rest| !(rest[0].is_alphanumeric() || rest[0] == '_'), from);
    let length = match rest[0] {
        '/' if starts("//") => until(&|rest| rest[0] == '\n', 2),
        '/' if starts("/*") => block_comment(rest),
        '"' => quoted(rest, 1),
        '\'' => character(rest).unwrap_or(1),
        ':' if starts("::") => 2,
        first if first.is_alphabetic() || first == '_' => {
            let end = name(0);
            let prefix: String = rest[..end].iter().collect();
            let after = rest.get(end).copied();
            match (prefix.as_str(), after) {
                ("r" | "br" | "cr", Some('"' | '#')) => raw(rest, end).unwrap_or(end),
                ("b" | "c", Some('"')) => quoted(rest, end + 1),
                ("b", Some('\'')) => character(&rest[end..]).map_or(end, |length| end + length),
                _ => end,
            }
        }
        _ => 1,
    };
    at + length
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a text whose inside begins at `from`.
fn quoted(rest: &[char], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a raw text whose hashes begin at `from`; `None` where it is a raw name.
fn raw(rest: &[char], from: usize) -> Option<usize> {
    let hashes = rest[from..].iter().take_while(|&&c| c == '#').count();
    let open = from + hashes;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |&at: &usize| rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((open + 1..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes))
}

/// The length of a character in quotes; `None` where the quote begins a lifetime.
fn character(rest: &[char]) -> Option<usize> {
    match (rest.get(1)?, rest.get(2)?) {
        ('\\', _) => (3..rest.len().min(14)).find(|&at| rest[at] == '\'').map(|at| at + 1),
        (_, '\'') => Some(3),
        _ => None,
    }
}

/// The rooms that a file names: through `crate::` or by climbing with `super::` to the crate's root.
/// `module` is the file's own path in the crate, for example `["stream", "ring"]`.
fn rooms_named(tokens: &[Token], module: &[&str]) -> Vec<Token> {
    let (mut named, mut inline, mut depth) = (Vec::new(), Vec::new(), 0usize);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "mod" if is(at + 2, "{") => inline.push(depth),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "crate" if is(at + 1, "::") && !(at > 0 && is(at - 1, "$")) => named.extend(heads(&tokens[at + 2..])),
            "super" if is(at + 1, "::") => {
                let mut climbed = 1;
                while is(at + 2, "super") && is(at + 3, "::") {
                    (climbed, at) = (climbed + 1, at + 2);
                }
                if climbed == module.len() + inline.len() {
                    named.extend(heads(&tokens[at + 2..]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    named
}

/// The first names of a path, or of each path in a group.
fn heads(tokens: &[Token]) -> Vec<Token> {
    match tokens.first() {
        Some(first) if first.is_name() => vec![first.clone()],
        Some(first) if first.text == "{" => {
            let (mut depth, mut heads, mut fresh) = (0usize, Vec::new(), true);
            for token in tokens {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" if depth == 1 => break,
                    "}" => depth -= 1,
                    "," if depth == 1 => fresh = true,
                    _ if depth == 1 && fresh => {
                        heads.push(token.clone());
                        fresh = false;
                    }
                    _ => {}
                }
            }
            heads
        }
        _ => Vec::new(),
    }
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What is wrong with a file of `src/`, whose path is given from there.
fn faults(path: &str, source: &str) -> Vec<Fault> {
    let module: Vec<&str> = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let fault = |line, rule| Fault { file: format!("src/{path}"), line, rule };
    let mut faults = Vec::new();
    let count = source.lines().count();
    if count > MOST_LINES {
        faults.push(fault(MOST_LINES + 1, format!("a file has {MOST_LINES} lines at most, this one has {count}")));
    }
    if let Some(name) = module.iter().find(|name| EMPTY_NAMES.contains(name)) {
        faults.push(fault(1, format!("a module called `{name}` says nothing: name what lives there")));
    }
    let tokens = tokens(source);
    for pair in tokens.windows(3) {
        let [first, second, third] = pair else {
            continue;
        };
        if first.text == "mod" && EMPTY_NAMES.contains(&second.text.as_str()) {
            faults.push(fault(
                second.line,
                format!("a module called `{}` says nothing: name what lives there", second.text),
            ));
        }
        if UNDONE.contains(&first.text.as_str()) && second.text == "!" {
            faults.push(fault(first.line, format!("`{}!` is work left undone", first.text)));
        }
        if first.text == "[" && second.text == "ignore" && ["]", "="].contains(&third.text.as_str()) {
            faults.push(fault(second.line, "a test that is ignored shows nothing: make it run or take it out".into()));
        }
    }
    if module == ["lib"] || module == ["main"] {
        return faults;
    }
    let Some(own) = floor(module[0]) else {
        faults.push(fault(
            1,
            format!("`{}` stands on no floor: give it one in src/lib.rs and tests/house.rs", module[0]),
        ));
        return faults;
    };
    for room in rooms_named(&tokens, &module) {
        let name = room.text.as_str();
        let rule = match floor(name) {
            _ if name == module[0] || name == "self" => continue,
            None => format!("`{name}` is no room of the house"),
            Some(other) if other > own => {
                format!("`{}` (floor {own}) imports upwards from `{name}` (floor {other})", module[0])
            }
            Some(other) if other == own => {
                format!("`{}` imports sideways from `{name}`: both are on floor {own}", module[0])
            }
            Some(_) => continue,
        };
        faults.push(fault(room.line, rule));
    }
    faults
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten().map(|entry| entry.path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
}

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "the house was found");
    let mut broken = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a readable file");
        let path = file.strip_prefix(&root).expect("a file in src").to_string_lossy().replace('\\', "/");
        broken.extend(faults(&path, &source).iter().map(ToString::to_string));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_test_is_ignored() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut files);
    let ignored = |file: &PathBuf| {
        let source = fs::read_to_string(file).expect("a readable file");
        tokens(&source).windows(2).any(|pair| pair[0].text == "[" && pair[1].text == "ignore")
    };
    files.retain(|file| !WRITERS.iter().any(|writer| file.ends_with(writer)) && ignored(file));
    assert!(files.is_empty(), "ignored tests in {files:?}");
}

#[test]
fn the_table_of_floors_is_that_of_the_front_page() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the front page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | ")).filter_map(|row| {
        let (floor, rest) = row.split_once(" | [`")?;
        Some((rest.split_once('`')?.0, floor.parse::<u8>().ok()?))
    });
    let mut count = 0;
    for (room, number) in rows {
        assert_eq!(floor(room), Some(number), "`{room}` is on floor {number} on the front page");
        count += 1;
    }
    assert!(count > 5, "the front page has its table");
}

fn rules(path: &str, source: &str) -> Vec<(usize, String)> {
    faults(path, source).into_iter().map(|fault| (fault.line, fault.rule)).collect()
}

#[test]
fn an_import_upwards_or_sideways_is_seen_however_it_is_written() {
    let upwards = "`stream` (floor 2) imports upwards from `worker` (floor 4)";
    for source in [
        "use crate::worker::Supervisor;",
        "use crate::{record::Batch, worker::{self, Supervisor}};",
        "fn f() { crate::worker::run() }",
        "use super::super::worker::Supervisor;",
        "#[cfg(test)] mod tests { use super::super::super::worker::Supervisor; }",
        "let c = '\"'; let s = \"{\"; use crate::worker;",
        "fn f<'a>(x: &'a str) -> crate::worker::Y<'a> {}",
        "const R: &str = r#\"a \" b\"#; use crate::worker;",
    ] {
        assert_eq!(rules("stream/ring.rs", source), [(1, upwards.to_owned())], "{source}");
    }
    assert_eq!(
        rules("api/mod.rs", "\n/* one\ntwo */ use crate::record::Time;"),
        [(3, "`api` imports sideways from `record`: both are on floor 1".to_owned())]
    );
    assert_eq!(rules("source/files.rs", "use super::super::access::Key;").len(), 1);
    assert_eq!(rules("telemetry.rs", "use super::api::X;").len(), 1);
    assert_eq!(rules("attic/mod.rs", "").len(), 1);
    assert_eq!(rules("stream/mod.rs", "use crate::attic::X;"), [(1, "`attic` is no room of the house".to_owned())]);
}

#[test]
fn what_is_allowed_raises_nothing() {
    for (path, source) in [
        ("stream/ring.rs", "use crate::record::{Batch, Time}; use crate::{telemetry, stream::Seq}; use super::Seq;"),
        (
            "stream/ring.rs",
            "// crate::worker\n/// [`crate::cli`]\nconst S: &str = \"crate::cli\"; const R: &str = r\"crate::cli\";",
        ),
        ("stream/ring.rs", "mod tests { use super::super::worker::X; }\npub(super) fn f() {}"),
        ("stream/tests/join.rs", "use super::super::worker::X;"),
        ("lib.rs", "pub use crate::cli::run;"),
        ("cli/run.rs", "use crate::{controller, endpoint, worker};"),
    ] {
        assert_eq!(rules(path, source), [], "{source}");
    }
}

#[test]
fn the_other_rules_can_be_broken_too() {
    assert_eq!(rules("api/mod.rs", &"\n".repeat(MOST_LINES)), []);
    assert_eq!(rules("api/mod.rs", &"\n".repeat(MOST_LINES + 1)).len(), 1);
    assert_eq!(rules("api/utils.rs", "").len(), 1);
    assert_eq!(
        rules("api/mod.rs", "mod helpers;"),
        [(1, "a module called `helpers` says nothing: name what lives there".to_owned())]
    );
    assert_eq!(rules("api/mod.rs", &format!("fn f() {{\n    {}!()\n}}", UNDONE[0])).len(), 1);
    assert_eq!(rules("api/mod.rs", "#[test]\n#[ignore]\nfn f() {}")[0].0, 2);
    assert_eq!(rules("api/mod.rs", "#[ignore = \"slow\"]\nfn f() {}").len(), 1);
    let shown = Fault { file: "src/api/mod.rs".into(), line: 3, rule: "a rule".into() };
    assert_eq!(shown.to_string(), "src/api/mod.rs:3: a rule");
}
