//! The server and the processor as services over any adapters, and what their programs share: settings, listeners, the runtime.
//!
//! No technology appears here: `pingd` and `pingd-dev` choose the adapters.

pub mod args;
mod listen;
mod processor;
pub mod program;
mod security;
mod server;
mod tls;

pub use listen::{bind, serve_admin};
pub use processor::ProcessorService;
pub use security::{PortSecurityArgs, Security, SecurityArgs};
pub use server::{ServerService, WritePath};
