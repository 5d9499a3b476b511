//! What is generated from the types is up to date. `make generate` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use weir::api::crds::{Variant, files, reference_markdown};

/// Every generated file and what it must hold.
fn expected() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<_> = files(Variant::Full)
        .expect("the definitions can be written")
        .into_iter()
        .map(|file| (root.join("crds").join(file.name), file.content))
        .collect();
    all.push((root.join("docs/crds.md"), reference_markdown()));
    all
}

#[test]
fn generated_files_are_up_to_date() {
    let stale: Vec<_> = expected()
        .into_iter()
        .filter(|(path, content)| std::fs::read_to_string(path).ok().as_ref() != Some(content))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(stale.is_empty(), "run `make generate`: out of date are {}", stale.join(", "));
}

#[test]
fn no_definition_is_left_behind() {
    let wanted: Vec<_> = expected().into_iter().map(|(path, _)| path).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for entry in std::fs::read_dir(folder).expect("run `make generate`: there is no folder crds") {
        let path = entry.expect("the folder crds can be read").path();
        assert!(
            path.extension().is_none_or(|e| e != "yaml")
                || wanted.contains(&path)
                || path.ends_with("kustomization.yaml"),
            "delete {}: no type makes it any more",
            path.display()
        );
    }
}

/// `cargo test --test generated -- --ignored`: writes the files.
#[test]
#[ignore = "writes into the source tree; `make generate` runs it"]
fn generate() {
    for (path, content) in expected() {
        std::fs::create_dir_all(path.parent().expect("each file is in a folder")).expect("the folder can be made");
        std::fs::write(path, content).expect("the file can be written");
    }
}
