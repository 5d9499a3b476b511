//! A config file, followed: read when it changes, taken up where nothing is wrong with it, refused as a whole otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::plan::{Plan, Surroundings, plan};
use super::{Read, parse};
use crate::manifest::held::HeldSecrets;
use crate::manifest::keeper::Keeper;
use crate::manifest::place::{Finding, Gravity};
use crate::manifest::reading::Strictness;
use crate::manifest::variables::Variables;

/// Follows one config file.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    variables: Variables,
    strictness: Strictness,
    secrets: HeldSecrets,
    last: Mutex<Option<String>>,
}

/// What a look at the file came to.
#[derive(Debug)]
pub enum Look {
    /// It is as it was.
    Same,
    /// It is new, and can be used. There may be warnings.
    New(Box<Plan>, Vec<Finding>),
    /// It is new and cannot be used.
    Refused(Vec<Finding>),
}

impl ConfigFile {
    /// A file that nobody has looked at yet. Its secrets go to `secrets`.
    pub fn new(path: &Path, variables: Variables, strictness: Strictness, secrets: HeldSecrets) -> Self {
        Self { path: path.to_owned(), variables, strictness, secrets, last: Mutex::default() }
    }

    /// Looks at the file. `anew` where the variables may have changed, so that the same text counts too.
    pub fn look(&self, anew: bool) -> Look {
        let file = self.path.display().to_string();
        let text = match crate::manifest::read_bounded(&self.path) {
            Ok(text) => text,
            Err(error) => {
                let text = format!("the file cannot be read: {error}");
                // Editors take a file away for a moment; it is told once.
                let told =
                    self.last.lock().replace(format!("\0{text}")).is_some_and(|last| last == format!("\0{text}"));
                if told {
                    return Look::Same;
                }
                let file = file.as_str().into();
                return Look::Refused(vec![Finding { gravity: Gravity::Error, file, place: None, text }]);
            }
        };
        if self.last.lock().replace(text.clone()).is_some_and(|last| last == text) && !anew {
            return Look::Same;
        }
        let Read { config, mut findings } = parse(&text, &file, &self.variables, self.strictness);
        if !findings.usable() {
            return Look::Refused(findings.sorted());
        }
        let mut draft = self.secrets.draft();
        let plan = plan(&config, &Surroundings::of(&self.path), &mut draft, &mut findings);
        if !findings.usable() {
            return Look::Refused(findings.sorted());
        }
        draft.keep();
        Look::New(Box::new(plan), findings.sorted())
    }

    /// Looks at the file, and lets `keeper` make it so. The plan where it is new.
    ///
    /// # Errors
    /// What is wrong with a new version that is refused. What was there before goes on.
    pub fn take_up(&self, keeper: &Arc<Keeper>, anew: bool) -> Result<Option<Plan>, Vec<Finding>> {
        let file = self.path.display().to_string();
        match self.look(anew) {
            Look::Same => Ok(None),
            Look::New(plan, findings) => {
                findings.iter().for_each(|finding| tracing::warn!("{finding}"));
                keeper.known_as(&plan.identity);
                keeper.apply(plan.streams.clone(), plan.receivers.clone());
                keeper.note(&file, &findings, true);
                Ok(Some(*plan))
            }
            Look::Refused(findings) => {
                keeper.note(&file, &findings, false);
                Err(findings)
            }
        }
    }
}
