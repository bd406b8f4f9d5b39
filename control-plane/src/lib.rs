//! The control plane of Jalur.
