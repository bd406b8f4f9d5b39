//! PostgreSQL and RabbitMQ for the tests, found or started by the rule that `cargo run` goes by.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use local::{
    data::Data,
    lock::{self, Lock},
    processes::{
        Register,
        guard::{Folder, Guard},
    },
    services::{self, Say, Services, native::Native},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The name of the binary that is started as control plane, daemon and guard.
const PROGRAMS: &str = "jalur-test-programs";

/// One for all tests of this process. Nothing runs at the end of a test binary; the guard sees it end.
static SHARED: OnceCell<Arc<Environment>> = OnceCell::const_new();

/// Services, and the folder and processes that belong to them.
#[derive(Debug)]
pub struct Environment {
    services: Services,
    data: Data,
    register: Register,
    binary: PathBuf,
    // Let go of in this order: the guard clears up only if the lock is free.
    _lock: Lock,
    _guard: Guard,
}

impl Environment {
    /// The services that all tests of this process share, each with a database and a vhost of its own.
    pub async fn shared() -> anyhow::Result<Arc<Self>> {
        SHARED.get_or_try_init(Self::start).await.cloned()
    }

    /// Services of a test's own, to be stopped, killed, frozen and started: `None`, said loudly, where only the
    /// shared ones can be had, since services are external or containers.
    pub async fn private(test: &str) -> anyhow::Result<Option<Arc<Self>>> {
        // What the rule decides does not change from one call to the next.
        if Self::shared().await?.services.native().is_none() {
            eprintln!("SKIPPED: {test}: it restarts services, which it can only where they are native");
            return Ok(None);
        }
        Self::start().await.map(Some)
    }

    async fn start() -> anyhow::Result<Arc<Self>> {
        let binary = binary()?;
        let name = format!(
            "jalur-tests-{}-{}",
            std::process::id(),
            &Uuid::new_v4().simple().to_string()[..8]
        );
        let data = Data::open(&std::env::temp_dir().join(name))?;
        let lock = lock::acquire(&data)?;
        let guard = Guard::start(&binary, &data, Folder::Remove)?;
        let register = Register::new(data.path(Register::FILE));
        let services = Services::start(services::Options {
            data: data.clone(),
            register: register.clone(),
            kind: None,
            say: Say::stderr(),
        })
        .await?;
        Ok(Arc::new(Self {
            services,
            data,
            register,
            binary,
            _lock: lock,
            _guard: guard,
        }))
    }

    /// Where they are.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The private instances. Never restart those of [`Environment::shared`].
    pub fn native(&self) -> anyhow::Result<&Native> {
        self.services
            .native()
            .context("the services are not private instances")
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.binary.clone()
    }

    /// A folder for the logs of one stack.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<Data> {
        Data::open(&self.data.path("stacks").join(name))
    }
}

/// Test binaries are in `target/<profile>/deps`, the package's programs in `target/<profile>`.
fn binary() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the path of this test binary is not known")?;
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(PROGRAMS))
        .find(|path| path.is_file());
    let found = found.with_context(|| {
        format!(
            "{PROGRAMS} is not where cargo builds it, beside or above {}: run `cargo test -p tests`",
            test.display()
        )
    })?;
    ensure!(found.is_absolute(), "{} is no absolute path", found.display());
    Ok(found)
}
