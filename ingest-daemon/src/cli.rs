//! The command line.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use common::cli::{ConfigCommand, EXIT_USAGE, Options, failed};

use crate::{app::App, config::Config};

/// Consumes every assigned tenant's queue and stores its messages
#[derive(Debug, Parser)]
#[command(name = "ingest-daemon", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon (the default)
    Serve,
    /// Checks or shows the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Parses `args`, does what they say and answers the exit code.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // --help and --version come this way too; a closed standard output is no failure of theirs.
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<()> {
    let options = arguments.options;
    let config: Config = options.load()?;
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Config(command) => Ok(command.run(&config)?),
        Command::Serve => {
            common::telemetry::init(&config.log)?;
            let telemetry = common::telemetry::Telemetry::from_env("jalur-ingest-daemon")?;
            let ran = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let stop = common::shutdown::on_signal()?;
                    App::build(config, options, &telemetry).await?.run(stop).await
                });
            telemetry.close();
            ran
        }
    }
}
