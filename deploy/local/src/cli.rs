//! The command line of `cargo run`.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use control_plane::identity::Role;
use uuid::Uuid;

use crate::{data::Data, env_file, links, programs, run, services::Kind};

/// Where the control plane listens if nobody says.
pub const LISTEN: &str = "127.0.0.1:8080";
const DATA: &str = ".jalur";

/// The whole of Jalur on this machine: PostgreSQL, RabbitMQ, control plane and ingest daemon, until Ctrl-C
#[derive(Debug, Parser)]
#[command(name = "jalur", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
PostgreSQL and RabbitMQ, the first that applies:
  external  JALUR_DATABASE__URL and JALUR_RABBITMQ__URL are set
  native    both are installed: private instances on free ports of 127.0.0.1, never the system's
  docker    an engine answers (images: JALUR_POSTGRES_IMAGE, JALUR_RABBITMQ_IMAGE)
  apt       on Debian and Ubuntu what is missing is installed: at once as root or with CI=true, else you are asked

When all is ready, DATA/env is a shell file that says where everything is. Logs are in DATA/log.
The programs' own configuration (JALUR_LOG__FILTER=debug and the like) is taken from the environment.";

/// How to run the stack.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// How many ingest daemons
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=64))]
    pub(crate) daemons: u16,
    /// How many control planes; the second and later ones listen on further free ports
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) control_planes: u16,
    /// Where gRPC and REST are served [default: 127.0.0.1:8080, or the next free port]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
    /// The folder where all state lives; it survives a restart
    #[arg(long, value_name = "FOLDER", default_value = DATA)]
    pub(crate) data: PathBuf,
    /// Start empty: what is in the folder is lost
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Make two tenants with messages that trickle in, and a dead letter, for something to look at
    #[arg(long)]
    pub(crate) demo: bool,
    /// Where PostgreSQL and RabbitMQ come from [default: the first that applies]
    #[arg(long, value_enum, value_name = "KIND", env = crate::services::VARIABLE)]
    pub(crate) services: Option<Kind>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a token for the local stack
    Token {
        /// What the token may do
        #[arg(long, value_enum)]
        role: RoleName,
        /// The tenant of a tenant_admin or tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<Uuid>,
        /// How long it is good for, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h", value_parser = common::config::duration::parse)]
        ttl: Duration,
        /// The stack's folder
        #[arg(long, value_name = "FOLDER", default_value = DATA)]
        data: PathBuf,
    },
    /// Prints a link that signs in to the local stack's console: once, within 15 minutes
    Link {
        /// The stack's folder
        #[arg(long, value_name = "FOLDER", default_value = DATA)]
        data: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum RoleName {
    Admin,
    TenantAdmin,
    Tenant,
    Daemon,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Admin => Self::Admin,
            RoleName::TenantAdmin => Self::TenantAdmin,
            RoleName::Tenant => Self::Tenant,
            RoleName::Daemon => Self::Daemon,
        }
    }
}

/// Names such as `localhost:8080` are addresses too.
fn address(text: &str) -> Result<SocketAddr, String> {
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(text);
    addresses
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("write it as HOST:PORT, such as {LISTEN}"))
}

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // To standard error, or for --help and --version to standard output.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(common::cli::EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match cli.command {
        None => run::main(cli.run),
        Some(Command::Token {
            role,
            tenant,
            ttl,
            data,
        }) => token(role.into(), tenant, ttl, &data),
        Some(Command::Link { data }) => link(&data),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn no_stack(folder: &Path) -> String {
    format!(
        "there is no local stack in {}; `cargo run` starts one",
        folder.display()
    )
}

fn link(folder: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(folder.is_dir(), no_stack(folder));
    let data = Data::open(folder)?;
    let url = env_file::read(&data, "JALUR_URL")?;
    let url = url.with_context(|| format!("nothing runs in {}; `cargo run` starts it", folder.display()))?;
    println!("{}", links::link(&data, &url)?);
    Ok(())
}

fn token(role: Role, tenant: Option<Uuid>, ttl: Duration, folder: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(folder.is_dir(), no_stack(folder));
    let secret = Data::open(folder)?.existing_secret()?;
    let secret = secret.with_context(|| no_stack(folder))?;
    println!("{}", programs::token(&secret, role, tenant, ttl)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let cli = Cli::try_parse_from(["jalur"]).unwrap();
        assert_eq!((cli.run.daemons, cli.run.control_planes), (1, 1));
        assert_eq!(cli.run.data, PathBuf::from(".jalur"));
        assert!(cli.run.listen.is_none() && !cli.run.fresh && !cli.run.demo);
    }

    #[test]
    fn a_token_needs_a_known_role() {
        assert!(Cli::try_parse_from(["jalur", "token", "--role", "tenant_admin"]).is_ok());
        assert!(Cli::try_parse_from(["jalur", "token", "--role", "king"]).is_err());
    }
}
