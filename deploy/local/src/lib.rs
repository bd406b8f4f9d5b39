//! The local stack of Jalur.
