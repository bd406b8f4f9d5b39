//! The ingest daemon of Jalur.
