//! PostgreSQL refuses to run as root: as root, it is run as another user, in a folder that this user can enter.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use nix::unistd::{User, chown, geteuid};
use uuid::Uuid;

/// Where files go that do not fit into the data folder.
const ELSEWHERE: &str = "/var/lib/jalur";

/// Who runs PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Owner(Option<User>);

impl Owner {
    /// This user; for root `postgres`, else `nobody`.
    pub(super) fn find() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        for name in ["postgres", "nobody"] {
            let user = User::from_name(name).context("users cannot be looked up")?;
            if let Some(user) = user.filter(|user| !user.uid.is_root()) {
                return Ok(Self(Some(user)));
            }
        }
        bail!("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")
    }

    /// A command to be run as the owner.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The caller's folder may be one that the owner cannot enter.
        command.current_dir("/");
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Gives a file or folder to the owner.
    pub(super) fn give(&self, path: &Path) -> anyhow::Result<()> {
        match &self.0 {
            Some(user) => chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("{} cannot be given to {}", path.display(), user.name)),
            None => Ok(()),
        }
    }

    /// Whether the owner can enter a folder. Tried, since modes do not say all: ACLs, mounts, containers.
    pub(super) fn can_enter(&self, folder: &Path) -> bool {
        if self.0.is_none() {
            return true;
        }
        self.command(Path::new("/bin/sh"))
            .args(["-c", r#"cd -- "$1""#, "sh"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|user| user.name.as_str())
    }
}

/// A folder outside the data folder, always the same for the same data folder.
pub(super) fn elsewhere(data: &Path) -> PathBuf {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, data.as_os_str().as_encoded_bytes());
    let name = data
        .parent()
        .and_then(Path::file_name)
        .map_or_else(String::new, |name| format!("{}-", name.to_string_lossy()));
    Path::new(ELSEWHERE).join(format!("{name}{}", &id.simple().to_string()[..12]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_folder_has_one_place_elsewhere() {
        let one = elsewhere(Path::new("/root/jalur/.jalur"));
        assert_eq!(one, elsewhere(Path::new("/root/jalur/.jalur")));
        assert_ne!(one, elsewhere(Path::new("/root/other/.jalur")));
        assert!(one.starts_with(ELSEWHERE));
    }
}
