//! The pages for people say what the program does: no reason, metric or option is missing, no link leads nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

use std::path::{Path, PathBuf};

use regex::Regex;
use weir::api::condition::reason;
use weir::telemetry::{Exposition, Metrics};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of a table's first column, each `name` in it by itself.
fn first_column(page: &str) -> Vec<String> {
    let names = Regex::new("`([^`]+)`").unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
        .flat_map(|cell| names.captures_iter(cell).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn operations_explains_every_reason() {
    let page = read("docs/operations.md");
    let explained = first_column(&page[page.find("## Reasons").expect("there is a chapter on reasons")..]);
    let missing: Vec<_> = reason::ALL.iter().filter(|reason| !explained.iter().any(|e| e == reason.as_str())).collect();
    assert!(missing.is_empty(), "add to the table under Reasons in docs/operations.md: {missing:?}");
}

#[test]
fn operations_explains_every_metric_and_no_other() {
    let metrics = Metrics::new();
    let text = metrics.encode(Exposition::Prometheus);
    let exported: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    let page = read("docs/operations.md");
    let (from, to) = (page.find("## Metrics").unwrap(), page.find("## Health").unwrap());
    let explained = first_column(&page[from..to]);
    for metric in &exported {
        assert!(explained.contains(metric), "add {metric} to the table under Metrics in docs/operations.md");
    }
    for metric in &explained {
        assert!(exported.contains(metric), "docs/operations.md explains {metric}, which is not exported");
    }
}

/// The names of environment variables in a file.
fn variables(path: &str) -> Vec<String> {
    let variable = Regex::new("WEIR_[A-Z_]+").unwrap();
    variable.find_iter(&read(path)).map(|found| found.as_str().to_owned()).collect()
}

/// The files of `src/cli` in which the options of `weir run` stand.
const OPTIONS: [&str; 8] = [
    "run_options",
    "endpoint_options",
    "socket_io_options",
    "stream_options",
    "scrape_options",
    "alert_options",
    "outside_options",
    "upload_options",
];

#[test]
fn operations_lists_every_option_of_the_operator() {
    let page = read("docs/operations.md");
    for name in OPTIONS.iter().flat_map(|file| variables(&format!("src/cli/{file}.rs"))) {
        assert!(page.contains(&format!("`{name}`")), "add {name} to the table under Options in docs/operations.md");
    }
}

#[test]
fn the_chart_and_the_pages_name_no_option_that_there_is_not() {
    let files = OPTIONS.iter().chain(&["cluster", "mod"]);
    let known: Vec<_> = files.flat_map(|file| variables(&format!("src/cli/{file}.rs"))).collect();
    for path in ["charts/weir/templates/deployment.yaml", "docs/operations.md", "docs/install.md"] {
        for name in variables(path) {
            assert!(known.contains(&name), "{path} names {name}, which `weir run` does not read");
        }
    }
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn pages() -> Vec<PathBuf> {
    [root().to_owned(), root().join("docs"), root().join("examples")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect()
}

#[test]
fn no_link_leads_nowhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(path.exists(), "{} links to {target}", page.display());
            if heading.is_empty() || path.extension().is_none_or(|e| e != "md") {
                continue;
            }
            let there = std::fs::read_to_string(&path).unwrap();
            let headings = there.lines().filter(|line| line.starts_with('#'));
            let found = headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|a| a == heading);
            assert!(found, "{} links to {target}, and there is no such heading", page.display());
        }
    }
}
