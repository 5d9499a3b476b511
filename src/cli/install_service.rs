//! `weir install-service`: a systemd unit for `weir watch`, with as few rights as it needs.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::CliError;
use super::cluster::path;

/// The name of the unit.
const UNIT: &str = "weir.service";

/// Options of `weir install-service`.
#[derive(Debug, clap::Args)]
pub(super) struct InstallOptions {
    /// The config file that the service watches with
    #[arg(long, value_name = "FILE", value_parser = path(), required_unless_present = "dir", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// The folder of manifests that the service watches
    #[arg(value_name = "DIR", value_parser = path())]
    dir: Option<PathBuf>,
    /// For the user who runs this, without rights of root
    #[arg(long)]
    user: bool,
    /// A file of NAME=VALUE with the variables of the config file; keep it to yourself: chmod 600
    #[arg(long, value_name = "FILE", value_parser = path())]
    environment_file: Option<PathBuf>,
    /// Print the unit, and write nothing
    #[arg(long)]
    print: bool,
    /// Replace a unit that is there
    #[arg(long)]
    force: bool,
}

/// Writes the unit, and says what to run.
pub(super) fn install(options: &InstallOptions) -> Result<(), CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::Failed(format!("where is weir? {error}")))?;
    let unit = unit(options, &program)?;
    let mut out = std::io::stdout().lock();
    if options.print {
        return out.write_all(unit.as_bytes()).and_then(|()| out.flush()).map_err(CliError::output);
    }
    let folder = folder(options.user)?;
    let target = folder.join(UNIT);
    let failed = |error: std::io::Error| {
        let text = if error.kind() == std::io::ErrorKind::AlreadyExists {
            format!(
                "{} is there already; replace it with --force, or look at the new one with --print",
                target.display()
            )
        } else {
            format!("cannot write {}: {error}; run as root, or with --user for a service of your own", target.display())
        };
        CliError::Failed(text)
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let mut how = OpenOptions::new();
    how.write(true).create(options.force).truncate(options.force).create_new(!options.force);
    let mut file = how.open(&target).map_err(failed)?;
    file.write_all(unit.as_bytes()).map_err(failed)?;
    let user = if options.user { " --user" } else { "" };
    let text = format!(
        "{} is written. Start it, now and at every boot:\n  systemctl{user} daemon-reload\n  systemctl{user} enable --now weir\n\
         See how it fares:\n  systemctl{user} status weir\n  weir status{}\n",
        target.display(),
        if options.user { "" } else { " --state-dir /var/lib/weir" },
    );
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::output)
}

fn folder(user: bool) -> Result<PathBuf, CliError> {
    if !user {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let home = home
        .ok_or_else(|| CliError::failed("HOME is not set; print the unit with --print and put it where it belongs"))?;
    Ok(home.join("systemd/user"))
}

fn unit(options: &InstallOptions, program: &Path) -> Result<String, CliError> {
    let input = match (&options.config, &options.dir) {
        (Some(config), _) => format!("--config {}", quoted(config)?),
        (None, Some(dir)) => quoted(dir)?,
        (None, None) => String::new(),
    };
    let mut text = String::from("[Unit]\nDescription=Weir: watches streams and tells of what goes wrong\n");
    if !options.user {
        text.push_str("Wants=network-online.target\nAfter=network-online.target\n");
    }
    let state = if options.user { "%S/weir" } else { "/var/lib/weir" };
    let _ = write!(
        text,
        "\n[Service]\nExecStart={} watch {input} --state-dir {state}\nExecReload=/bin/kill -HUP $MAINPID\n",
        quoted(program)?
    );
    if let Some(file) = &options.environment_file {
        let _ = writeln!(text, "EnvironmentFile={}", quoted(file)?.trim_matches('"'));
    }
    // The drain takes 20 s and the end a few more.
    text.push_str("Restart=on-failure\nRestartSec=5\nTimeoutStopSec=30\nStateDirectory=weir\nStateDirectoryMode=0700\nUMask=0077\n");
    text.push_str(HARDENING);
    if !options.user {
        text.push_str(SYSTEM_HARDENING);
    }
    let target = if options.user { "default.target" } else { "multi-user.target" };
    let _ = write!(text, "\n[Install]\nWantedBy={target}\n");
    Ok(text)
}

/// What also a service of a user may be denied.
const HARDENING: &str = "NoNewPrivileges=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\nRestrictRealtime=yes\n\
RestrictSUIDSGID=yes\nRestrictNamespaces=yes\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\
SystemCallArchitectures=native\nSystemCallFilter=@system-service\n";

/// What a service of the system is denied: it reads logs, whoever they belong to, and writes its own state only.
const SYSTEM_HARDENING: &str = "ProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=no\nPrivateDevices=yes\n\
ProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectControlGroups=yes\n\
ProtectClock=yes\nProtectHostname=yes\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n\
AmbientCapabilities=CAP_DAC_READ_SEARCH\n";

/// A path as systemd reads it: absolute, in quotes, with what it would replace doubled.
fn quoted(path: &Path) -> Result<String, CliError> {
    let path = std::path::absolute(path).map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))?;
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r', '"', '\\']));
    let text = text.ok_or_else(|| CliError::Failed(format!("{} cannot stand in a unit; rename it", path.display())))?;
    Ok(format!("\"{}\"", text.replace('%', "%%").replace('$', "$$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(user: bool) -> InstallOptions {
        InstallOptions {
            config: Some(PathBuf::from("/etc/weir/50%.yaml")),
            dir: None,
            user,
            environment_file: Some(PathBuf::from("/etc/weir/env")),
            print: true,
            force: false,
        }
    }

    #[test]
    fn the_unit_names_absolute_paths_and_takes_rights_away() {
        let unit = unit(&options(false), Path::new("/usr/bin/weir")).unwrap();
        let start = "ExecStart=\"/usr/bin/weir\" watch --config \"/etc/weir/50%%.yaml\" --state-dir /var/lib/weir\n";
        assert!(unit.contains(start), "{unit}");
        for line in [
            "EnvironmentFile=/etc/weir/env",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
        }
    }

    #[test]
    fn the_unit_of_a_user_asks_for_nothing_that_only_root_may_give() {
        let unit = unit(&options(true), Path::new("/usr/bin/weir")).unwrap();
        assert!(
            !unit.contains("Capabilit") && !unit.contains("ProtectSystem") && unit.contains("WantedBy=default.target")
        );
    }

    #[test]
    fn a_path_that_could_break_out_of_its_line_is_refused() {
        assert!(quoted(Path::new("/a\nExecStartPre=/bin/evil")).is_err() && quoted(Path::new("/a\"b")).is_err());
    }
}
