//! The server: accepts connections until it is told to stop.

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

use crate::access::Access;
use crate::judge::Judge;
use crate::limits::Limits;
use crate::routes::router;
use crate::service::Service;

/// How often to check whether to stop.
const POLL: Duration = Duration::from_millis(50);

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is in use, isn't this machine's, or needs rights that the user lacks.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refused to start threads.
    #[error("cannot start the service's threads")]
    Threads(#[source] io::Error),
}

/// A server that is listening.
pub struct Server<J: Judge> {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    service: Service<J>,
    access: Access,
}

impl<J: Judge> Server<J> {
    /// Listens on `address`; port 0 means any free port. On a loopback address, requests to hosts that are
    /// neither loopback nor in [`Access::hosts`] are refused.
    ///
    /// # Errors
    /// [`ServeError`] if it can't listen there, or can't start threads.
    pub fn listen(
        address: SocketAddr,
        judge: J,
        limits: Limits,
        access: Access,
    ) -> Result<Self, ServeError> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let threads = threads.enable_all().worker_threads(2);
        let runtime = threads.build().map_err(ServeError::Threads)?;
        let cannot = |source| ServeError::Listen { address, source };
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let service = Service::start(judge, limits).map_err(ServeError::Threads)?;
        Ok(Self {
            runtime,
            listener,
            address,
            service,
            access,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` returns true. Then it accepts no more connections, and gives running
    /// requests [`Limits::stopping`] to finish.
    pub fn run(self, stop: impl Fn() -> bool) {
        let limits = self.service.limits.clone();
        let router = router(self.service, self.access, self.address.ip().is_loopback());
        let answers = TowerToHyperService::new(router);
        let connections = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head);

        self.runtime.block_on(async {
            while !stop() {
                let place = timeout(POLL, connections.clone().acquire_owned()).await;
                let Ok(Ok(place)) = place else {
                    continue;
                };
                let stream = match timeout(POLL, self.listener.accept()).await {
                    Ok(Ok((stream, _))) => stream,
                    // The client has left already, or the system has no file descriptors left.
                    Ok(Err(_)) => {
                        sleep(POLL).await;
                        continue;
                    }
                    Err(_) => continue,
                };
                let _ = stream.set_nodelay(true);
                let connection = http.serve_connection(TokioIo::new(stream), answers.clone());
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    // A client that breaks off or doesn't speak HTTP is no concern of ours.
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
