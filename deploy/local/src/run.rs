//! `cargo run`: the life of a stack.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use control_plane::identity::Role;
use futures::{StreamExt as _, future, stream::FuturesUnordered};

use crate::{
    cli::{self, Run},
    data::Data,
    demo, env_file, links, lock, ports,
    processes::{Process, Register, guard, guard::Guard, stop_left_over},
    programs::{self, Programs, STOP_GRACE, reached_at},
    services::{self, Say, Services},
    stack::{Program, Stack},
};

/// The admin token in the `env` file: as long as somebody works with one stack.
const ADMIN_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
const CONTROL_PLANE_ADMIN_PORT: u16 = 9090;
const DAEMON_ADMIN_PORT: u16 = 9091;

/// Runs a stack until SIGTERM or Ctrl-C.
pub(crate) fn main(options: Run) -> anyhow::Result<()> {
    let data = Data::open(&options.data)?;
    let lock = lock::acquire(&data)?;
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(&options, &data));
    drop(lock);
    done
}

async fn run(options: &Run, data: &Data) -> anyhow::Result<()> {
    let stop = common::shutdown::on_signal().context("signals cannot be received")?;
    let say = Say::stderr();
    let listed = data.path(Register::FILE);
    env_file::remove(data)?;
    let left = stop_left_over(&listed, STOP_GRACE).await?;
    if !left.is_empty() {
        say.say(format!("stopped what an earlier run left: {}", left.join(", ")));
    }
    if options.fresh {
        ensure!(
            !services::are_external(options.services)?,
            "--fresh cannot empty services that are not ours: empty them yourself, or start without it"
        );
        services::forget(data).await?;
        data.clear()?;
    }
    let binary = programs::this_binary()?;
    let guard = Guard::start(&binary, data, guard::Folder::Keep)?;
    let register = Register::new(listed);

    let start = start(options, data, &register, &say);
    let started = match stop.run_until_cancelled(start).await {
        Some(Ok(stack)) => {
            // Nobody reading is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{}", stack.banner(data)?);
            let demo = async {
                if options.demo {
                    demo::run(&stack, &say).await;
                }
            };
            let processes = stack.processes();
            stop.run_until_cancelled(future::join(tell_deaths(&processes, &say), demo))
                .await;
            Ok(Some(stack))
        }
        Some(Err(error)) => Err(error),
        None => Ok(None),
    };

    let something_runs = data.path(Register::FILE).exists();
    if something_runs {
        say.say("stopping");
    }
    env_file::remove(data)?;
    if let Ok(Some(stack)) = &started {
        stack.stop().await;
    }
    // And what a start that failed had started.
    register.stop_all(STOP_GRACE).await;
    guard.dismiss();
    if something_runs {
        say.say("stopped");
    }
    started.map(drop)
}

async fn start(options: &Run, data: &Data, register: &Register, say: &Say) -> anyhow::Result<Stack> {
    // First, so that a port that is taken is said before anything is started.
    let first = listen(options, say)?;
    let services = Services::start(services::Options {
        data: data.clone(),
        register: register.clone(),
        kind: options.services,
        say: say.clone(),
    })
    .await?;

    let programs = Programs {
        binary: programs::this_binary()?,
        data: data.clone(),
        database_url: services.database_url().to_owned(),
        amqp_url: services.amqp_url().to_owned(),
        management_url: services.management_url().map(str::to_owned),
        prometheus_url: services.prometheus_url().map(str::to_owned),
        secret: data.secret()?,
        env: vec![links::variable(data)?],
        inherit: true,
    };
    say.say("migrating the database");
    programs.migrate().await?;

    let (control_planes, endpoints) = start_control_planes(options, first, &programs, register, say).await?;
    let daemons = start_daemons(options, &endpoints, &programs, register, say).await?;
    let stack = Stack {
        services,
        control_planes,
        daemons,
        listen: reached_at(first),
        admin_token: programs::token(&programs.secret, Role::Admin, None, ADMIN_TOKEN_TTL)?,
    };
    env_file::write(data, &stack.variables())?;
    Ok(stack)
}

fn listen(options: &Run, say: &Say) -> anyhow::Result<SocketAddr> {
    if let Some(asked) = options.listen {
        return ports::exactly(asked)
            .with_context(|| format!("--listen {asked}: it cannot be listened on; give another, or none"));
    }
    next_free(cli::LISTEN.parse()?, "gRPC and REST", say)
}

fn next_free(wanted: SocketAddr, what: &str, say: &Say) -> anyhow::Result<SocketAddr> {
    let free = ports::next_free(wanted)?;
    if free != wanted {
        say.say(format!(
            "port {} is taken: {free} it is, for {what}",
            wanted.port()
        ));
    }
    Ok(free)
}

async fn start_control_planes(
    options: &Run,
    first: SocketAddr,
    programs: &Programs,
    register: &Register,
    say: &Say,
) -> anyhow::Result<(Vec<Program>, Vec<String>)> {
    let count = options.control_planes;
    say.say(format!(
        "starting {count} control plane{}",
        if count == 1 { "" } else { "s" }
    ));
    let mut started = Vec::new();
    let mut endpoints = Vec::new();
    for n in 1..=count {
        let name = format!("{}-{n}", programs::CONTROL_PLANE);
        let listen = match n {
            1 => first,
            _ => ports::next_free(first)?,
        };
        let admin = admin(CONTROL_PLANE_ADMIN_PORT, n, &name, say)?;
        let process = register.spawn(programs.control_plane(&name, listen, admin))?;
        started.push(Program { process, admin });
        endpoints.push(format!("http://{}", reached_at(listen)));
    }
    ready(&started).await?;
    Ok((started, endpoints))
}

async fn start_daemons(
    options: &Run,
    endpoints: &[String],
    programs: &Programs,
    register: &Register,
    say: &Say,
) -> anyhow::Result<Vec<Program>> {
    let count = options.daemons;
    say.say(format!(
        "starting {count} ingest daemon{}",
        if count == 1 { "" } else { "s" }
    ));
    let mut started = Vec::new();
    for n in 1..=count {
        let name = format!("{}-{n}", programs::INGEST_DAEMON);
        let admin = admin(DAEMON_ADMIN_PORT, n, &name, say)?;
        let process = register.spawn(programs.ingest_daemon(&name, endpoints, admin)?)?;
        started.push(Program { process, admin });
    }
    ready(&started).await?;
    Ok(started)
}

/// The first of each kind has a port that is known; that others have none of their own goes without saying.
fn admin(port: u16, n: u16, name: &str, say: &Say) -> anyhow::Result<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match n {
        1 => next_free(wanted, &format!("the admin listener of {name}"), say),
        // Behind both first ones.
        _ => Ok(ports::next_free(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            DAEMON_ADMIN_PORT + 1,
        )))?),
    }
}

async fn ready(programs: &[Program]) -> anyhow::Result<()> {
    let ready = programs
        .iter()
        .map(|program| programs::ready(&program.process, program.admin));
    future::try_join_all(ready).await.map(drop)
}

/// Says what ends, for as long as it is asked to. Nothing is restarted: whoever kills one wants to see what happens.
async fn tell_deaths(processes: &[Process], say: &Say) {
    let mut ends: FuturesUnordered<_> = processes
        .iter()
        .map(async |process| {
            process.exit().await;
            process
        })
        .collect();
    while let Some(process) = ends.next().await {
        say.say(format!("\n{}\n", process.obituary()));
    }
    future::pending().await
}
