//! `weir crds`: the definitions of the objects, from the types themselves.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::CliError;
use crate::api::crds::{Variant, files, reference_markdown, to_yaml_stream};

/// Options of `weir crds`.
#[derive(Debug, clap::Args)]
pub(super) struct CrdsOptions {
    /// For servers before Kubernetes 1.25: without CEL rules and selectable fields, which those refuse
    #[arg(long, env = "WEIR_CRDS_COMPAT", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    compat: bool,
    /// Write one file for each definition into this folder instead of printing them
    #[arg(long, value_name = "DIR", env = "WEIR_CRDS_DIR", hide_env_values = true, conflicts_with = "markdown")]
    dir: Option<PathBuf>,
    /// Print the reference of all fields as Markdown instead
    #[arg(long, conflicts_with = "compat", env = "WEIR_CRDS_MARKDOWN", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    markdown: bool,
}

/// Prints the definitions, or writes them into files.
pub(super) fn print(options: &CrdsOptions) -> Result<(), CliError> {
    let variant = if options.compat { Variant::Compat } else { Variant::Full };
    if let Some(dir) = &options.dir {
        return write(dir, variant);
    }
    let text = match options.markdown {
        true => reference_markdown(),
        false => to_yaml_stream(variant).map_err(CliError::failed)?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::output)
}

fn write(dir: &Path, variant: Variant) -> Result<(), CliError> {
    let failed = |path: &Path, error: std::io::Error| {
        CliError::Failed(format!("cannot write {}: {error}; choose a folder that you may write to", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for file in files(variant).map_err(CliError::failed)? {
        let path = dir.join(file.name);
        std::fs::write(&path, file.content).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
