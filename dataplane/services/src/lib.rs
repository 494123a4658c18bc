//! The server and the processor as services over any adapters, and what their programs share: settings, listeners, the runtime.
//!
//! `pingd` and `pingd-dev` choose the adapters; no store, log or cache appears here.

pub mod args;
mod listen;
mod processor;
pub mod program;
mod security;
mod server;
mod tls;
mod traces;

pub use listen::{bind, serve_admin};
pub use processor::ProcessorService;
pub use security::{PortSecurityArgs, Security, SecurityArgs};
pub use server::{ServerService, WritePath};
pub use traces::{TraceArgs, TraceExport};
