//! Everything that touches the operating system. Decides nothing: `core` does.

pub mod clock;
pub mod config_file;
pub mod config_store;
pub mod early;
pub mod folder;
pub mod footprint;
pub mod http;
pub mod init;
pub mod journal;
pub mod launch;
pub mod leftovers;
pub mod lock_files;
pub mod log;
pub mod memory;
pub mod probe;
pub mod proc;
pub mod reap;
pub mod relay;
pub mod signals;
pub mod spawn;
pub mod state;
pub mod supervisor;
pub mod validator;
pub mod volume;
pub mod watch;
