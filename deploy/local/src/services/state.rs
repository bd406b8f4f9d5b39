//! What the private services of a data folder keep from run to run besides their own files.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::data::{self, Data};

const FILE: &str = "services.json";

/// Names, ports and passwords. Written before anything is started with them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Tells this stack's node and containers from others'.
    pub(crate) id: String,
    /// The password of the user `jalur` in both services.
    pub(crate) password: String,
    /// Where PostgreSQL's files are, if not in the data folder.
    pub(crate) postgres_folder: Option<PathBuf>,
    pub(crate) postgres_port: u16,
    pub(crate) amqp_port: u16,
    pub(crate) management_port: u16,
    pub(crate) prometheus_port: u16,
    pub(crate) distribution_port: u16,
    pub(crate) epmd_port: u16,
    /// Whether there are volumes in Docker.
    pub(crate) volumes: bool,
}

impl State {
    pub(crate) fn load(data: &Data) -> anyhow::Result<Self> {
        let path = data.path(FILE);
        let mut state: Self = match data::read(&path)? {
            Some(text) => {
                serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?
            }
            None => Self::default(),
        };
        if state.id.is_empty() {
            state.id = data::random_hex(4);
            state.password = data::random_hex(16);
        }
        Ok(state)
    }

    pub(crate) fn save(&self, data: &Data) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("the services' state cannot be written")?;
        data::write_private(&data.path(FILE), &text)
    }
}
