//! The HTTP listener: a fixed number of connections, driven by the loop's epoll.
//!
//! What it does: GET and HEAD of HTTP/1.0 and 1.1, keep-alive, pipelining. What it does not: request
//! bodies (the connection is closed behind the answer), chunked encoding, TLS. Bounded by
//! construction: [`SLOTS`] connections, [`REQUEST_MAX`] bytes of request each, [`IDLE_TIMEOUT`] for a client
//! that neither finishes its request nor reads its answer; where all slots are taken, the client that has
//! been quiet for longest makes room.

pub mod health;

use crate::error::{Error, Result};
use crate::sys::epoll::{Epoll, Interest};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections at a time: a scraper, the kubelet's probes and a person, with room to spare.
pub const SLOTS: usize = 16;
/// Bytes of request line and headers; clients of this listener send a few hundred.
const REQUEST_MAX: usize = 8 << 10;
/// Bytes read from a file or written to a client at a time.
const CHUNK: usize = 16 << 10;
/// Chunks written per turn of the loop, so that a large report does not hold it up.
const CHUNKS_PER_TURN: usize = 8;
/// Bytes taken from a client whose connection is to be closed.
const LINGER_MAX: usize = 64 << 10;
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// `-metrics-addr`: a host, empty for all addresses, and a port.
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

#[derive(Debug, PartialEq)]
pub struct Request<'a> {
    /// Without the query.
    pub path: &'a str,
    head_only: bool,
    keep_alive: bool,
    /// Bytes of the request, with the empty line at its end.
    len: usize,
}

pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Body,
}

pub enum Body {
    Bytes(Vec<u8>),
    /// Sent from where it stands; must not change meanwhile.
    File(File),
}

impl Response {
    /// A line of text.
    pub fn text(status: u16, line: &str) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Body::Bytes(format!("{line}\n").into_bytes()),
        }
    }
}

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

/// What the bytes that came so far are.
#[derive(Debug, PartialEq)]
pub enum Parsed<'a> {
    /// The beginning of a request.
    Partial,
    Complete(Request<'a>),
    /// No request: the status to answer with before closing.
    Bad(u16),
}

/// Reads a request from the front of `bytes`; RFC 9112.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    // Lines end with CR LF; a bare LF is accepted, as the RFC allows.
    let mut lines = Vec::new();
    let (mut start, mut len) = (0, None);
    for (i, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            let line = &bytes[start..i];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            start = i + 1;
            // Empty lines before a request are left over from the one before.
            if line.is_empty() && lines.is_empty() {
                continue;
            }
            if line.is_empty() {
                len = Some(start);
                break;
            }
            lines.push(line);
        }
    }
    let Some(len) = len else {
        return match bytes.len() {
            n if n >= REQUEST_MAX => Parsed::Bad(431),
            _ => Parsed::Partial,
        };
    };
    if len > REQUEST_MAX {
        return Parsed::Bad(431);
    }
    let Ok(line) = std::str::from_utf8(lines[0]) else {
        return Parsed::Bad(400);
    };
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Parsed::Bad(400);
    };
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if method.is_empty()
        || !method.bytes().all(token)
        || target.bytes().any(|c| c.is_ascii_control())
    {
        return Parsed::Bad(400);
    }
    let mut keep_alive = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Parsed::Bad(505),
        _ => return Parsed::Bad(400),
    };
    // A target may be absolute, as proxies send it.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    if !path.starts_with('/') {
        return Parsed::Bad(400);
    }
    let (mut has_body, mut has_host) = (false, false);
    for line in &lines[1..] {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return Parsed::Bad(400);
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|c| token(*c)) {
            return Parsed::Bad(400);
        }
        if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") && version == "HTTP/1.0" {
                    keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            has_host = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            has_body |= value != b"0";
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            has_body = true;
        }
    }
    if version == "HTTP/1.1" && !has_host {
        return Parsed::Bad(400);
    }
    if !matches!(method, "GET" | "HEAD") {
        return Parsed::Bad(405);
    }
    Parsed::Complete(Request {
        path: path.split(['?', '#']).next().unwrap_or(path),
        head_only: method == "HEAD",
        keep_alive: keep_alive && !has_body,
        len,
    })
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// What is still to be written, from `sent` on; then the rest of the file.
    output: Vec<u8>,
    sent: usize,
    file: Option<io::Take<File>>,
    /// Close once all is written.
    last: bool,
    /// Bytes taken since then, at least 1.
    lingered: usize,
    /// When it last got on.
    active: Instant,
}

/// What became of a connection in a turn.
#[derive(PartialEq)]
enum Turn {
    Waits(Interest),
    Ended,
}

impl Connection {
    fn new(stream: TcpStream, now: Instant) -> Connection {
        Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            file: None,
            last: false,
            lingered: 0,
            active: now,
        }
    }

    fn is_answering(&self) -> bool {
        self.sent < self.output.len() || self.file.is_some()
    }

    /// Reads, answers and writes as far as it goes without waiting.
    fn turn(&mut self, now: Instant, answer: &mut dyn FnMut(&str) -> Response) -> Turn {
        for _ in 0..CHUNKS_PER_TURN {
            if self.is_answering() {
                match self.write() {
                    Ok(true) => self.active = now,
                    Ok(false) => return Turn::Waits(Interest::Write),
                    Err(_) => return Turn::Ended,
                }
            } else if self.last {
                match self.linger() {
                    Ok(true) => (),
                    Ok(false) => return Turn::Waits(Interest::Read),
                    Err(_) => return Turn::Ended,
                }
            } else if !self.take_request(answer) {
                match self.read() {
                    Ok(0) => return Turn::Ended,
                    Ok(_) => (),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        return Turn::Waits(Interest::Read);
                    }
                    Err(_) => return Turn::Ended,
                }
            }
        }
        // There may be more to do: a socket that can be written to comes round at once.
        Turn::Waits(Interest::Write)
    }

    /// Says that nothing more comes, and takes what the client still sends until it closes too: closing
    /// before that would make the kernel throw the answer away (RFC 9112, section 9.6). False if
    /// there is nothing to take now.
    fn linger(&mut self) -> io::Result<bool> {
        if self.lingered == 0 {
            self.stream.shutdown(Shutdown::Write)?;
        }
        let mut chunk = [0; 2048];
        match self.stream.read(&mut chunk) {
            Ok(n) if n > 0 && self.lingered < LINGER_MAX => {
                self.lingered += n;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.lingered = self.lingered.max(1);
                Ok(false)
            }
            _ => Err(ErrorKind::ConnectionAborted.into()),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 2048];
        let n = self.stream.read(&mut chunk)?;
        self.input.extend(&chunk[..n]);
        Ok(n)
    }

    /// Answers the request at the front of the input; false if it is not complete.
    fn take_request(&mut self, answer: &mut dyn FnMut(&str) -> Response) -> bool {
        match parse(&self.input) {
            Parsed::Partial => return false,
            Parsed::Bad(status) => {
                self.respond(Response::text(status, reason(status)), false, false);
                self.input.clear();
            }
            Parsed::Complete(request) => {
                let (len, keep_alive, head_only) =
                    (request.len, request.keep_alive, request.head_only);
                let response = answer(request.path);
                self.respond(response, keep_alive, head_only);
                self.input.drain(..len);
            }
        }
        true
    }

    fn respond(&mut self, response: Response, keep_alive: bool, head_only: bool) {
        let (body, file) = match response.body {
            Body::Bytes(bytes) => (bytes, None),
            Body::File(file) => (Vec::new(), Some(file)),
        };
        let file_len = file
            .as_ref()
            .and_then(|f| f.metadata().ok())
            .map_or(0, |m| m.len());
        let len = body.len() as u64 + file_len;
        let allow = if response.status == 405 {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        self.output = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {len}\r\n{allow}Connection: {connection}\r\n\r\n",
            response.status,
            reason(response.status),
            response.content_type,
        )
        .into_bytes();
        self.sent = 0;
        self.last = !keep_alive;
        if !head_only {
            self.output.extend(body);
            self.file = file.map(|file| file.take(file_len));
        }
    }

    /// Writes a chunk; false if the client does not take it now.
    fn write(&mut self) -> io::Result<bool> {
        if self.sent == self.output.len() {
            self.output.resize(CHUNK, 0);
            let file = self.file.as_mut().expect("there is more to write");
            let n = file.read(&mut self.output)?;
            self.output.truncate(n);
            self.sent = 0;
            if n == 0 {
                // All of it, unless the file has become shorter: then only closing tells the client.
                self.last |= file.limit() > 0;
                self.file = None;
                return Ok(true);
            }
        }
        let end = self.output.len().min(self.sent + CHUNK);
        match self.stream.write(&self.output[self.sent..end]) {
            Ok(n) => self.sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
        if self.sent == self.output.len() {
            // A connection that waits holds no memory for the answers before.
            (self.output, self.sent) = (Vec::new(), 0);
        }
        Ok(true)
    }
}

pub struct Server {
    listener: TcpListener,
    slots: [Option<Connection>; SLOTS],
    /// Tokens of the slots begin here.
    first_token: u64,
}

impl Server {
    /// Listens; the slots report to epoll with tokens from `first_token` on.
    pub fn listen(address: &Address, first_token: u64) -> Result<Server> {
        let said = |e: io::Error| {
            let remedy = match e.kind() {
                ErrorKind::AddrInUse => "; choose another port, or leave -metrics-addr empty",
                ErrorKind::AddrNotAvailable => "; give an address of this host",
                _ => "",
            };
            Error::failed(format!(
                "-metrics-addr={address}: cannot listen: {e}{remedy}"
            ))
        };
        let listener = if address.host.is_empty() {
            // The IPv6 wildcard takes IPv4 too; a host without IPv6 has only the other.
            TcpListener::bind(("::", address.port)).or_else(|e| match e.kind() {
                ErrorKind::AddrInUse => Err(e),
                _ => TcpListener::bind(("0.0.0.0", address.port)),
            })
        } else {
            (address.host.as_str(), address.port)
                .to_socket_addrs()
                .and_then(|all| TcpListener::bind(&all.collect::<Vec<_>>()[..]))
        };
        let listener = listener.map_err(said)?;
        listener.set_nonblocking(true).map_err(said)?;
        Ok(Server {
            listener,
            slots: Default::default(),
            first_token,
        })
    }

    /// The address it listens on, which has the port where 0 was asked for.
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

    /// Takes the connections that wait, a turn's worth of them.
    pub fn accept(&mut self, epoll: &Epoll, now: Instant) {
        for _ in 0..SLOTS {
            // An error is one of that client, or of a lack that passes; it does not end the listener.
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            let free = self.slots.iter().position(Option::is_none);
            let slot = free.unwrap_or_else(|| self.quietest());
            let token = self.first_token + slot as u64;
            // A connection leaves epoll with its descriptor.
            self.slots[slot] = None;
            if stream.set_nonblocking(true).is_ok()
                && epoll.add(stream.as_fd(), token, Interest::Read).is_ok()
            {
                self.slots[slot] = Some(Connection::new(stream, now));
            }
        }
    }

    /// The connection that got on longest ago.
    fn quietest(&self) -> usize {
        let times = self
            .slots
            .iter()
            .map(|slot| slot.as_ref().map(|c| c.active));
        let oldest = times.enumerate().min_by_key(|(_, active)| *active);
        oldest.map_or(0, |(slot, _)| slot)
    }

    /// Goes on with the connection of a token; `answer` is asked for each request's path.
    pub fn ready(
        &mut self,
        token: u64,
        epoll: &Epoll,
        now: Instant,
        answer: &mut dyn FnMut(&str) -> Response,
    ) {
        let slot = (token - self.first_token) as usize;
        let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let goes_on = match connection.turn(now, answer) {
            Turn::Waits(interest) => epoll
                .change(connection.stream.as_fd(), token, interest)
                .is_ok(),
            Turn::Ended => false,
        };
        if !goes_on {
            self.slots[slot] = None;
        }
    }

    /// Closes the connections that have not got on for too long.
    pub fn expire(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.take_if(|connection| now.duration_since(connection.active) > IDLE_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(request: &str) -> (String, bool, bool, usize) {
        match parse(request.as_bytes()) {
            Parsed::Complete(r) => (r.path.into(), r.head_only, r.keep_alive, r.len),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    #[test]
    fn requests() {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
        assert_eq!(
            complete(request),
            ("/metrics".into(), false, true, request.len())
        );
        assert_eq!(
            complete("HEAD / HTTP/1.0\r\n\r\n"),
            ("/".into(), true, false, 19)
        );
        assert_eq!(complete("\r\nGET /a?b HTTP/1.1\nhost:x\n\n").0, "/a");
        assert_eq!(
            complete("GET http://h:1/p HTTP/1.1\r\nHost: h\r\n\r\n").0,
            "/p"
        );
        let keep = |version: &str, header: &str| {
            complete(&format!("GET / {version}\r\nHost: x\r\n{header}\r\n\r\n")).2
        };
        assert!(!keep("HTTP/1.1", "Connection: Close"));
        assert!(keep("HTTP/1.0", "connection: Keep-Alive"));
        assert!(!keep("HTTP/1.1", "Content-Length: 5"));
        assert!(!keep("HTTP/1.1", "Transfer-Encoding: chunked"));
        assert!(keep("HTTP/1.1", "Content-Length: 0"));
    }

    #[test]
    fn every_beginning_of_a_request_is_partial() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(parse(&request[..end]), Parsed::Partial, "{end}");
        }
    }

    #[test]
    fn what_is_no_request() {
        for (bytes, status) in [
            (&b"\x16\x03\x01\x02\x00\x01\n\n"[..], 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"GET metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            (b"GET / FTP/1\r\n\r\n", 400),
            (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            (b"G\xc3\x28T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ] {
            assert_eq!(
                parse(bytes),
                Parsed::Bad(status),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(parse(&[b'a'; REQUEST_MAX - 1]), Parsed::Partial);
        assert_eq!(parse(&[b'a'; REQUEST_MAX]), Parsed::Bad(431));
        let long = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
            "x".repeat(REQUEST_MAX)
        );
        assert_eq!(parse(long.as_bytes()), Parsed::Bad(431));
    }

    proptest::proptest! {
        /// Whatever comes, the parser ends with an answer that makes sense.
        #[test]
        fn any_bytes(bytes: Vec<u8>, cut in 0usize..40, byte: u8) {
            // A request with one byte changed, and noise behind it or alone.
            let mut request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n".to_vec();
            request[cut] = byte;
            request.extend(&bytes);
            for bytes in [&request, &bytes] {
                match parse(bytes) {
                    Parsed::Complete(r) => {
                        assert!(r.len <= bytes.len() && r.len <= REQUEST_MAX);
                        assert!(r.path.starts_with('/'));
                        assert!(r.path.bytes().all(|b| !b.is_ascii_control() && b != b' '));
                    }
                    Parsed::Bad(status) => assert!([400, 405, 431, 505].contains(&status)),
                    Parsed::Partial => assert!(bytes.len() < REQUEST_MAX),
                }
            }
        }
    }

    #[test]
    fn addresses_as_people_write_them() {
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
