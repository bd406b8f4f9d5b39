//! Finds or starts a real PostgreSQL and a real RabbitMQ, for `cargo run` and for the tests alike.
//!
//! `facts` looks at the machine, [`rule`] decides, and `external`, [`native`], [`docker`] or `apt` does it.

mod apt;
pub(crate) mod docker;
mod external;
mod facts;
pub mod native;
pub mod rule;
mod state;
mod wait;

use std::{fmt, sync::Arc};

use anyhow::bail;
use clap::ValueEnum;

use self::{native::Native, rule::Branch, state::State};
use crate::{data, data::Data, processes::Register};

/// Where the services come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Somebody else's, named by `JALUR_DATABASE__URL` and `JALUR_RABBITMQ__URL`
    External,
    /// Private instances of the programs installed on this machine
    Native,
    /// Containers
    Docker,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::External => "external",
            Self::Native => "native",
            Self::Docker => "docker",
        })
    }
}

/// The environment variable that forces a [`Kind`].
pub const VARIABLE: &str = "JALUR_SERVICES";

/// Tells a person what happens, one line at a time.
#[derive(Clone)]
pub struct Say(Arc<dyn Fn(&str) + Send + Sync>);

impl Say {
    /// Says it by `say`.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }

    /// Says it on standard error.
    pub fn stderr() -> Self {
        Self::new(|line| eprintln!("{line}"))
    }

    /// Says one line.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Say")
    }
}

/// How to find or start the services.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where their state is kept.
    pub data: Data,
    /// Where their processes are listed.
    pub register: Register,
    /// The kind that is asked for; without one the rule decides.
    pub kind: Option<Kind>,
    /// Who is told what happens.
    pub say: Say,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The database.
    Postgres,
    /// The broker.
    Rabbitmq,
}

/// A PostgreSQL and a RabbitMQ that answer.
#[derive(Debug)]
pub struct Services {
    database_url: String,
    amqp_url: String,
    management_url: Option<String>,
    prometheus_url: Option<String>,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    External,
    Native(Box<Native>),
    Docker(docker::Docker),
}

impl Services {
    /// Finds or starts them. What was started before an error is in the register, for the caller to stop.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options {
            data,
            register,
            kind,
            say,
        } = options;
        let kind = kind.map_or_else(kind_from_environment, |kind| Ok(Some(kind)))?;
        let mut facts = facts::gather(kind).await;
        for note in rule::notes(&facts) {
            say.say(note);
        }
        let mut branch = rule::decide(&facts)?;
        if let Branch::Install { packages, consent } = &branch {
            apt::install(packages, *consent, &say).await?;
            facts = facts::gather(Some(Kind::Native)).await;
            branch = rule::decide(&facts)?;
        }
        match branch {
            Branch::External { database, rabbitmq } => external::connect(database, rabbitmq, &say).await,
            Branch::Native => Native::start(facts, data, register, say).await,
            Branch::Docker => docker::start(data, register, say).await,
            Branch::Install { packages, .. } => {
                bail!("{} was installed, and still cannot be found", packages.join(" "))
            }
        }
    }

    /// `postgres://…`, a superuser's where the services are private.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// `amqp://…`, an administrator's where the services are private.
    pub fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    /// `http://user:password@host:port` of the management plugin. Of external services it is not always known.
    pub fn management_url(&self) -> Option<&str> {
        self.management_url.as_deref()
    }

    /// `http://host:port` of the Prometheus plugin. Of external services it is not always known.
    pub fn prometheus_url(&self) -> Option<&str> {
        self.prometheus_url.as_deref()
    }

    /// Where they come from.
    pub fn kind(&self) -> Kind {
        match self.backend {
            Backend::External => Kind::External,
            Backend::Native(_) => Kind::Native,
            Backend::Docker(_) => Kind::Docker,
        }
    }

    /// The private instances, which can be stopped, killed, frozen and started; `None` where they are not ours.
    pub fn native(&self) -> Option<&Native> {
        match &self.backend {
            Backend::Native(native) => Some(native),
            Backend::External | Backend::Docker(_) => None,
        }
    }

    /// Whether one of them can be stopped and started: they are not ours if external.
    pub fn can_restart(&self) -> bool {
        self.kind() != Kind::External
    }

    /// Stops one of them in good order.
    pub async fn stop_one(&self, service: Service) -> anyhow::Result<()> {
        match (&self.backend, service) {
            (Backend::External, _) => bail!("external services are not ours to stop"),
            (Backend::Native(native), Service::Postgres) => native.postgres().stop().await,
            (Backend::Native(native), Service::Rabbitmq) => native.rabbitmq().stop().await,
            (Backend::Docker(docker), service) => docker.stop_one(service).await?,
        }
        Ok(())
    }

    /// Starts one of them that was stopped, or killed, and waits until it answers.
    pub async fn start_one(&self, service: Service) -> anyhow::Result<()> {
        match (&self.backend, service) {
            (Backend::External, _) => bail!("external services are not ours to start"),
            (Backend::Native(native), Service::Postgres) => native.postgres().start().await,
            (Backend::Native(native), Service::Rabbitmq) => native.rabbitmq().start().await,
            (Backend::Docker(docker), service) => {
                docker.start_one(service).await?;
                match service {
                    Service::Postgres => {
                        wait::until("PostgreSQL", None, || wait::postgres(&self.database_url)).await
                    }
                    Service::Rabbitmq => {
                        wait::until("RabbitMQ", None, || wait::rabbitmq(&self.amqp_url)).await
                    }
                }
            }
        }
    }

    /// Stops what was started.
    pub async fn stop(&self) {
        match &self.backend {
            Backend::External => {}
            Backend::Native(native) => native.stop().await,
            Backend::Docker(docker) => docker.stop().await,
        }
    }
}

fn kind_from_environment() -> anyhow::Result<Option<Kind>> {
    match std::env::var(VARIABLE) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Kind::from_str(&text, false).map(Some).map_err(|_| {
            anyhow::anyhow!("{VARIABLE} is {text:?}; it can be external, native or docker, or not set")
        }),
        Err(_) => Ok(None),
    }
}

/// Whether the rule takes services that somebody else runs: it needs no more for that than the environment.
pub(crate) fn are_external(kind: Option<Kind>) -> anyhow::Result<bool> {
    let kind = kind.map_or_else(kind_from_environment, |kind| Ok(Some(kind)))?;
    let (database, rabbitmq) = facts::urls();
    let named = database.is_some() && rabbitmq.is_some();
    Ok(kind == Some(Kind::External) || (kind.is_none() && named))
}

/// Removes what the services of a data folder keep outside it. Nothing of them may run.
pub(crate) async fn forget(data: &Data) -> anyhow::Result<()> {
    let state = State::load(data)?;
    if let Some(folder) = &state.postgres_folder {
        data::remove(folder)?;
    }
    if state.volumes {
        docker::remove_volumes(&state.id).await;
    }
    Ok(())
}
