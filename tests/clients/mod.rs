//! Clients that others have written: their programs, installed once beside what cargo builds.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// The folder of the programs.
pub const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// Runs a program to its end; what it printed.
pub async fn run(command: &mut Command) -> String {
    let shown = format!("{:?}", command.as_std().get_program());
    let output = command.kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("this test needs {shown} (see hack/README.md): {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown} failed\n{out}\n{err}");
    out.into_owned()
}

/// A folder that `install` fills when one of the files that say what belongs there has changed. Other tests wait.
async fn installed(name: &str, files: &[&str], install: impl AsyncFnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join(".lock")).unwrap();
    tokio::task::block_in_place(|| lock.lock()).unwrap();
    let wanted: String =
        files.iter().map(|file| std::fs::read_to_string(Path::new(CLIENTS).join(file)).unwrap()).collect();
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        for file in files {
            std::fs::copy(Path::new(CLIENTS).join(file), folder.join(file)).unwrap();
        }
        install(&folder).await;
        std::fs::write(&stamp, wanted).unwrap();
    }
    folder
}

/// The Node.js modules that the lock file names.
pub async fn node_modules() -> PathBuf {
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
    installed("node-clients", &["package.json", "package-lock.json"], async |folder| {
        run(Command::new("npm").args(npm).current_dir(folder)).await;
    })
    .await
}

/// A Python with the packages that `requirements.txt` names.
pub async fn python() -> PathBuf {
    let folder = installed("python-clients", &["requirements.txt"], async |folder| {
        let venv = folder.join("venv");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r"];
        run(Command::new(venv.join("bin/python")).args(pip).arg(folder.join("requirements.txt"))).await;
    })
    .await;
    folder.join("venv/bin/python")
}
