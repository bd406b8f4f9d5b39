//! The command line that both programs have, and their exit codes.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use crate::config::{self, Config};

/// Exit code for a bad command line or configuration, as `sysexits.h` has it.
pub const EXIT_USAGE: u8 = 64;

/// Options of every subcommand.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// The YAML configuration file
    #[arg(long, global = true, value_name = "FILE", env = "JALUR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Sets one key, over file and environment: `--set database.max_connections=20`
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
}

impl Options {
    /// Loads the configuration that these options name, from this process's environment.
    pub fn load<C: Config>(&self) -> Result<C, config::Error> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.into_string().ok().filter(|name| name != "JALUR_CONFIG") else {
                continue;
            };
            match value.into_string() {
                Ok(value) => variables.push((name, value)),
                Err(_) if name.starts_with(config::PREFIX) => {
                    return Err(config::Error::key(name, "its value is not UTF-8"));
                }
                Err(_) => {}
            }
        }
        config::load(self.config.as_deref(), variables, &self.set)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write it as KEY=VALUE, such as workers=5")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `config check` and `config show`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says whether the configuration is good
    Check,
    /// Prints the configuration in effect, secrets masked
    Show,
}

impl ConfigCommand {
    /// Runs the command on a configuration that has loaded.
    pub fn run<C: Config>(&self, config: &C) -> Result<(), config::Error> {
        match self {
            Self::Check => println!("the configuration is good"),
            Self::Show => {
                let text = serde_yaml::to_string(config)
                    .map_err(|error| config::Error::key("(all)", error.to_string()))?;
                print!("{text}");
            }
        }
        Ok(())
    }
}

/// Prints a failure for a person and says how the process is to exit: 64 for bad configuration, 1 otherwise.
pub fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut text = error.to_string();
    let mut bad_configuration = error.is::<config::Error>();
    let mut source = error.source();
    while let Some(cause) = source {
        bad_configuration |= cause.is::<config::Error>();
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    eprintln!("error: {text}");
    ExitCode::from(if bad_configuration { EXIT_USAGE } else { 1 })
}
