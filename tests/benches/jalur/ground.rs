//! A stack to measure on, and what every measurement asks of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use common::id::TenantId;
use lapin::Connection;
use serde_json::json;
use tests::{
    Member, Options, Rest, Stack,
    bench::{self, Report, Series, rate},
    usage,
};
use uuid::Uuid;

use crate::fill;

/// How often progress is asked for: less than a hundredth of the shortest measurement of a full run, and no load.
const POLL: Duration = Duration::from_millis(40);
/// How often the fleet's state is looked at: it is what a figure may be too large by.
const LOOK: Duration = Duration::from_millis(5);
/// Over what time the broker's CPU is taken while it calms down: it does its statistics this often.
const CALM_WINDOW: Duration = Duration::from_secs(5);
/// It has calmed down once it uses no less than this part of what it used before.
const CALM_PART: f64 = 0.9;
/// How long nothing may be stored, or a fleet may take, before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One control plane, some daemons, a database and a vhost.
pub(crate) struct Ground {
    pub(crate) stack: Stack,
    pub(crate) rest: Rest,
    /// For publishing; never what is measured.
    pub(crate) amqp: Connection,
}

/// CPU seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) broker: f64,
    pub(crate) daemon: f64,
    pub(crate) postgres: f64,
    pub(crate) control_plane: f64,
}

/// Microseconds of CPU a message, of several rounds. Nothing where the services are not ours.
#[derive(Default)]
pub(crate) struct CpuSeries {
    broker: Series,
    pub(crate) daemon: Series,
    pub(crate) postgres: Series,
    control_plane: Series,
}

impl CpuSeries {
    pub(crate) fn push(&mut self, each: Option<Cpu>) {
        if let Some(each) = each {
            self.broker.push(each.broker * 1e6);
            self.daemon.push(each.daemon * 1e6);
            self.postgres.push(each.postgres * 1e6);
            self.control_plane.push(each.control_plane * 1e6);
        }
    }

    /// Says what `what` took; `beside` is said behind it.
    pub(crate) fn tell(&self, report: &mut Report, what: &str, beside: &str) {
        if !self.broker.is_empty() {
            report.figure(
                format!("{what}: CPU a message, broker / daemon / PostgreSQL / control plane"),
                format!("{}{beside}", self.text()),
            );
        }
    }

    pub(crate) fn text(&self) -> String {
        let all = [&self.broker, &self.daemon, &self.postgres, &self.control_plane];
        let all = all.map(|each| format!("{:.1}", each.median()));
        format!("{} µs", all.join(" / "))
    }
}

impl Ground {
    pub(crate) async fn start(daemons: u16) -> anyhow::Result<Self> {
        let options = Options {
            daemons,
            ..Options::default()
        };
        Self::with(Stack::start(options).await?).await
    }

    pub(crate) async fn with(stack: Stack) -> anyhow::Result<Self> {
        Ok(Self {
            rest: stack.rest()?,
            amqp: stack.amqp().await?,
            stack,
        })
    }

    /// The only one, or the first.
    pub(crate) fn daemon(&self) -> anyhow::Result<&Member> {
        self.stack.member("ingest-daemon-1")
    }

    /// Creates so many tenants; `status` as in REST.
    pub(crate) async fn tenants(
        &self,
        name: &str,
        count: usize,
        status: &str,
    ) -> anyhow::Result<Vec<TenantId>> {
        bench::tenants(&self.rest, name, count, status).await
    }

    /// A paused tenant with a full queue.
    pub(crate) async fn full_tenant(
        &self,
        name: &str,
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<TenantId> {
        let tenants = self.tenants(name, 1, "paused").await?;
        self.fill(&fill::queues(&tenants), count, bytes).await?;
        Ok(tenants[0])
    }

    /// Fills queues that are drained right afterwards. The database settles before, so that no queue falls asleep in
    /// between: it collects its garbage then, and where the last collection fell decides whether every second one of those
    /// that follow is a full one, which is a third of a long queue's rate.
    pub(crate) async fn fill(
        &self,
        targets: &[fill::Target],
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<()> {
        self.settle().await?;
        fill::fill(&self.amqp, targets, count, bytes).await
    }

    /// Lets the broker calm down: thousands of queues that have just got their consumer tell its statistics of it, and
    /// fall asleep, each in its own time.
    pub(crate) async fn calm(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut used: Option<f64> = None;
        let Some(mut last) = self.cpu()? else {
            return Ok(());
        };
        while started.elapsed() < PATIENCE {
            tokio::time::sleep(CALM_WINDOW).await;
            let Some(now) = self.cpu()? else {
                return Ok(());
            };
            let uses = now.broker - last.broker;
            if used.is_some_and(|used| uses >= used * CALM_PART) {
                return Ok(());
            }
            (used, last) = (Some(uses), now);
        }
        bail!("the broker does not calm down within {} s", PATIENCE.as_secs());
    }

    /// Lets what writing left behind be written: so it falls on nobody's measurement.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("checkpoint").execute(self.stack.database()).await?;
        Ok(())
    }

    pub(crate) async fn activate(&self, tenant: TenantId) -> anyhow::Result<()> {
        let path = format!("/api/tenants/{tenant}");
        self.rest
            .patch(&path, &json!({ "status": "active" }))
            .await?
            .expect(200)?;
        Ok(())
    }

    pub(crate) async fn delete(&self, tenant: TenantId) -> anyhow::Result<()> {
        let answer = self.rest.delete(&format!("/api/tenants/{tenant}")).await?;
        anyhow::ensure!(answer.status < 300, "{tenant} was not deleted: {}", answer.text);
        Ok(())
    }

    /// Activates a tenant that [`Ground::full_tenant`] made and answers how long it takes from there until its last
    /// message is stored: with the assignment, the subscription and everything else that a queue waits for.
    pub(crate) async fn drain(&self, tenant: TenantId, count: usize) -> anyhow::Result<Duration> {
        let tenants = [tenant];
        let started = Instant::now();
        let ((), end) = tokio::try_join!(self.activate(tenant), self.reaches(&tenants, count))?;
        let took = end - started;
        self.holds(tenant, count).await?;
        Ok(took)
    }

    /// How many messages a second are stored once `begin` lets it happen, from the first to the last of `count`: how
    /// long it takes to begin is another question.
    pub(crate) async fn pace(
        &self,
        tenants: &[TenantId],
        count: usize,
        begin: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<f64> {
        let before = self.stored(tenants).await?;
        let storing = async {
            let first = self.reaches(tenants, before + 1).await?;
            // What the first look saw came before it.
            let seen = self.stored(tenants).await? - before;
            let last = self.reaches(tenants, before + count).await?;
            Ok(rate(count - seen.min(count / 2), last - first))
        };
        let ((), pace) = tokio::try_join!(begin, storing)?;
        Ok(pace)
    }

    /// Sees that so many messages of a tenant are in its table: the counter alone could be wrong.
    pub(crate) async fn holds(&self, tenant: TenantId, count: usize) -> anyhow::Result<()> {
        let rows: i64 = sqlx::query_scalar("select count(*) from messages where tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(self.stack.database())
            .await?;
        anyhow::ensure!(
            usize::try_from(rows) == Ok(count),
            "{rows} of {count} messages are stored"
        );
        Ok(())
    }

    /// How many messages of these tenants were stored so far: by their counters, which cost nothing to read.
    pub(crate) async fn stored(&self, tenants: &[TenantId]) -> anyhow::Result<usize> {
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
        let sum: i64 = sqlx::query_scalar(
            "select coalesce(sum(last), 0)::bigint from positions where tenant_id = any ($1)",
        )
        .bind(ids)
        .fetch_one(self.stack.database())
        .await?;
        Ok(usize::try_from(sum)?)
    }

    /// When so many messages of these tenants were stored.
    async fn reaches(&self, tenants: &[TenantId], wanted: usize) -> anyhow::Result<Instant> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let stored = self.stored(tenants).await?;
            if stored >= wanted {
                return Ok(Instant::now());
            }
            if stored > last {
                (last, moved) = (stored, Instant::now());
            }
            if moved.elapsed() > PATIENCE {
                let log = self.daemon()?.log_tail(20);
                bail!("{stored} of {wanted} messages are stored, and no more come; the daemon says:\n{log}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `daemons` daemons run so many lanes between them, as they were told to.
    pub(crate) async fn settled(&self, daemons: usize, lanes: usize) -> anyhow::Result<Instant> {
        self.until("every lane runs", async || {
            let (alive, running, rest) = sqlx::query_as::<_, (i64, i64, i64)>(
                "select (select count(*) from daemons where state = 'ready'),
                        count(*) filter (where observed_state = 'running' and observed_revision >= revision and workers > 0),
                        count(*) filter (where observed_revision < revision or workers = 0)
                 from assignments a join daemons d on d.id = a.daemon_id where d.state = 'ready'",
            )
            .fetch_one(self.stack.database())
            .await?;
            Ok((alive, running, rest) == (daemons as i64, lanes as i64, 0))
        })
        .await
    }

    /// Which daemon runs which tenant.
    pub(crate) async fn lanes(&self) -> anyhow::Result<BTreeSet<(String, TenantId)>> {
        let lanes = sqlx::query_as::<_, (String, Uuid)>(
            "select daemon_id, tenant_id from assignments a join daemons d on d.id = a.daemon_id
             where a.workers > 0 and d.state = 'ready'",
        );
        let lanes = lanes.fetch_all(self.stack.database()).await?;
        Ok(lanes
            .into_iter()
            .map(|(daemon, id)| (daemon, TenantId(id)))
            .collect())
    }

    /// Waits until something holds, and answers when.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Instant> {
        let started = Instant::now();
        while !holds().await? {
            if started.elapsed() > PATIENCE {
                bail!("not within {} s: {what}", PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Instant::now())
    }

    /// The most memory that the daemon had in this life of it, in MB.
    pub(crate) fn daemon_peak(&self) -> anyhow::Result<f64> {
        let bytes = usage::peak_memory(self.daemon()?.pid()).context("the kernel does not tell")?;
        Ok(bytes as f64 / 1e6)
    }

    /// What each has used for each of so many messages, since `before`.
    pub(crate) fn cpu_each(&self, before: Option<Cpu>, count: usize) -> anyhow::Result<Option<Cpu>> {
        let pair = before.zip(self.cpu()?);
        Ok(pair.map(|(before, after)| {
            let each = |part: fn(Cpu) -> f64| (part(after) - part(before)) / count as f64;
            Cpu {
                broker: each(|cpu| cpu.broker),
                daemon: each(|cpu| cpu.daemon),
                postgres: each(|cpu| cpu.postgres),
                control_plane: each(|cpu| cpu.control_plane),
            }
        }))
    }

    /// What each has used so far; nothing where the services are not ours.
    pub(crate) fn cpu(&self) -> anyhow::Result<Option<Cpu>> {
        let Ok(native) = self.stack.environment().native() else {
            return Ok(None);
        };
        let of = |pid: Option<i32>| Some(usage::cpu(pid?)?.as_secs_f64());
        let broker = of(native.rabbitmq().process().map(|process| process.pid()));
        let postgres = of(native.postgres().process().map(|process| process.pid()));
        // One that is down has used nothing: the next has a process of its own.
        let daemon = of(Some(self.daemon()?.pid())).or(Some(0.0));
        let control_plane = of(Some(self.stack.member("control-plane-1")?.pid()));
        Ok(match (broker, daemon, postgres, control_plane) {
            (Some(broker), Some(daemon), Some(postgres), Some(control_plane)) => Some(Cpu {
                broker,
                daemon,
                postgres,
                control_plane,
            }),
            _ => None,
        })
    }
}
