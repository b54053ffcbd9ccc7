//! Who may do what in Redis, and how the way there is protected: the shipped ACL file and TLS, with
//! real servers and the real binaries.

mod configuration;
mod denied;
mod entrypoint;
mod every_command;
mod pages;
mod rights;
mod secrets;
mod support;
mod system;
mod tls;
