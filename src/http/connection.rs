// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection of a client: reads a request, hands it out, and sends the response.

use super::request::{Parsed, parse};
use super::{Body, Response, reason};
use crate::sys::epoll::Interest;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// The number of bytes read from a file or written to a client at a time.
const CHUNK: usize = 16 << 10;
/// The steps that a connection takes per turn of the loop, so that a large report does not hold up the loop. A step
/// writes at most one chunk.
const STEPS_PER_TURN: usize = 8;
/// The most bytes that are read and dropped from a client whose connection is about to be closed.
const LINGER_MAX: usize = 64 << 10;

/// A non-blocking stream of bytes in both directions.
pub trait Stream: Read + Write {
    /// Tells the client that nothing more will be sent.
    fn finish(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

pub struct Connection<S> {
    pub stream: S,
    /// The bytes that have arrived but do not yet belong to a request that was handed out.
    input: Vec<u8>,
    state: ConnectionState,
    /// When the connection last made progress.
    pub active: Instant,
}

enum ConnectionState {
    /// The next request has not completely arrived.
    Receiving,
    /// A request was handed out, and its response is not known yet.
    Answering {
        keep_alive: bool,
        head_only: bool,
    },
    Sending(Outgoing),
    /// Everything is sent. The connection now drops what the client still sends, until the client closes. If snoop
    /// closed first, the kernel might discard the response (RFC 9112, section 9.6).
    Lingering {
        taken: usize,
    },
}

/// A response that is being sent.
struct Outgoing {
    bytes: Vec<u8>,
    /// The number of bytes that have been sent.
    sent: usize,
    /// What follows the bytes.
    rest: Option<io::Take<Rest>>,
    /// Whether the connection is closed after this response.
    close: bool,
}

/// A body that is sent in chunks.
enum Rest {
    File(File),
    Static(&'static [u8]),
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Rest::File(file) => file.read(buffer),
            Rest::Static(bytes) => bytes.read(buffer),
        }
    }
}

/// The result of a turn of a connection.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// A request for this path has arrived: [`Connection::respond`] is called next.
    Request(String),
    Waits(Interest),
    /// There is nothing more to do with this connection.
    Ended,
}

impl<S: Stream> Connection<S> {
    pub fn new(stream: S, now: Instant) -> Connection<S> {
        Connection {
            stream,
            input: Vec::new(),
            state: ConnectionState::Receiving,
            active: now,
        }
    }

    /// Reads and writes as much as possible without waiting, in at most [`STEPS_PER_TURN`] steps.
    pub fn turn(&mut self, now: Instant) -> Step {
        for _ in 0..STEPS_PER_TURN {
            match self.step(now) {
                Ok(None) => (),
                Ok(Some(path)) => return Step::Request(path),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Step::Waits(self.interest()),
                Err(_) => return Step::Ended,
            }
        }
        // There may be more to do. The socket is writable, so epoll reports it again at once.
        Step::Waits(Interest::Write)
    }

    /// Sets the response to the request that was handed out. The next turns send it.
    pub fn respond(&mut self, response: Response) {
        if let ConnectionState::Answering {
            keep_alive,
            head_only,
        } = self.state
        {
            let outgoing = Outgoing::new(response, keep_alive, head_only);
            self.state = ConnectionState::Sending(outgoing);
        }
    }

    /// Takes one step. Returns the path of a request if one has arrived.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the next step has to wait for the client. Any other error ends the connection; this includes its
    /// regular end.
    fn step(&mut self, now: Instant) -> io::Result<Option<String>> {
        match &mut self.state {
            ConnectionState::Receiving => {
                let path = self.take_request();
                if path.is_none() && matches!(self.state, ConnectionState::Receiving) {
                    self.receive()?;
                }
                return Ok(path);
            }
            ConnectionState::Answering { .. } => return Err(ErrorKind::WouldBlock.into()),
            ConnectionState::Sending(outgoing) => {
                let goes_on = outgoing.send(&mut self.stream)?;
                self.active = now;
                if !goes_on {
                    self.sent()?;
                }
            }
            ConnectionState::Lingering { taken } => {
                let n = self.stream.read(&mut [0; 2048])?;
                if n == 0 || *taken >= LINGER_MAX {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
                *taken += n;
            }
        }
        Ok(None)
    }

    /// Returns what the connection waits for if its next step would block.
    fn interest(&self) -> Interest {
        match self.state {
            ConnectionState::Receiving | ConnectionState::Lingering { .. } => Interest::Read,
            ConnectionState::Answering { .. } | ConnectionState::Sending(_) => Interest::Write,
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0; 2048];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.input.extend(&chunk[..n]);
                Ok(())
            }
        }
    }

    /// Takes the request at the start of the input, if it is complete, and returns its path. Prepares an error response
    /// if the input is not a valid request.
    fn take_request(&mut self) -> Option<String> {
        match parse(&self.input) {
            Parsed::Partial => None,
            Parsed::Bad(status) => {
                let refusal = Response::text(status, reason(status));
                self.state = ConnectionState::Sending(Outgoing::new(refusal, false, false));
                self.input.clear();
                None
            }
            Parsed::Complete(request) => {
                self.state = ConnectionState::Answering {
                    keep_alive: request.keep_alive,
                    head_only: request.head_only,
                };
                let (path, len) = (request.path.to_string(), request.len);
                self.input.drain(..len);
                Some(path)
            }
        }
    }

    /// Chooses the next state after a response has been sent.
    fn sent(&mut self) -> io::Result<()> {
        let close = matches!(&self.state, ConnectionState::Sending(sent) if sent.close);
        self.state = if close {
            self.stream.finish()?;
            ConnectionState::Lingering { taken: 0 }
        } else {
            ConnectionState::Receiving
        };
        Ok(())
    }
}

impl Outgoing {
    fn new(response: Response, keep_alive: bool, head_only: bool) -> Outgoing {
        let (body, rest) = match response.body {
            Body::Bytes(bytes) => (bytes, None),
            Body::Static(bytes) => {
                let rest = Rest::Static(bytes).take(bytes.len() as u64);
                (Vec::new(), Some(rest))
            }
            Body::File(file) => {
                let len = file.metadata().map_or(0, |metadata| metadata.len());
                (Vec::new(), Some(Rest::File(file).take(len)))
            }
        };
        let len = body.len() as u64 + rest.as_ref().map_or(0, io::Take::limit);
        let allow = match response.status {
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {len}\r\n{allow}{}Connection: {connection}\r\n\r\n",
            response.status,
            reason(response.status),
            response.content_type,
            response.further,
        )
        .into_bytes();
        if !head_only {
            bytes.extend(body);
        }
        Outgoing {
            bytes,
            sent: 0,
            rest: rest.filter(|_| !head_only),
            close: !keep_alive,
        }
    }

    /// Sends a chunk. Returns whether there is more to send.
    fn send(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        if self.sent == self.bytes.len() {
            self.refill()?;
        }
        if self.sent < self.bytes.len() {
            let end = self.bytes.len().min(self.sent + CHUNK);
            self.sent += stream.write(&self.bytes[self.sent..end])?;
        }
        Ok(self.sent < self.bytes.len() || self.rest.is_some())
    }

    /// Reads the next chunk of the rest.
    fn refill(&mut self) -> io::Result<()> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        self.bytes.resize(CHUNK, 0);
        let n = rest.read(&mut self.bytes)?;
        self.bytes.truncate(n);
        self.sent = 0;
        if n == 0 {
            // This is the end. If a file has become shorter, only closing the connection tells the client.
            self.close |= rest.limit() > 0;
            self.rest = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::REQUEST_MAX;
    use std::collections::VecDeque;
    use std::io::Seek;

    /// A client in memory.
    #[derive(Default)]
    struct Client {
        /// The pieces that the client sends.
        pieces: VecDeque<Vec<u8>>,
        has_closed: bool,
        /// The bytes that the client has received.
        received: Vec<u8>,
        /// The number of bytes that the client accepts before a write blocks.
        room: usize,
        was_finished: bool,
    }

    impl Read for Client {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.pieces.pop_front() else {
                return match self.has_closed {
                    true => Ok(0),
                    false => Err(ErrorKind::WouldBlock.into()),
                };
            };
            let n = piece.len().min(to.len());
            to[..n].copy_from_slice(&piece[..n]);
            if n < piece.len() {
                self.pieces.push_front(piece.split_off(n));
            }
            Ok(n)
        }
    }

    impl Write for Client {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            assert!(!self.was_finished, "nothing follows the end");
            let n = from.len().min(self.room - self.received.len());
            if n == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.received.extend(&from[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Client {
        fn finish(&mut self) -> io::Result<()> {
            self.was_finished = true;
            Ok(())
        }
    }

    const WAITS_FOR_MORE: Step = Step::Waits(Interest::Read);
    const WAITS_FOR_ROOM: Step = Step::Waits(Interest::Write);

    /// A connection to a client that sends these pieces and accepts all that it receives.
    fn connection(pieces: &[&str]) -> Connection<Client> {
        let client = Client {
            pieces: pieces.iter().map(|piece| piece.as_bytes().into()).collect(),
            room: usize::MAX,
            ..Client::default()
        };
        Connection::new(client, Instant::now())
    }

    fn turn(connection: &mut Connection<Client>) -> Step {
        connection.turn(Instant::now())
    }

    fn request(path: &str) -> Step {
        Step::Request(path.into())
    }

    /// Removes and returns what the client has received.
    fn received(connection: &mut Connection<Client>) -> String {
        String::from_utf8(std::mem::take(&mut connection.stream.received)).unwrap()
    }

    /// A response whose body is a file of that size.
    fn file_of(len: usize) -> (File, Response) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; len]).unwrap();
        file.rewind().unwrap();
        let response = Response {
            status: 200,
            content_type: "text/plain",
            further: "",
            body: Body::File(file.try_clone().unwrap()),
        };
        (file, response)
    }

    #[test]
    fn a_request_may_come_in_pieces() {
        let mut client = connection(&["GET /he", "althz HTTP/1.1\r\nHost: x\r\n"]);
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        client.stream.pieces.push_back(b"\r\n".into());
        assert_eq!(turn(&mut client), request("/healthz"));
        client.respond(Response::text(200, "ok"));
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        assert_eq!(
            received(&mut client),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n"
        );
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let both = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut client = connection(&[both]);
        assert_eq!(turn(&mut client), request("/a"));
        client.respond(Response::text(200, "first"));
        assert_eq!(turn(&mut client), request("/b"));
        client.respond(Response::text(200, "second"));
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        let received = received(&mut client);
        let (first, second) = (received.find("first"), received.find("second"));
        assert!(first.unwrap() < second.unwrap(), "{received}");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        for response in [Response::text(200, "1234"), file_of(5).1] {
            let mut client = connection(&["HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"]);
            assert_eq!(turn(&mut client), request("/"));
            client.respond(response);
            assert_eq!(turn(&mut client), WAITS_FOR_MORE);
            let received = received(&mut client);
            assert!(received.contains("Content-Length: 5\r\n"), "{received}");
            assert!(received.ends_with("\r\n\r\n"), "{received}");
        }
    }

    #[test]
    fn a_client_that_reads_slowly_gets_all_of_it() {
        let mut client = connection(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert_eq!(turn(&mut client), request("/"));
        client.respond(file_of(3 * CHUNK).1);
        for room in (10..3 * CHUNK).step_by(CHUNK / 3) {
            client.stream.room = room;
            assert_eq!(turn(&mut client), WAITS_FOR_ROOM);
            assert_eq!(client.stream.received.len(), room);
        }
        client.stream.room = usize::MAX;
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        let received = received(&mut client);
        let (_, body) = received.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 3 * CHUNK);
    }

    #[test]
    fn a_large_body_takes_several_turns() {
        let mut client = connection(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert_eq!(turn(&mut client), request("/"));
        client.respond(file_of(3 * STEPS_PER_TURN * CHUNK).1);
        assert_eq!(turn(&mut client), WAITS_FOR_ROOM);
        assert!(client.stream.received.len() <= STEPS_PER_TURN * CHUNK);
    }

    #[test]
    fn a_file_that_has_become_shorter_ends_the_connection() {
        let mut client = connection(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert_eq!(turn(&mut client), request("/"));
        let (file, response) = file_of(100);
        client.respond(response);
        file.set_len(50).unwrap();
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        assert!(received(&mut client).ends_with(&"x".repeat(50)));
        assert!(client.stream.was_finished);
    }

    #[test]
    fn invalid_requests_are_refused() {
        let mut client = connection(&["POST / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n"]);
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        let refused = received(&mut client);
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"), "{refused}");
        assert!(client.stream.was_finished);

        let endless = "x".repeat(REQUEST_MAX);
        let mut client = connection(&[&endless]);
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        assert!(received(&mut client).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn a_connection_lingers_until_the_client_closes() {
        let mut client = connection(&["GET / HTTP/1.0\r\n\r\n", "more", "and more"]);
        assert_eq!(turn(&mut client), request("/"));
        client.respond(Response::text(200, "ok"));
        assert_eq!(turn(&mut client), WAITS_FOR_MORE);
        assert!(client.stream.was_finished);
        assert!(received(&mut client).contains("Connection: close"));
        client.stream.has_closed = true;
        assert_eq!(turn(&mut client), Step::Ended);
    }

    #[test]
    fn a_connection_does_not_linger_for_ever() {
        let mut client = connection(&["GET / HTTP/1.0\r\n\r\n"]);
        assert_eq!(turn(&mut client), request("/"));
        client.respond(Response::text(200, "ok"));
        client.stream.pieces.push_back(vec![0; 2 * LINGER_MAX]);
        while turn(&mut client) == WAITS_FOR_ROOM {}
        let left: usize = client.stream.pieces.iter().map(Vec::len).sum();
        assert!(left >= LINGER_MAX - 2048, "{left} bytes were not taken");
        assert_eq!(turn(&mut client), Step::Ended);
    }

    #[test]
    fn a_client_that_closes_has_no_more_requests() {
        for pieces in [&[][..], &["GET / HT"][..]] {
            let mut client = connection(pieces);
            client.stream.has_closed = true;
            assert_eq!(turn(&mut client), Step::Ended);
        }
    }
}
