//! The HTTP server of a service's process.

use std::net::SocketAddr;

use axum::Router;
use tracing::info;

use crate::{
    http::server::{Server, Serving, allow_files, connections_within, listen, serve, tls::Tls},
    process::service::ServiceContext,
};

impl ServiceContext {
    /// Serves HTTP until the shutdown; requests in flight are answered first.
    ///
    /// # Errors
    ///
    /// The address is not available.
    pub async fn serve(&self, address: SocketAddr, router: Router) -> anyhow::Result<()> {
        let serving = Serving { keep_alive: self.keep_alive, ..Serving::default() };
        self.serve_as(address, router, serving).await
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
        mut serving: Serving,
    ) -> anyhow::Result<()> {
        let listener = listen("HTTP_ADDR", address)?;
        serving.connections = serving.connections.min(connections_within(allow_files()));
        let scheme = if serving.tls.is_some() { "https" } else { "http" };
        info!("listening on {scheme}://{address}");
        let tls = serving.tls.take();
        let acceptor = tls.as_ref().map(Tls::acceptor);
        if let Some(tls) = tls {
            self.spawn("the certificate watch", tls.keep_up(self.shutdown.clone()));
        }
        let server = Server::new(router, address, serving, acceptor, self.shutdown.clone());
        self.spawn("the HTTP server", serve(listener, server));
        Ok(())
    }
}
