//! Where the services come from: the rule, pure.

use std::path::PathBuf;

use super::Kind;

/// What the rule goes by.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kind that is asked for.
    pub forced: Option<Kind>,
    /// `JALUR_DATABASE__URL`
    pub database_url: Option<String>,
    /// `JALUR_RABBITMQ__URL`
    pub rabbitmq_url: Option<String>,
    /// PostgreSQL on this machine.
    pub postgres: Tool,
    /// RabbitMQ on this machine.
    pub rabbitmq: Tool,
    /// Whether a container engine answers.
    pub docker: bool,
    /// Whether packages are installed by apt here.
    pub apt: bool,
    /// Whether this is root.
    pub root: bool,
    /// Whether `CI=true`.
    pub ci: bool,
    /// Whether there is a person at a terminal who can be asked.
    pub terminal: bool,
}

/// A service's program on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tool {
    /// There is none.
    #[default]
    Missing,
    /// Only one that is too old: which one.
    TooOld(String),
    /// There are some that will do, the preferred first.
    Found(Vec<Installed>),
}

/// One installed version of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The folder of its programs.
    pub folder: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Tool {
    /// Those that will do.
    pub fn found(&self) -> &[Installed] {
        match self {
            Self::Found(installed) => installed,
            Self::Missing | Self::TooOld(_) => &[],
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Use these.
    External {
        /// PostgreSQL's URL.
        database: String,
        /// RabbitMQ's URL.
        rabbitmq: String,
    },
    /// Start private instances.
    Native,
    /// Start containers.
    Docker,
    /// Install packages, then native.
    Install {
        /// What is missing.
        packages: Vec<&'static str>,
        /// Who is asked, and how it is done.
        consent: Consent,
    },
}

/// How packages may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// At once, as root.
    Root,
    /// At once, by a sudo that asks nothing.
    Sudo,
    /// After a yes on the terminal, by sudo.
    Ask,
}

/// Why there are no services, and the ways out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoServices(String);

/// Decides. The first that applies: external, native, Docker, apt.
pub fn decide(facts: &Facts) -> Result<Branch, NoServices> {
    let native = !facts.postgres.found().is_empty() && !facts.rabbitmq.found().is_empty();
    match (facts.forced, &facts.database_url, &facts.rabbitmq_url) {
        (Some(Kind::External) | None, Some(database), Some(rabbitmq)) => Ok(Branch::External {
            database: database.clone(),
            rabbitmq: rabbitmq.clone(),
        }),
        (Some(Kind::External), ..) => Err(NoServices(
            "external services are asked for: set both JALUR_DATABASE__URL (postgres://user:pass@host:5432/name) \
             and JALUR_RABBITMQ__URL (amqp://user:pass@host:5672/)"
                .into(),
        )),
        (Some(Kind::Docker), ..) if !facts.docker => Err(NoServices(
            "containers are asked for, but no Docker engine answers: start it, or set DOCKER_HOST".into(),
        )),
        (Some(Kind::Docker), ..) => Ok(Branch::Docker),
        (Some(Kind::Native) | None, ..) if native => Ok(Branch::Native),
        (None, ..) if facts.docker => Ok(Branch::Docker),
        (Some(Kind::Native) | None, ..) => install(facts),
    }
}

/// What a person should know about the facts, whatever is decided.
pub fn notes(facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.forced != Some(Kind::External) && facts.database_url.is_some() != facts.rabbitmq_url.is_some() {
        let (set, unset) = match facts.database_url {
            Some(_) => ("JALUR_DATABASE__URL", "JALUR_RABBITMQ__URL"),
            None => ("JALUR_RABBITMQ__URL", "JALUR_DATABASE__URL"),
        };
        notes.push(format!(
            "{set} is set but {unset} is not: set both to use your own services. Going on without."
        ));
    }
    for tool in [&facts.postgres, &facts.rabbitmq] {
        if let Tool::TooOld(which) = tool {
            notes.push(format!(
                "{which} is too old (PostgreSQL 14 and RabbitMQ 3.10 are the oldest that will do)."
            ));
        }
    }
    notes
}

fn install(facts: &Facts) -> Result<Branch, NoServices> {
    let tools = [
        (&facts.postgres, "postgresql"),
        (&facts.rabbitmq, "rabbitmq-server"),
    ];
    let packages: Vec<_> = tools
        .iter()
        .filter(|(tool, _)| **tool == Tool::Missing)
        .map(|(_, package)| *package)
        .collect();
    // apt would not bring a newer one than it brought before.
    let too_old = tools.iter().any(|(tool, _)| matches!(tool, Tool::TooOld(_)));
    let consent = if facts.root {
        Some(Consent::Root)
    } else if facts.ci {
        Some(Consent::Sudo)
    } else if facts.terminal {
        Some(Consent::Ask)
    } else {
        None
    };
    match consent {
        Some(consent) if facts.apt && !too_old => Ok(Branch::Install { packages, consent }),
        _ => Err(NoServices(no_services(facts, &packages))),
    }
}

fn no_services(facts: &Facts, packages: &[&str]) -> String {
    let install = if facts.apt && !packages.is_empty() {
        format!("sudo apt-get install {}", packages.join(" "))
    } else {
        "your package manager has them; on macOS: brew install postgresql rabbitmq".to_owned()
    };
    format!(
        "there is no PostgreSQL (14 or newer) and RabbitMQ (3.10 or newer) to run on. Any of these will do:\n\
         \x20 1. install both on this machine ({install})\n\
         \x20 2. start Docker, or set DOCKER_HOST\n\
         \x20 3. name running ones: JALUR_DATABASE__URL=postgres://user:pass@host:5432/name and \
         JALUR_RABBITMQ__URL=amqp://user:pass@host:5672/"
    )
}

#[cfg(test)]
mod tests;
