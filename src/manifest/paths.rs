//! Paths and globs as people write them: made absolute, compared, and looked up on the disk.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Most names that are looked at for one glob: a `/**` must not walk a whole disk.
const MOST_SEEN: usize = 100_000;
/// How deep `**` goes.
const DEEPEST: usize = 32;

/// Whether a path has anything that a glob has and a plain path has not.
pub fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// A path as written, from `base` on and from the home folder for `~/`, without `.` and `..`.
pub fn absolute(base: &Path, written: &str, home: Option<&Path>) -> String {
    let below_home = written.strip_prefix("~/").zip(home).map(|(rest, home)| home.join(rest));
    let joined = below_home.unwrap_or_else(|| base.join(written));
    let mut path = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

/// What matches a glob; a `*` does not cross a `/`. None where it is none.
pub fn matcher(glob: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(glob).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}

/// Whether a path or glob covers the other path as it is written.
pub fn covers(glob: &str, path: &str) -> bool {
    glob == path || (is_glob(glob) && matcher(glob).is_some_and(|glob| glob.is_match(path)))
}

/// The files that a path or glob means now, sorted; `most` of them at most.
pub fn files(pattern: &str, most: usize) -> Vec<PathBuf> {
    if !is_glob(pattern) {
        let path = PathBuf::from(pattern);
        return if path.is_file() { vec![path] } else { Vec::new() };
    }
    let Some(matcher) = matcher(pattern) else { return Vec::new() };
    let fixed: PathBuf =
        Path::new(pattern).components().take_while(|part| !is_glob(&part.as_os_str().to_string_lossy())).collect();
    let levels = Path::new(pattern).components().count() - fixed.components().count();
    let levels = if pattern.contains("**") { DEEPEST } else { levels };
    let (mut found, mut seen, mut folders) = (Vec::new(), 0, vec![(fixed, levels)]);
    while let Some((folder, levels)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MOST_SEEN {
                folders.clear();
                break;
            }
            let path = entry.path();
            // A link to a folder is not entered, so that no circle is walked.
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if folder && levels > 1 {
                folders.push((path, levels - 1));
            } else if !folder && matcher.is_match(&path) && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_without_detours() {
        let (base, home) = (Path::new("/etc/weir"), Some(Path::new("/home/me")));
        for (written, is) in [
            ("/var/log/a.log", "/var/log/a.log"),
            ("logs/*.log", "/etc/weir/logs/*.log"),
            ("./a", "/etc/weir/a"),
            ("../a/./b", "/etc/a/b"),
            ("/../../a", "/a"),
            ("~/x/**/y", "/home/me/x/**/y"),
            ("~x", "/etc/weir/~x"),
        ] {
            assert_eq!(absolute(base, written, home), is, "{written}");
        }
    }

    #[test]
    fn globs_find_files_and_stay_on_their_level() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("deep/er")).unwrap();
        for file in ["a.log", "b.log", "c.txt", "deep/d.log", "deep/er/e.log"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("deep/circle")).unwrap();
        let names = |glob: &str, most| {
            let found = files(&root.join(glob).to_string_lossy(), most);
            found.iter().map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("*.log", 9), ["a.log", "b.log"]);
        assert_eq!(names("**/*.log", 9), ["a.log", "b.log", "deep/d.log", "deep/er/e.log"]);
        assert_eq!(names("*/?.log", 9), ["deep/d.log"]);
        assert_eq!(names("{a,c}.*", 9), ["a.log", "c.txt"]);
        assert_eq!(names("c.txt", 9), ["c.txt"]);
        assert_eq!(names("*.log", 1), ["a.log"]);
        assert!(names("none/*", 9).is_empty() && names("none", 9).is_empty() && names("deep", 9).is_empty());
    }
}
