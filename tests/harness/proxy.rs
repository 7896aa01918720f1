//! A TCP proxy that breaks on demand: between a server and its directory, its provider or its database. Of LDAP without TLS it reads
//! the requests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::ldap_wire::Requests;

const PASSING: u8 = 0;
const HANGING: u8 = 1;
const STOPPED: u8 = 2;
const GONE: u8 = 3;

/// Passes bytes from its own address to another until told otherwise. Plain threads, so that it works while a story blocks.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    mode: AtomicU8,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    /// LDAP requests that came, oldest first.
    requests: Mutex<Vec<Request>>,
    /// What becomes of requests from now on.
    trap: Mutex<Option<Trap>>,
}

/// One LDAP request without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// With the name.
    Bind(String),
    Other,
}

/// Which LDAP request does not reach the directory.
#[derive(Clone, Debug)]
pub enum Trap {
    /// A bind with this name.
    Bind(String, Fate),
    /// The one after so many others.
    After(usize, Fate),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The connection is cut, and no other is taken.
    Cut,
    /// Nothing passes any more.
    Silence,
}

impl Proxy {
    /// To an address such as `127.0.0.1:389`.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            mode: AtomicU8::new(PASSING),
            accepted: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
            requests: Mutex::default(),
            trap: Mutex::default(),
        });
        let (shared, target) = (state.clone(), target.to_owned());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                match shared.mode.load(Ordering::SeqCst) {
                    GONE => return,
                    STOPPED => drop(connection),
                    _ => shared.pass(connection, &target),
                }
            }
        });
        Proxy { address, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts every connection and refuses new ones: they are closed at once.
    pub fn stop(&self) {
        self.state.mode.store(STOPPED, Ordering::SeqCst);
        for connection in self.state.open.lock().expect("no thread panicked").drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Connections stay open and new ones are accepted, but no byte passes: a silent partition.
    pub fn hang(&self) {
        self.state.mode.store(HANGING, Ordering::SeqCst);
    }

    /// Passes bytes again.
    pub fn resume(&self) {
        *self.state.trap.lock().expect("no thread panicked") = None;
        self.state.mode.store(PASSING, Ordering::SeqCst);
    }

    /// Sets a trap; it is sprung once. [`Proxy::resume`] ends what it did.
    pub fn trap(&self, trap: Trap) {
        *self.state.trap.lock().expect("no thread panicked") = Some(trap);
    }

    /// How many binds with this name have come since the start, answered or not.
    pub fn binds(&self, name: &str) -> usize {
        let requests = self.state.requests.lock().expect("no thread panicked");
        requests.iter().filter(|request| **request == Request::Bind(name.to_owned())).count()
    }

    /// How many LDAP requests have come since the start.
    pub fn requests(&self) -> usize {
        self.state.requests.lock().expect("no thread panicked").len()
    }

    /// Connections that were accepted since the start.
    pub fn connections(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl State {
    fn pass(self: &Arc<Self>, client: TcpStream, target: &str) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(target) else { return };
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
        self.open.lock().expect("no thread panicked").extend([clone(&client), clone(&server)]);
        let (state, from, to) = (self.clone(), clone(&client), clone(&server));
        thread::spawn(move || state.pump(from, to, Some(Requests::default())));
        let state = self.clone();
        thread::spawn(move || state.pump(server, client, None));
    }

    /// Notes the requests among these bytes, and springs the trap.
    fn look(&self, reader: &mut Requests, bytes: &[u8]) {
        for request in reader.read(bytes) {
            let mut trap = self.trap.lock().expect("no thread panicked");
            let fate = match (&mut *trap, &request) {
                (Some(Trap::Bind(name, fate)), Request::Bind(found)) if name == found => Some(*fate),
                (Some(Trap::After(0, fate)), _) => Some(*fate),
                (Some(Trap::After(left, _)), _) => {
                    *left -= 1;
                    None
                }
                _ => None,
            };
            self.requests.lock().expect("no thread panicked").push(request);
            if let Some(fate) = fate {
                *trap = None;
                self.mode.store(if fate == Fate::Cut { STOPPED } else { HANGING }, Ordering::SeqCst);
            }
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut reader: Option<Requests>) {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) if read > 0 => read,
                _ => break,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if let Some(reader) = &mut reader {
                self.look(reader, bytes);
            }
            while self.mode.load(Ordering::SeqCst) == HANGING {
                thread::sleep(Duration::from_millis(5));
            }
            if self.mode.load(Ordering::SeqCst) == STOPPED {
                // Cut by a trap: the connections that are open were not told yet.
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        self.state.mode.store(GONE, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}
