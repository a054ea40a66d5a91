// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTTP listener: a fixed number of connections, driven by the epoll of the loop.
//!
//! It supports GET and HEAD of HTTP/1.0 and 1.1, keep-alive, and pipelining. It does not support request bodies (it
//! closes the connection after the response), chunked encoding, or TLS.
//!
//! # Limits
//!
//! There are at most [`SLOTS`] connections. If all are in use, a new client replaces the one that has been idle for
//! longest. A request has at most [`request::REQUEST_MAX`] bytes. A client that neither finishes its request nor reads
//! its response for [`IDLE_TIMEOUT`] is disconnected.

mod connection;
pub mod health;
pub mod request;

use crate::error::{Error, Result};
use crate::sys::epoll::{Epoll, Interest};
use connection::{Connection, Step};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The most connections at a time. This is enough for a scraper, the kubelet's probes and a person, with room to spare.
pub const SLOTS: usize = 16;
/// How long a connection may go without progress.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The place of a connection.
#[derive(Clone, Copy)]
pub struct Slot(usize);

/// The value of `-metrics-addr`: a host and a port. An empty host means all addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The response to a request.
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    /// Further lines of the head, each with its end.
    pub further: &'static str,
    pub body: Body,
}

/// The body of a response.
pub enum Body {
    Bytes(Vec<u8>),
    /// Bytes that are part of the program, of which nothing is copied.
    Static(&'static [u8]),
    /// The file is sent from its current position on, and must not change meanwhile.
    File(File),
}

impl Response {
    /// Returns a response whose body is a line of text.
    pub fn text(status: u16, line: &str) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            further: "",
            body: Body::Bytes(format!("{line}\n").into_bytes()),
        }
    }
}

/// Returns the reason phrase for a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// The listener and its connections.
pub struct Server {
    listener: TcpListener,
    slots: [Option<Connection<TcpStream>>; SLOTS],
    /// The token of the first slot. The tokens of the other slots follow it.
    first_token: u64,
}

impl Server {
    /// Starts to listen. The connections use epoll tokens from `first_token` on.
    ///
    /// # Errors
    ///
    /// The address is in use, does not belong to this host, or its name cannot be resolved.
    pub fn listen(address: &Address, first_token: u64) -> Result<Server> {
        let cannot = |e: io::Error| {
            let remedy = match e.kind() {
                ErrorKind::AddrInUse | ErrorKind::PermissionDenied => {
                    "choose another port, or leave -metrics-addr empty"
                }
                ErrorKind::AddrNotAvailable => "give an address of this host",
                _ => "give HOST:PORT, or leave -metrics-addr empty",
            };
            Error::failed(format!(
                "-metrics-addr={address}: cannot listen: {e}; {remedy}"
            ))
        };
        let listener = if address.host.is_empty() {
            // The IPv6 wildcard accepts IPv4 too. A host without IPv6 has only the IPv4 wildcard.
            TcpListener::bind(("::", address.port)).or_else(|e| match e.kind() {
                ErrorKind::AddrInUse => Err(e),
                _ => TcpListener::bind(("0.0.0.0", address.port)),
            })
        } else {
            (address.host.as_str(), address.port)
                .to_socket_addrs()
                .and_then(|all| TcpListener::bind(&all.collect::<Vec<_>>()[..]))
        };
        let listener = listener.map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Server {
            listener,
            slots: Default::default(),
            first_token,
        })
    }

    /// Returns the address of the listener, with the port that the kernel chose if port 0 was requested.
    pub fn address(&self) -> String {
        self.listener
            .local_addr()
            .map_or("unknown".into(), |a| a.to_string())
    }

    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    pub fn has_connections(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// Accepts the waiting connections, at most [`SLOTS`] per turn.
    pub fn accept(&mut self, epoll: &Epoll, now: Instant) {
        for _ in 0..SLOTS {
            // The error concerns one client or a temporary shortage. It does not end the listener.
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            let free = self.slots.iter().position(Option::is_none);
            let slot = free.unwrap_or_else(|| self.longest_idle());
            let token = self.token(Slot(slot));
            // Closing the descriptor of a connection removes it from epoll.
            self.slots[slot] = None;
            if stream.set_nonblocking(true).is_ok()
                && epoll.add(stream.as_fd(), token, Interest::Read).is_ok()
            {
                self.slots[slot] = Some(Connection::new(stream, now));
            }
        }
    }

    /// Returns the slot of the connection that has gone longest without progress.
    fn longest_idle(&self) -> usize {
        let times = self
            .slots
            .iter()
            .map(|slot| slot.as_ref().map(|c| c.active));
        let oldest = times.enumerate().min_by_key(|(_, active)| *active);
        oldest.map_or(0, |(slot, _)| slot)
    }

    /// Continues with the connection of a token. If a request has arrived, returns its path and the connection's slot
    /// for [`Server::respond`].
    pub fn ready(&mut self, token: u64, epoll: &Epoll, now: Instant) -> Option<(Slot, String)> {
        let slot = Slot((token - self.first_token) as usize);
        let connection = self.slots.get_mut(slot.0)?.as_mut()?;
        match connection.turn(now) {
            Step::Request(path) => return Some((slot, path)),
            Step::Waits(interest) => self.await_client(slot, epoll, interest),
            Step::Ended => self.slots[slot.0] = None,
        }
        None
    }

    /// Sends the response to the request that [`Server::ready`] returned, as fast as the client accepts it.
    pub fn respond(&mut self, slot: Slot, response: Response, epoll: &Epoll) {
        if let Some(connection) = &mut self.slots[slot.0] {
            connection.respond(response);
        }
        self.await_client(slot, epoll, Interest::Write);
    }

    fn await_client(&mut self, slot: Slot, epoll: &Epoll, interest: Interest) {
        let token = self.token(slot);
        self.slots[slot.0].take_if(|connection| {
            let fd = connection.stream.as_fd();
            epoll.change(fd, token, interest).is_err()
        });
    }

    fn token(&self, slot: Slot) -> u64 {
        self.first_token + slot.0 as u64
    }

    /// Closes the connections that have made no progress for [`IDLE_TIMEOUT`].
    pub fn expire(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.take_if(|connection| now.duration_since(connection.active) > IDLE_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_users_write_them() {
        let shown = |host: &str| {
            Address {
                host: host.into(),
                port: 1,
            }
            .to_string()
        };
        assert_eq!(
            [shown(""), shown("h"), shown("::1")],
            [":1", "h:1", "[::1]:1"]
        );
    }
}
