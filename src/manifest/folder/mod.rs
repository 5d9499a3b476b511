//! A folder of manifests: AccessKeys, StreamSubscriptions and AlertReceivers as in a cluster, in `*.yaml` and `*.yml`.
//!
//! A file that is no YAML, or an object that a cluster would refuse, is reported, and what it said before stays in use, as
//! after a `kubectl apply` that was refused. An object that is gone from its file, or a file that is gone, is deleted.

pub mod keys;
pub mod objects;
pub mod secrets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::keys::FolderKeys;
use self::objects::{Id, Object, Part};
use super::config::names::uid;
use super::desired::{PlannedReceiver, PlannedStream};
use super::keeper::Keeper;
use super::place::{Finding, Findings, Gravity, Place};
use crate::stream::StreamName;

/// Most files of a folder that are read.
const MOST_FILES: usize = 1000;

/// Follows one folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keys: Arc<FolderKeys>,
    known: Mutex<BTreeMap<Id, Known>>,
}

/// An object in use.
#[derive(Clone, Debug)]
struct Known {
    file: PathBuf,
    place: Place,
    object: Object,
}

impl Folder {
    /// A folder that nobody has looked at yet.
    pub fn new(path: &Path, keys: Arc<FolderKeys>) -> Self {
        Self { path: path.to_owned(), keys, known: Mutex::default() }
    }

    /// Looks at all files, and lets `keeper` make it so. What is wrong with them, file by file.
    ///
    /// # Errors
    /// Where the folder itself cannot be read; then all stays as it was.
    pub fn take_up(&self, keeper: &Keeper) -> std::io::Result<Vec<Finding>> {
        let files = self.files()?;
        let mut known = self.known.lock();
        let mut next: BTreeMap<Id, Known> = BTreeMap::new();
        let mut all = Vec::new();
        for file in &files {
            let shown = file.display().to_string();
            let mut findings = Findings::of(&shown);
            let parts = match super::read_bounded(file) {
                Ok(text) => objects::read(&text, &mut findings),
                Err(error) => {
                    findings.error(None, format!("the file cannot be read: {error}"));
                    vec![Part::Broken]
                }
            };
            take(file, parts, &known, &mut next, &mut findings);
            let in_use = findings.usable();
            let findings = findings.sorted();
            keeper.note(&shown, &findings, in_use);
            all.extend(findings);
        }
        let names: BTreeSet<_> = files.iter().collect();
        let gone: BTreeSet<_> = known.values().map(|known| &known.file).filter(|file| !names.contains(file)).collect();
        gone.into_iter().for_each(|file| keeper.forget_file(&file.display().to_string()));
        self.keys.apply(next.iter().filter_map(|(id, known)| match &known.object {
            Object::Key(key) => Some((id.clone(), key.as_ref())),
            _ => None,
        }));
        keeper.apply(streams(&next), receivers(&next));
        *known = next;
        Ok(all)
    }

    fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if yaml && !hidden && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        if files.len() > MOST_FILES {
            return Err(std::io::Error::other(format!("it holds more than {MOST_FILES} files; put objects together")));
        }
        Ok(files)
    }
}

/// Takes what a file holds, and keeps of what it held before what is not there anew because something is broken.
fn take(
    file: &Path,
    parts: Vec<Part>,
    known: &BTreeMap<Id, Known>,
    next: &mut BTreeMap<Id, Known>,
    findings: &mut Findings,
) {
    let mut broken = false;
    for part in parts {
        match part {
            Part::Broken => broken = true,
            Part::Left => {}
            Part::Refused(id) => {
                if let Some(before) = known.get(&id).filter(|before| before.file == file) {
                    next.entry(id).or_insert_with(|| before.clone());
                }
            }
            Part::Object(id, place, object) => match next.get(&id) {
                Some(other) => {
                    let text = format!("{id} is in {} already; leave one of them out", other.file.display());
                    findings.error(place, text);
                }
                None => {
                    next.insert(id, Known { file: file.to_owned(), place, object });
                }
            },
        }
    }
    if broken {
        for (id, before) in known.iter().filter(|(_, before)| before.file == file) {
            next.entry(id.clone()).or_insert_with(|| before.clone());
        }
    }
}

fn streams(known: &BTreeMap<Id, Known>) -> Vec<PlannedStream> {
    let stream = |(id, known): (&Id, &Known)| match &known.object {
        Object::Stream(object) => Some(PlannedStream {
            name: StreamName::new(&id.namespace, &id.name),
            uid: uid(&id.namespace, &id.name),
            title: id.name.clone(),
            place: known.place,
            spec: Arc::new(object.spec.clone()),
        }),
        _ => None,
    };
    known.iter().filter_map(stream).collect()
}

fn receivers(known: &BTreeMap<Id, Known>) -> Vec<PlannedReceiver> {
    let receiver = |(id, known): (&Id, &Known)| match &known.object {
        Object::Receiver(object) => Some(PlannedReceiver {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            place: known.place,
            spec: object.spec.clone(),
        }),
        _ => None,
    };
    known.iter().filter_map(receiver).collect()
}

/// How many of these make their file useless.
pub fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.gravity == Gravity::Error).count()
}
