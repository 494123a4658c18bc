//! The server and the processor as services over any adapters, and what their programs share: settings, listeners, the runtime.
//!
//! No technology appears here: `pingd` and `pingd-dev` choose the adapters.

pub mod args;
mod listen;
mod processor;
pub mod program;
mod server;

pub use listen::{bind, serve_admin};
pub use processor::ProcessorService;
pub use server::ServerService;
