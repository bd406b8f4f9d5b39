//! The data folder: what one local stack keeps from run to run.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A data folder that exists. Its names:
///
/// - `env`: where everything is, while it runs;
/// - `secret`: the key that tokens are signed with; `codes`: those of links that sign in to the console; `services.json`: ports and passwords of the services;
/// - `postgres`, `rabbitmq`: their files; `log`: everyone's log;
/// - `lock`, `running.json`: who runs this stack, and as which processes.
#[derive(Clone, Debug)]
pub struct Data {
    root: PathBuf,
}

/// What `--fresh` removes. Only names that are ours: somebody may give `--data .`.
const OURS: &[&str] = &[
    "env",
    "secret",
    "codes",
    "services.json",
    "postgres",
    "rabbitmq",
    "log",
];

impl Data {
    /// Opens the folder, making it if there is none.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("the data folder {} cannot be made", path.display());
        // An unprivileged PostgreSQL has to pass through it; what is private in it has modes of its own.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .with_context(failed)?;
        let root = path.canonicalize().with_context(failed)?;
        let data = Self { root };
        data.folder("log")?;
        Ok(data)
    }

    /// The folder itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A name in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The log of the process called `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    /// A folder in the folder, made if there is none, that only this user can look into.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(path)
    }

    /// The key that this stack's tokens are signed with: made once, then kept.
    pub fn secret(&self) -> anyhow::Result<String> {
        if let Some(secret) = self.existing_secret()? {
            return Ok(secret);
        }
        let secret = random_hex(32);
        write_private(&self.path("secret"), &secret)?;
        Ok(secret)
    }

    /// The key, if a stack has ever run here.
    pub fn existing_secret(&self) -> anyhow::Result<Option<String>> {
        Ok(read(&self.path("secret"))?.map(|text| text.trim().to_owned()))
    }

    /// Removes all state.
    pub fn clear(&self) -> anyhow::Result<()> {
        for name in OURS {
            remove(&self.path(name))?;
        }
        self.folder("log").map(drop)
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes a file that only this user can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // Left over from a crash, it might have other permissions.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Removes a file or folder that may not be there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// `bytes` random bytes as hex digits, which need no escaping in URLs and configuration files.
pub(crate) fn random_hex(bytes: usize) -> String {
    use std::fmt::Write as _;
    (0..bytes).fold(String::new(), |mut text, _| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{:02x}", rand::random::<u8>());
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(&folder.path().join("state")).unwrap();
        assert_eq!(data.existing_secret().unwrap(), None);
        let secret = data.secret().unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(data.secret().unwrap(), secret);
        let mode = fs::metadata(data.path("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn clearing_takes_only_what_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(folder.path()).unwrap();
        data.secret().unwrap();
        fs::write(data.path("thesis.txt"), "mine").unwrap();
        data.clear().unwrap();
        assert_eq!(data.existing_secret().unwrap(), None);
        assert!(data.path("thesis.txt").exists());
    }
}
