//! The command line.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use common::{
    cli::{ConfigCommand, EXIT_USAGE, Options},
    database,
    telemetry::Telemetry,
};
use uuid::Uuid;

use crate::{
    app,
    config::Config,
    gateway,
    identity::{Keys, Role},
    migrations,
};

#[derive(Debug, Parser)]
#[command(
    name = "control-plane",
    version,
    about = "The control plane of Jalur, on gRPC and REST"
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or Ctrl-C (the default)
    Serve,
    /// Changes the database's schema
    #[command(subcommand)]
    Migrate(Migrate),
    /// Checks or shows the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints the OpenAPI document of the REST interface
    Openapi,
    /// Prints a token signed with the configured key
    Token {
        /// What the token may do: admin, tenant_admin, tenant or daemon
        #[arg(long, value_parser = role)]
        role: Role,
        /// The tenant of a tenant_admin or tenant
        #[arg(long)]
        tenant: Option<Uuid>,
        /// How long it is good for, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h", value_parser = humantime)]
        ttl: Duration,
    },
}

#[derive(Debug, Subcommand)]
enum Migrate {
    /// Brings the schema to this program's version
    Up,
    /// Takes back the newest migration, or more
    Down {
        /// How many migrations to take back
        #[arg(long, default_value_t = 1)]
        steps: usize,
    },
    /// Lists the migrations and whether each is applied
    Status,
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "must be admin, tenant_admin, tenant or daemon".to_owned())
}

fn humantime(text: &str) -> Result<Duration, String> {
    common::config::duration::parse(text)
}

pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // To standard error, or for --help and --version to standard output.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => common::cli::failed(error.as_ref()),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let options = cli.options;
    let config: Config = options.load()?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            config.check_serve()?;
            let keys = Keys::configured(&config)?;
            common::telemetry::init(&config.log)?;
            let telemetry = Telemetry::from_env("jalur-control-plane")?;
            let ran = runtime()?.block_on(app::run(config, keys, options, &telemetry));
            telemetry.close();
            ran
        }
        Command::Migrate(command) => {
            config.check_database()?;
            runtime()?.block_on(migrate(&config, &command))
        }
        Command::Config(command) => {
            if let ConfigCommand::Check = command {
                config.check_serve()?;
                Keys::configured(&config)?;
            }
            Ok(command.run(&config)?)
        }
        Command::Openapi => {
            println!("{:#}", gateway::openapi());
            Ok(())
        }
        Command::Token { role, tenant, ttl } => {
            let keys = Keys::configured(&config)?;
            println!("{}", keys.mint(role, tenant, "cli", ttl)?);
            Ok(())
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn migrate(config: &Config, command: &Migrate) -> anyhow::Result<()> {
    database::Sessions::new(&config.database.of_schema())?
        .check()
        .await?;
    let pool = migrations::pool(&config.database)?;
    match command {
        Migrate::Up => migrations::up(&pool).await?,
        Migrate::Down { steps } => migrations::down(&pool, *steps).await?,
        Migrate::Status => {}
    }
    for migration in migrations::status(&pool).await? {
        println!("{migration}");
    }
    Ok(())
}
