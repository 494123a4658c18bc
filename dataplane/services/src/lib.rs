//! The server and the processor, each over the adapters it is given, and what their programs share: settings, ports, the runtime.
//!
//! Nothing here knows a technology: `pingd` and `pingd-dev` choose the adapters.

pub mod args;
mod listen;
mod processor;
pub mod program;
mod server;

pub use listen::{bind, serve_admin};
pub use processor::ProcessorService;
pub use server::ServerService;
