//! The wire interface of Jalur.
//!
//! `jalur/v1/*.proto` are the only definition of what users can call. From them come the generated gRPC code
//! here, the REST face and the OpenAPI document (the control plane's gateway reads [`DESCRIPTORS`]), and server
//! reflection.

/// Package `jalur.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("jalur.v1");
}

/// The encoded `FileDescriptorSet` of everything here, with comments and `google.api.http` options.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jalur.v1.bin"));
