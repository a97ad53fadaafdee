//! The server: connections in, answers out, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::judge::Judge;
use crate::limits::Limits;
use crate::routes::{Service, router};

/// How often the wish to stop is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not this machine's, or not this user's to take.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No threads to serve with.
    #[error("cannot start the service's threads")]
    Threads(#[source] io::Error),
}

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
}

impl Server {
    /// Listens on `address`, with port 0 on any free port. Where it is a loopback address, requests
    /// to other hosts are refused.
    ///
    /// # Errors
    /// [`ServeError`]
    pub fn listen(
        address: SocketAddr,
        judge: impl Judge,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let threads = threads.enable_all().worker_threads(2);
        let runtime = threads.build().map_err(ServeError::Threads)?;
        let cannot = |source| ServeError::Listen { address, source };
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let service = Service::new(Arc::new(judge), limits);
        Ok(Self {
            runtime,
            listener,
            address,
            service,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` gives true. Then no more connections are accepted, and requests in hand
    /// are finished, within [`Limits::stopping`].
    pub fn run(self, stop: impl Fn() -> bool) {
        let limits = Arc::clone(&self.service.limits);
        let router = router(self.service, self.address.ip().is_loopback());
        let answers = TowerToHyperService::new(router);
        let connections = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head);

        self.runtime.block_on(async {
            while !stop() {
                let place = timeout(LOOK, connections.clone().acquire_owned()).await;
                let Ok(Ok(place)) = place else {
                    continue;
                };
                let stream = match timeout(LOOK, self.listener.accept()).await {
                    Ok(Ok((stream, _))) => stream,
                    // The client has left already, or the system has no file descriptors left.
                    Ok(Err(_)) => {
                        sleep(LOOK).await;
                        continue;
                    }
                    Err(_) => continue,
                };
                let _ = stream.set_nodelay(true);
                let connection = http.serve_connection(TokioIo::new(stream), answers.clone());
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    // A client that breaks off or speaks no HTTP is its own concern.
                    let _ = connection.await;
                    drop(place);
                });
            }
        });
        drop(self.listener);
        let finish = async { timeout(limits.stopping, graceful.shutdown()).await };
        let _ = self.runtime.block_on(finish);
        self.runtime.shutdown_background();
    }
}
