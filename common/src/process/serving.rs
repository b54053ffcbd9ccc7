//! The HTTP server of a service's process.

use std::net::SocketAddr;

use axum::Router;
use tracing::info;

use crate::{
    http::server::{
        Server, ServerOptions, allow_files, connections_within, listen, serve, tls::Tls,
    },
    process::service::ServiceContext,
};

impl ServiceContext {
    /// Serves HTTP until the shutdown; requests in flight are answered first.
    ///
    /// # Errors
    ///
    /// The address is not available.
    pub async fn serve(&self, address: SocketAddr, router: Router) -> anyhow::Result<()> {
        let options = ServerOptions { keep_alive: self.keep_alive, ..ServerOptions::default() };
        self.serve_as(address, router, options).await
    }

    /// Like [`Self::serve`], with these settings.
    ///
    /// # Errors
    ///
    /// The address is not available.
    pub async fn serve_as(
        &self,
        address: SocketAddr,
        router: Router,
        mut options: ServerOptions,
    ) -> anyhow::Result<()> {
        let listener = listen("HTTP_ADDR", address)?;
        options.connections = options.connections.min(connections_within(allow_files()));
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        info!("listening on {scheme}://{address}");
        let tls = options.tls.take();
        let acceptor = tls.as_ref().map(Tls::acceptor);
        if let Some(tls) = tls {
            self.spawn("the certificate watch", tls.keep_up(self.shutdown.clone()));
        }
        let server = Server::new(router, address, options, acceptor, self.shutdown.clone());
        self.spawn("the HTTP server", serve(listener, server));
        Ok(())
    }
}
