//! What a change costs when there are ten thousand tenants, beside ten; and what they cost while nothing happens.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::id::TenantId;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tests::{
    bench::{self, Report, Series, Target, thousands},
    usage,
};
use uuid::Uuid;

use crate::{ground::Ground, idle, plan::Plan};

/// How many tenants there are first.
const FEW: usize = 10;
/// What a change may take of what it takes with a few.
const CHANGE_MAX: f64 = 1.3;
/// What everybody may cost of a core while idle.
const IDLE_PERCENT: f64 = 2.0;
/// What the growth leaves behind ends first: reports, vacuums.
const REST: Duration = Duration::from_secs(10);

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let tenants = bench::tenants(&ground.rest, "few", FEW, "active").await?;
    let few = Changes::timed(&ground, plan.creations, &tenants).await?;
    eprintln!("growing to {} tenants", plan.crowd);
    ground.daemon()?.terminate().await;
    idle::add(&ground, plan.crowd - FEW).await?;
    ground.daemon()?.start_again()?;
    ground.settled(1, plan.crowd).await?;
    let many = Changes::timed(&ground, plan.creations, &tenants).await?;
    let crowd = thousands(plan.crowd as f64);
    for (what, many, few, target) in [
        ("CreateTenant", many.create(), few.create(), true),
        ("SetConcurrency", many.resize, few.resize, true),
        ("a pause", many.pause, few.pause, true),
        ("a resumption", many.resume, few.resume, true),
        (
            "a partition's making and attaching",
            many.attach,
            few.attach,
            false,
        ),
    ] {
        let ratio = many.median() / few.median();
        report.ratio(
            format!("{what}, with {crowd} tenants"),
            many.millis(),
            format!("with {FEW}: {}", few.millis()),
            ratio,
            target.then_some(Target::AtMost(CHANGE_MAX)),
        );
    }
    idling(&ground, &crowd, plan, report).await
}

/// How long each change took, the whole call.
#[derive(Default)]
struct Changes {
    created: Series,
    resize: Series,
    pause: Series,
    resume: Series,
    /// What PostgreSQL alone takes for a partition.
    attach: Series,
}

impl Changes {
    async fn timed(ground: &Ground, count: usize, tenants: &[TenantId]) -> anyhow::Result<Self> {
        let mut changes = Self::default();
        for n in 0..count {
            let tenant = format!("/api/tenants/{}", tenants[n % tenants.len()]);
            let workers = json!({ "workers": 4 + (n / tenants.len()) % 2 });
            let path = format!("{tenant}/config/concurrency");
            let set_workers = ground.rest.put(&path, &workers);
            let answer = timed(&mut changes.resize, set_workers).await?.expect(200)?;
            anyhow::ensure!(answer["applied"] == true, "{answer}");
            let paused = json!({ "status": "paused" });
            timed(&mut changes.pause, ground.rest.patch(&tenant, &paused))
                .await?
                .expect(200)?;
            let active = json!({ "status": "active" });
            timed(&mut changes.resume, ground.rest.patch(&tenant, &active))
                .await?
                .expect(200)?;

            changes.attach.push(attach(ground).await?.as_secs_f64());
            let new = json!({ "name": format!("one of {}: {n}", Uuid::new_v4()) });
            let created = timed(&mut changes.created, ground.rest.post("/api/tenants", &new))
                .await?
                .expect(201)?;
            // As many as before.
            let id = created["id"].as_str().context("a tenant without an id")?;
            ground
                .rest
                .delete(&format!("/api/tenants/{id}"))
                .await?
                .expect(200)?;
        }
        Ok(changes)
    }

    /// Without what PostgreSQL takes for a partition.
    fn create(&self) -> Series {
        self.created.less(&self.attach)
    }
}

async fn timed<T>(series: &mut Series, call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    let answer = call.await?;
    series.push(started.elapsed().as_secs_f64());
    Ok(answer)
}

/// Makes a partition as a tenant's creation does, and takes it back.
async fn attach(ground: &Ground) -> anyhow::Result<Duration> {
    let id = Uuid::new_v4();
    let table = TenantId(id).partition();
    let mut transaction = ground.stack.database().begin().await?;
    let started = Instant::now();
    for sql in [
        "lock table only messages in share update exclusive mode".to_owned(),
        format!("create table {table} (like messages including all)"),
        format!("alter table messages attach partition {table} for values in ('{id}')"),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
    }
    let took = started.elapsed();
    transaction.rollback().await?;
    Ok(took)
}

/// What the programs and the database use while nothing happens.
async fn idling(ground: &Ground, crowd: &str, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    tokio::time::sleep(REST).await;
    let postgres = ground.stack.environment().native()?.postgres().process();
    let postgres = postgres.context("PostgreSQL has no process")?.pid();
    let all = [
        ("the control plane", ground.stack.member("control-plane-1")?.pid()),
        ("the daemon", ground.stack.member("ingest-daemon-1")?.pid()),
        ("PostgreSQL", postgres),
    ];
    let used = || -> anyhow::Result<Vec<f64>> {
        let of = |(_, pid)| usage::cpu(pid).map(|used| used.as_secs_f64());
        all.iter()
            .map(|&one| of(one).context("the kernel does not tell"))
            .collect()
    };
    let (before, started) = (used()?, Instant::now());
    tokio::time::sleep(plan.idling).await;
    let took = started.elapsed().as_secs_f64();
    let percent: Vec<_> = used()?
        .iter()
        .zip(before)
        .map(|(after, before)| 100.0 * (after - before) / took)
        .collect();
    let each: Vec<_> = all
        .iter()
        .zip(&percent)
        .map(|((name, _), percent)| format!("{name} {percent:.1}"))
        .collect();
    let total: f64 = percent.iter().sum();
    report.bounded(
        format!("what {crowd} idle tenants take of a core: {}", each.join(", ")),
        format!("{total:.1} %"),
        total,
        Target::Within(IDLE_PERCENT, "%"),
    );
    Ok(())
}
