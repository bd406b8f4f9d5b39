//! Codes that sign in once: files in a folder, each named by its code.
//!
//! Whoever can write into the folder can let somebody in; that is who could read the keys. A code is used by removing its
//! file, which succeeds once, whichever process does it, and after a restart too.

use std::{
    fs,
    io::{ErrorKind, Result},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A code's length in hexadecimal digits: 32 random bytes.
const LENGTH: usize = 64;

/// A folder of codes.
#[derive(Clone, Debug)]
pub struct Codes {
    folder: PathBuf,
}

impl Codes {
    /// How long a code is good.
    pub const TTL: Duration = Duration::from_secs(15 * 60);

    /// The codes in a folder, which is to be private to whoever runs this.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Makes a code, and removes those that are over.
    pub fn issue(&self) -> Result<String> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if is_over(&path)? {
                gone(fs::remove_file(path))?;
            }
        }
        let bytes: [u8; LENGTH / 2] = rand::random();
        let code: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::File::create_new(self.folder.join(&code))?;
        Ok(code)
    }

    /// Uses a code: whether it was good.
    pub(crate) async fn redeem(&self, code: &str) -> Result<bool> {
        // Nothing else reaches the file system.
        let is_one =
            code.len() == LENGTH && code.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_one {
            return Ok(false);
        }
        let path = self.folder.join(code);
        let work = move || -> Result<bool> {
            if !path.is_file() {
                return Ok(false);
            }
            let is_over = is_over(&path)?;
            Ok(gone(fs::remove_file(&path))? && !is_over)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(std::io::Error::other)?
    }
}

/// Whether it was made too long ago; what somebody else has removed is over, too.
fn is_over(path: &Path) -> Result<bool> {
    let made = match fs::metadata(path) {
        Ok(metadata) => metadata.modified()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    // A clock that was set back makes none of them old.
    let age = SystemTime::now().duration_since(made).unwrap_or_default();
    Ok(age > Codes::TTL)
}

/// Whether it was this that removed the file, and nobody else before.
fn gone(removed: Result<()>) -> Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("codes-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_code_is_good_once() {
        let folder = Folder::new();
        let codes = Codes::new(&folder.0);
        let code = codes.issue().unwrap();
        let other = codes.issue().unwrap();
        assert_ne!(code, other);
        assert!(codes.redeem(&code).await.unwrap());
        assert!(!codes.redeem(&code).await.unwrap());
        // Another process has the same folder.
        assert!(Codes::new(&folder.0).redeem(&other).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_no_code_or_too_old_signs_nobody_in() {
        let folder = Folder::new();
        let codes = Codes::new(&folder.0);
        let code = codes.issue().unwrap();
        let outside = folder.0.with_extension("x");
        fs::write(&outside, "").unwrap();
        let outside_name = outside.file_name().unwrap().to_str().unwrap();
        for wrong in [
            "",
            ".",
            "..",
            &code[1..],
            &code.replace(|_| true, "0"),
            &format!("../{outside_name}"),
        ] {
            assert!(!codes.redeem(wrong).await.unwrap(), "{wrong}");
        }
        fs::remove_file(outside).unwrap();
        let long_ago = SystemTime::now() - Codes::TTL - Duration::from_secs(1);
        let file = fs::File::open(folder.0.join(&code)).unwrap();
        file.set_modified(long_ago).unwrap();
        assert!(!codes.redeem(&code).await.unwrap());
        let old = codes.issue().unwrap();
        fs::File::open(folder.0.join(&old))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        codes.issue().unwrap();
        assert!(!folder.0.join(&old).exists());
    }
}
