//! PostgreSQL and RabbitMQ in containers. Their files are in named volumes, which outlive the containers.

use std::time::Duration;

use anyhow::Context as _;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _,
    bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions},
    core::{IntoContainerPort as _, Mount, client::docker_client_instance},
    runners::AsyncRunner as _,
};
use tokio::{sync::Mutex, time::timeout};

use super::{Backend, Say, Service, Services, state::State, wait};
use crate::{data::Data, ports, processes::Register};

/// A local engine answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a request may take, stopping and removing included.
const REQUEST: Duration = Duration::from_secs(30);
/// How long an image may take to come, at the first start.
const PULL: Duration = Duration::from_secs(600);
/// How long, in seconds, a container may take to stop in good order.
const STOP_GRACE_S: i32 = 20;
const USER: &str = "jalur";
/// Both images can be replaced, by a registry's mirror for instance.
const POSTGRES_IMAGE: (&str, &str) = ("JALUR_POSTGRES_IMAGE", "postgres:17");
const RABBITMQ_IMAGE: (&str, &str) = ("JALUR_RABBITMQ_IMAGE", "rabbitmq:4-management");

/// The containers.
#[derive(Debug)]
pub(super) struct Docker {
    running: Mutex<Vec<Container>>,
    register: Register,
}

#[derive(Debug)]
struct Container {
    service: Service,
    name: String,
    port: u16,
    container: ContainerAsync<GenericImage>,
}

/// Whether an engine answers.
pub(super) async fn answers() -> bool {
    let ping = async {
        match docker_client_instance().await {
            Ok(engine) => engine.ping().await.is_ok(),
            Err(_) => false,
        }
    };
    timeout(ANSWER, ping).await.unwrap_or(false)
}

pub(super) async fn start(data: Data, register: Register, say: Say) -> anyhow::Result<Services> {
    let mut state = State::load(&data)?;
    for port in [
        &mut state.postgres_port,
        &mut state.amqp_port,
        &mut state.management_port,
        &mut state.prometheus_port,
    ] {
        *port = ports::keep(*port).context("private ports cannot be had")?;
    }
    state.volumes = true;
    state.save(&data)?;

    let images = [POSTGRES_IMAGE, RABBITMQ_IMAGE].map(|(variable, default)| {
        std::env::var(variable)
            .ok()
            .filter(|image| !image.is_empty())
            .unwrap_or_else(|| default.to_owned())
    });
    let [postgres_image, rabbitmq_image] = &images;
    say.say(format!("services: containers of {postgres_image} and {rabbitmq_image} (images are fetched at the first start)"));

    let docker = Docker {
        running: Mutex::default(),
        register,
    };
    let postgres = docker.run(
        Service::Postgres,
        &state,
        state.postgres_port,
        postgres(postgres_image, &state),
    );
    let rabbitmq = docker.run(
        Service::Rabbitmq,
        &state,
        state.amqp_port,
        rabbitmq(rabbitmq_image, &state),
    );
    let (postgres_host, rabbitmq_host) = tokio::try_join!(postgres, rabbitmq)?;

    let State {
        password,
        postgres_port,
        amqp_port,
        management_port,
        prometheus_port,
        ..
    } = &state;
    let database_url = format!("postgres://{USER}:{password}@{postgres_host}:{postgres_port}/jalur");
    let amqp_url = format!("amqp://{USER}:{password}@{rabbitmq_host}:{amqp_port}/%2f");
    let management_url = format!("http://{USER}:{password}@{rabbitmq_host}:{management_port}");
    let client = crate::http::client();
    tokio::try_join!(
        wait::until("PostgreSQL", None, || wait::postgres(&database_url)),
        wait::until("RabbitMQ", None, || wait::rabbitmq(&amqp_url)),
        wait::until("RabbitMQ's management", None, || wait::management(
            &client,
            &management_url
        )),
    )?;
    Ok(Services {
        database_url,
        amqp_url,
        management_url: Some(management_url),
        prometheus_url: Some(format!("http://{rabbitmq_host}:{prometheus_port}")),
        backend: Backend::Docker(docker),
    })
}

fn postgres(image: &str, state: &State) -> ContainerRequest<GenericImage> {
    let (name, tag) = name_and_tag(image);
    GenericImage::new(name, tag)
        .with_mapped_port(state.postgres_port, 5432.tcp())
        .with_env_var("POSTGRES_USER", USER)
        .with_env_var("POSTGRES_PASSWORD", &state.password)
        .with_env_var("POSTGRES_DB", "jalur")
        // Where an image keeps its files has changed between versions; here it is always the same.
        .with_env_var("PGDATA", "/jalur/data")
        .with_mount(Mount::volume_mount(named(&state.id, "postgres"), "/jalur"))
        .with_cmd([
            "postgres",
            "-c",
            "max_connections=200",
            "-c",
            "max_locks_per_transaction=256",
        ])
}

fn rabbitmq(image: &str, state: &State) -> ContainerRequest<GenericImage> {
    let (name, tag) = name_and_tag(image);
    GenericImage::new(name, tag)
        .with_mapped_port(state.amqp_port, 5672.tcp())
        .with_mapped_port(state.management_port, 15672.tcp())
        // The plugin is on in RabbitMQ's own images; where another has it off nothing answers there.
        .with_mapped_port(state.prometheus_port, 15692.tcp())
        .with_env_var("RABBITMQ_DEFAULT_USER", USER)
        .with_env_var("RABBITMQ_DEFAULT_PASS", &state.password)
        // The node's name, and so the folder of its files, is made from the host's.
        .with_hostname("jalur")
        .with_mount(Mount::volume_mount(
            named(&state.id, "rabbitmq"),
            "/var/lib/rabbitmq",
        ))
}

impl Docker {
    /// Runs a container; answers the host that its ports are on.
    async fn run(
        &self,
        service: Service,
        state: &State,
        port: u16,
        request: ContainerRequest<GenericImage>,
    ) -> anyhow::Result<String> {
        let what = word(service);
        let name = named(&state.id, what);
        // One that a killed run left has the name, and the volume.
        remove_container(&name).await;
        self.register.add_container(&name)?;
        let started = request.with_container_name(&name).start();
        let container = timeout(PULL, started)
            .await
            .with_context(|| format!("the container of {what} takes too long to start"))?
            .with_context(|| format!("the container of {what} cannot be started"))?;
        let host = container
            .get_host()
            .await
            .context("the engine's host is not known")?
            .to_string();
        self.running.lock().await.push(Container {
            service,
            name,
            port,
            container,
        });
        Ok(host)
    }

    pub(super) async fn stop_one(&self, service: Service) -> anyhow::Result<()> {
        for container in self
            .running
            .lock()
            .await
            .iter()
            .filter(|container| container.service == service)
        {
            timeout(REQUEST, container.container.stop_with_timeout(Some(STOP_GRACE_S))).await??;
        }
        Ok(())
    }

    /// It keeps its files and ports.
    pub(super) async fn start_one(&self, service: Service) -> anyhow::Result<()> {
        for container in self
            .running
            .lock()
            .await
            .iter()
            .filter(|container| container.service == service)
        {
            timeout(REQUEST, container.container.start()).await??;
        }
        Ok(())
    }

    pub(super) async fn stop(&self) {
        let mut running = self.running.lock().await;
        let stopping = running.drain(..).map(
            async |Container {
                       name,
                       port,
                       container,
                       ..
                   }| {
                // Removed by force next.
                let _ = timeout(REQUEST, container.stop_with_timeout(Some(STOP_GRACE_S))).await;
                let _ = timeout(REQUEST, container.rm()).await;
                // Stale names in the register do no harm.
                let _ = self.register.remove_container(&name);
                ports::release(port);
            },
        );
        futures::future::join_all(stopping).await;
    }
}

/// Removes a container; answers whether there was one.
pub(crate) async fn remove_container(name: &str) -> bool {
    let Ok(engine) = docker_client_instance().await else {
        return false;
    };
    // With it go the volumes without a name that its image asks for.
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        ..Default::default()
    };
    let removed = timeout(REQUEST, engine.remove_container(name, Some(options))).await;
    matches!(removed, Ok(Ok(())))
}

/// Removes the volumes of the stack `id`.
pub(super) async fn remove_volumes(id: &str) {
    let Ok(engine) = docker_client_instance().await else {
        return;
    };
    for service in [Service::Postgres, Service::Rabbitmq] {
        let name = named(id, word(service));
        let options = RemoveVolumeOptions { force: true };
        // What cannot be removed is never used again: the next stack has another id.
        let _ = timeout(REQUEST, engine.remove_volume(&name, Some(options))).await;
    }
}

fn word(service: Service) -> &'static str {
    match service {
        Service::Postgres => "postgres",
        Service::Rabbitmq => "rabbitmq",
    }
}

fn named(id: &str, what: &str) -> String {
    format!("jalur-{id}-{what}")
}

/// A colon before the last slash is a registry's port.
fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_may_name_a_registry_with_a_port() {
        assert_eq!(name_and_tag("postgres:17"), ("postgres", "17"));
        assert_eq!(
            name_and_tag("mirror:5000/postgres"),
            ("mirror:5000/postgres", "latest")
        );
        assert_eq!(
            name_and_tag("mirror:5000/postgres:17"),
            ("mirror:5000/postgres", "17")
        );
    }
}
