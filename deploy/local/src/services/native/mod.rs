//! Private instances of the PostgreSQL and RabbitMQ installed on this machine.

pub mod postgres;
pub mod rabbitmq;
mod unprivileged;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

pub use self::{postgres::Postgres, rabbitmq::Rabbitmq};
use super::{Backend, Say, Services, rule::Facts, state::State};
use crate::{data::Data, ports, processes::Process, processes::Register};

/// How long one of them may take to stop: a checkpoint, or the flushing of queues.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// Both instances.
#[derive(Debug)]
pub struct Native {
    postgres: Postgres,
    rabbitmq: Rabbitmq,
    ports: Vec<u16>,
}

impl Native {
    pub(super) async fn start(
        facts: Facts,
        data: Data,
        register: Register,
        say: Say,
    ) -> anyhow::Result<Services> {
        let mut state = State::load(&data)?;
        let mut ports = Vec::new();
        for port in [
            &mut state.postgres_port,
            &mut state.amqp_port,
            &mut state.management_port,
            &mut state.prometheus_port,
            &mut state.distribution_port,
            &mut state.epmd_port,
        ] {
            *port = ports::keep(*port).context("private ports cannot be had")?;
            ports.push(*port);
        }
        let postgres =
            Postgres::prepare(facts.postgres.found(), &data, &mut state, register.clone(), &say).await?;
        let rabbitmq = Rabbitmq::prepare(facts.rabbitmq.found(), &data, &state, register)?;
        say.say(format!(
            "services: private instances of PostgreSQL {} and RabbitMQ {}",
            postgres.version(),
            rabbitmq.version()
        ));
        tokio::try_join!(postgres.start(), rabbitmq.start())?;
        Ok(Services {
            database_url: postgres.url(),
            amqp_url: rabbitmq.url(),
            management_url: Some(rabbitmq.management_url()),
            prometheus_url: Some(rabbitmq.prometheus_url()),
            backend: Backend::Native(Box::new(Self {
                postgres,
                rabbitmq,
                ports,
            })),
        })
    }

    /// The database.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The broker.
    pub fn rabbitmq(&self) -> &Rabbitmq {
        &self.rabbitmq
    }

    pub(super) async fn stop(&self) {
        tokio::join!(self.postgres.stop(), self.rabbitmq.stop_all());
        for port in &self.ports {
            ports::release(*port);
        }
    }
}

/// The process of a service, which may be stopped and started.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<Process>>);

impl Slot {
    fn set(&self, process: Process) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    /// The process, if it runs.
    fn running(&self) -> Option<Process> {
        let process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        process.clone().filter(|process| process.exited().is_none())
    }

    async fn stop(&self) {
        if let Some(process) = self.running() {
            process.stop(STOP_GRACE).await;
        }
    }

    async fn kill(&self) {
        if let Some(process) = self.running() {
            process.kill().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.running() {
            process.signal(signal);
        }
    }
}
