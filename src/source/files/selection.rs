//! Which files are wanted: paths as they are, and globs, in which a `*` does not cross a `/` and a `**` does.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// How many folders deep a `**` goes.
const DEEPEST: usize = 32;

/// Folders of the kernel's own: a glob does not enter them unless it names them.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Whether a path has anything that a glob has and a plain path has not.
fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// What is wanted.
#[derive(Debug)]
pub(super) struct Selection {
    patterns: Vec<String>,
    plain: HashSet<Arc<Path>>,
    globs: GlobSet,
    trees: Vec<Tree>,
}

/// The folders in which a glob may match.
#[derive(Debug)]
struct Tree {
    /// The part of the glob in which nothing is variable.
    base: PathBuf,
    /// What each folder below must match; the last part is the file's name.
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// One folder of such a name.
    One(Box<GlobMatcher>),
    /// Any folders: whatever comes behind may be anywhere below.
    Any,
}

impl Selection {
    /// What these paths and globs mean.
    ///
    /// # Errors
    /// Where a glob cannot be read.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let (globs, plain): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| is_glob(pattern));
        let mut set = GlobSetBuilder::new();
        for glob in &globs {
            set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Self {
            patterns: patterns.to_vec(),
            plain: plain.into_iter().map(|path| Arc::from(tidy(path))).collect(),
            globs: set.build()?,
            trees: globs.iter().map(|glob| Tree::new(glob)).collect(),
        })
    }

    /// The paths and globs as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether a file of this path is wanted.
    pub fn wants(&self, path: &Path) -> bool {
        self.plain.contains(path) || self.globs.is_match(path)
    }

    /// Whether something that is wanted may stand below a folder.
    pub fn may_be_below(&self, folder: &Path) -> bool {
        self.trees.iter().any(|tree| tree.leads_to(folder))
    }

    /// The paths that are named as they are.
    pub fn plain(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.plain.iter()
    }

    /// The folders from which the globs begin.
    pub fn bases(&self) -> impl Iterator<Item = &Path> {
        self.trees.iter().map(|tree| tree.base.as_path())
    }

    /// All folders that must be below what is allowed.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.bases().chain(self.plain.iter().filter_map(|path| path.parent()))
    }

    /// Which of the patterns match nothing among these.
    pub fn unmatched<'a>(&'a self, paths: impl Iterator<Item = &'a Path>) -> Vec<&'a str> {
        let mut globs: Vec<bool> = vec![false; self.globs.len()];
        let mut plain = HashSet::new();
        for path in paths {
            self.globs.matches(path).into_iter().for_each(|at| globs[at] = true);
            plain.insert(path);
        }
        let mut globs = globs.into_iter();
        let is_missing = |pattern: &&String| match is_glob(pattern) {
            true => globs.next() == Some(false),
            false => !plain.contains(tidy(pattern).as_path()),
        };
        self.patterns.iter().filter(is_missing).map(String::as_str).collect()
    }
}

/// A path without what does not count in it, such as double slashes.
fn tidy(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

impl Tree {
    fn new(glob: &str) -> Self {
        let mut base = PathBuf::from("/");
        let mut names: Vec<&str> = glob.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        while let Some(name) = names.first()
            && names.len() > 1
            && !is_glob(name)
        {
            base.push(names.remove(0));
        }
        let part = |name: &&str| match GlobBuilder::new(name).literal_separator(true).build() {
            Ok(glob) if !name.contains("**") => Part::One(Box::new(glob.compile_matcher())),
            // A part that is no glob by itself is half of a `{a/b,c}`.
            Ok(_) | Err(_) => Part::Any,
        };
        Self { base, parts: names.iter().map(part).collect() }
    }

    /// Whether a match may stand below a folder: it stands above the base, or its names are those of the parts.
    fn leads_to(&self, folder: &Path) -> bool {
        let Ok(below) = folder.strip_prefix(&self.base) else { return false };
        if KERNELS.iter().any(|kernels| folder.starts_with(kernels) && !self.base.starts_with(kernels)) {
            return false;
        }
        let names: Vec<&OsStr> = below
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        if names.len() > DEEPEST {
            return false;
        }
        for (at, name) in names.iter().enumerate() {
            match self.parts.get(at) {
                Some(Part::Any) => return true,
                // The last part is a file's.
                Some(Part::One(glob)) if at + 1 < self.parts.len() && glob.is_match(name) => {}
                Some(Part::One(_)) | None => return false,
            }
        }
        true
    }
}
