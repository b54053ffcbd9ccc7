//! Access control in Redis and the protection of its connections: the shipped ACL file and TLS, with real
//! servers and the real binaries.

mod configuration;
mod denied;
mod entrypoint;
mod every_command;
mod pages;
mod permissions;
mod secrets;
mod support;
mod system;
mod tls;
