//! A TCP proxy that breaks on demand: between a server and its directory, its provider or its database.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
    held: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// To an address such as `127.0.0.1:389`.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            mode: AtomicU8::new(PASSING),
            accepted: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
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
        self.state.mode.store(PASSING, Ordering::SeqCst);
    }

    /// Whether somebody has sent what it does not pass on while it hangs.
    pub fn holds_bytes(&self) -> bool {
        self.state.held.load(Ordering::SeqCst) > 0
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
        for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
            let state = self.clone();
            thread::spawn(move || state.pump(from, to));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) if read > 0 => read,
                _ => break,
            };
            self.held.fetch_add(1, Ordering::SeqCst);
            while self.mode.load(Ordering::SeqCst) == HANGING {
                thread::sleep(Duration::from_millis(5));
            }
            self.held.fetch_sub(1, Ordering::SeqCst);
            if to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
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
