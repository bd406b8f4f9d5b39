//! A journal in memory.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use tonic::Code;

use crate::audit::{Event, Journal, Outcome, Target};

/// What was written of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) method: &'static str,
    pub(super) request: String,
    pub(super) subject: Option<String>,
    pub(super) address: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) summary: String,
    /// None while it runs.
    pub(super) code: Option<Code>,
    pub(super) message: String,
    pub(super) left_out: u64,
}

/// Keeps what is written, unless it is broken.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Mutex<Vec<Entry>>,
    pub(super) is_broken: AtomicBool,
}

impl Book {
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    fn write(&self, entry: Entry) -> Result<i64, sqlx::Error> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(sqlx::Error::PoolTimedOut);
        }
        let mut entries = self.entries.lock().unwrap();
        entries.push(entry);
        Ok(i64::try_from(entries.len()).unwrap() - 1)
    }
}

fn entry(event: &Event<'_>) -> Entry {
    let caller = event.call.caller.as_ref();
    Entry {
        method: event.call.method,
        request: event.call.request.as_str().to_owned(),
        subject: caller.map(|caller| caller.subject().to_owned()),
        address: event.call.address.map(|address| address.to_string()),
        tenant: event.tenant.map(|tenant| tenant.to_string()),
        summary: event.summary.to_owned(),
        code: None,
        message: String::new(),
        left_out: 0,
    }
}

#[tonic::async_trait]
impl Journal for Book {
    async fn begin(&self, event: &Event<'_>) -> Result<i64, sqlx::Error> {
        self.write(entry(event))
    }

    async fn end(&self, id: i64, target: &Target, outcome: &Outcome) -> Result<(), sqlx::Error> {
        let mut entries = self.entries.lock().unwrap();
        let entry = &mut entries[usize::try_from(id).unwrap()];
        if let Some(tenant) = target.tenant() {
            entry.tenant = Some(tenant.to_string());
        }
        entry.code = Some(outcome.code);
        entry.message.clone_from(&outcome.message);
        Ok(())
    }

    async fn refused(&self, event: &Event<'_>, outcome: &Outcome, left_out: u64) -> Result<(), sqlx::Error> {
        self.write(Entry {
            code: Some(outcome.code),
            message: outcome.message.clone(),
            left_out,
            ..entry(event)
        })?;
        Ok(())
    }
}
