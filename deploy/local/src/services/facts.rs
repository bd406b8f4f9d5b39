//! Looks at the machine.

use std::{
    collections::BTreeSet,
    env,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{
    Kind, docker,
    rule::{Facts, Installed, Tool},
};

/// The oldest that will do.
const POSTGRES_MIN: (u32, u32) = (14, 0);
const RABBITMQ_MIN: (u32, u32) = (3, 10);
/// `postgres --version` takes milliseconds.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Where Homebrew, on either kind of Mac and on Linux, links its packages.
const HOMEBREW: &[&str] = &["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"];

pub(super) async fn gather(forced: Option<Kind>) -> Facts {
    let (database_url, rabbitmq_url) = urls();
    let mut facts = Facts {
        forced,
        database_url,
        rabbitmq_url,
        postgres: postgres().await,
        rabbitmq: rabbitmq(),
        docker: false,
        apt: which::which("apt-get").is_ok() && Path::new("/etc/debian_version").exists(),
        root: nix::unistd::geteuid().is_root(),
        ci: env::var("CI").is_ok_and(|value| value == "true"),
        terminal: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
    };
    // Asked last: a remote engine takes its time to answer.
    let installed = !facts.postgres.found().is_empty() && !facts.rabbitmq.found().is_empty();
    if forced == Some(Kind::Docker) || (forced.is_none() && !installed) {
        facts.docker = docker::answers().await;
    }
    facts
}

/// `JALUR_DATABASE__URL` and `JALUR_RABBITMQ__URL`, as far as they are set.
pub(super) fn urls() -> (Option<String>, Option<String>) {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    (set("JALUR_DATABASE__URL"), set("JALUR_RABBITMQ__URL"))
}

async fn postgres() -> Tool {
    let mut folders = on_path("initdb");
    folders.extend(matching("/usr/lib/postgresql", "", "bin"));
    folders.extend(matching("/usr", "pgsql-", "bin"));
    for prefix in HOMEBREW {
        folders.extend(matching(&format!("{prefix}/opt"), "postgresql", "bin"));
    }
    let mut found = Vec::new();
    for folder in distinct(folders, |folder| {
        folder.join("initdb").is_file() && folder.join("postgres").is_file()
    }) {
        if let Some(version) = postgres_version(&folder).await {
            found.push(Installed { folder, version });
        }
    }
    choose("PostgreSQL", found, POSTGRES_MIN)
}

async fn postgres_version(folder: &Path) -> Option<(u32, u32)> {
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await.ok()?.ok()?;
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
    let text = String::from_utf8_lossy(&output.stdout);
    version(text.split(") ").nth(1)?)
}

fn rabbitmq() -> Tool {
    let mut folders = on_path("rabbitmq-server");
    folders.push("/usr/lib/rabbitmq/bin".into());
    folders.extend(matching("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin"));
    for prefix in HOMEBREW {
        folders.push(PathBuf::from(prefix).join("opt/rabbitmq/sbin"));
    }
    let found = distinct(folders, |_| true)
        .into_iter()
        // Links lead to the folder where the scripts are. /usr/sbin/rabbitmq-server of the Debian packages is none of
        // them: it changes to the system's user and data.
        .filter_map(|folder| {
            Some(
                folder
                    .join("rabbitmq-server")
                    .canonicalize()
                    .ok()?
                    .parent()?
                    .to_owned(),
            )
        })
        .filter(|folder| folder.join("rabbitmq-env").is_file());
    let mut installed: Vec<Installed> = Vec::new();
    for folder in found {
        let version = rabbitmq_version(&folder);
        if let Some(version) = version.filter(|_| installed.iter().all(|other| other.folder != folder)) {
            installed.push(Installed { folder, version });
        }
    }
    choose("RabbitMQ", installed, RABBITMQ_MIN)
}

/// Asking the program takes seconds; its main plugin's folder has the version in its name.
fn rabbitmq_version(folder: &Path) -> Option<(u32, u32)> {
    let plugins = std::fs::read_dir(folder.parent()?.join("plugins")).ok()?;
    plugins
        .filter_map(Result::ok)
        .find_map(|entry| version(entry.file_name().to_str()?.strip_prefix("rabbit-")?))
}

/// The first on PATH if it will do, then the others, newest first.
fn choose(name: &str, mut found: Vec<Installed>, min: (u32, u32)) -> Tool {
    if found.is_empty() {
        return Tool::Missing;
    }
    let preferred = found[0].clone();
    found.sort_by_key(|installed| (*installed != preferred, std::cmp::Reverse(installed.version)));
    let too_old = found[0].version;
    found.retain(|installed| installed.version >= min);
    if found.is_empty() {
        return Tool::TooOld(format!("{name} {}.{}", too_old.0, too_old.1));
    }
    Tool::Found(found)
}

fn on_path(program: &str) -> Vec<PathBuf> {
    which::which_all(program)
        .into_iter()
        .flatten()
        .filter_map(|path| Some(path.parent()?.to_owned()))
        .collect()
}

/// The folders `base/prefix*/inner`, whatever stands for the star; the last in the alphabet first.
fn matching(base: &str, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(inner))
        .collect();
    folders.sort();
    folders.reverse();
    folders
}

/// Each folder once, in order, of those that will do.
fn distinct(folders: Vec<PathBuf>, will_do: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    folders
        .into_iter()
        .filter(|folder| will_do(folder))
        .filter(|folder| folder.canonicalize().is_ok_and(|folder| seen.insert(folder)))
        .collect()
}

/// The leading `15.18` or `18` of a text.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = text.strip_prefix(&format!("{major}.")).and_then(|rest| {
        rest.split(|letter: char| !letter.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    Some((major, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        assert_eq!(version("15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(version("18beta1"), Some((18, 0)));
        assert_eq!(version("3.10.8"), Some((3, 10)));
        assert_eq!(version("common-3.10.8"), None);
    }

    #[test]
    fn the_first_on_path_is_preferred_unless_it_is_too_old() {
        let at = |folder: &str, major| Installed {
            folder: folder.into(),
            version: (major, 1),
        };
        let choose = |found| choose("PostgreSQL", found, POSTGRES_MIN);
        assert_eq!(
            choose(vec![at("a", 14), at("b", 15), at("c", 17)]).found()[0],
            at("a", 14)
        );
        assert_eq!(
            choose(vec![at("a", 12), at("b", 15), at("c", 17)]).found()[0],
            at("c", 17)
        );
        assert_eq!(choose(vec![at("a", 12)]), Tool::TooOld("PostgreSQL 12.1".into()));
    }
}
