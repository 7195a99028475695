//! Sockets and TLS.

mod runtimes;
