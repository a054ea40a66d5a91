// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses HTTP requests: RFC 9112.

/// The most bytes of a request line with its headers. The clients of this listener send a few hundred.
pub const REQUEST_MAX: usize = 8 << 10;

/// A request whose headers have all arrived.
#[derive(Debug, PartialEq)]
pub struct Request<'a> {
    /// The path of the target, with the query if there is one.
    pub path: &'a str,
    /// Whether the method is HEAD, so that the response has no body.
    pub head_only: bool,
    /// Whether the client may send another request over this connection.
    pub keep_alive: bool,
    /// The length of the request in bytes, including the empty line at its end.
    pub len: usize,
}

/// The result of parsing the bytes that have arrived so far.
#[derive(Debug, PartialEq)]
pub enum Parsed<'a> {
    /// The bytes are the beginning of a request.
    Partial,
    Complete(Request<'a>),
    /// The bytes are not a request that this listener serves. The number is the status of the response.
    Bad(u16),
}

/// Parses the request at the start of `bytes`.
///
/// # Limits
///
/// A longer request than [`REQUEST_MAX`] bytes gets status 431. The other statuses are 400 (malformed), 405 (neither
/// GET nor HEAD) and 505 (neither HTTP/1.0 nor 1.1). A request with a body is accepted, but its connection is not kept
/// alive, because the listener does not read the body.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let complete = split_lines(bytes);
    if complete
        .as_ref()
        .map_or(bytes.len() >= REQUEST_MAX, |(_, len)| *len > REQUEST_MAX)
    {
        return Parsed::Bad(431);
    }
    let Some((lines, len)) = complete else {
        return Parsed::Partial;
    };
    match parse_lines(&lines, len) {
        Ok(request) => Parsed::Complete(request),
        Err(status) => Parsed::Bad(status),
    }
}

/// Returns the lines before the first empty line, and the number of bytes including that line. `None` if it has not
/// arrived.
///
/// Lines end with CR LF. A bare LF is accepted, as the RFC allows. Empty lines before the first line are skipped; they
/// belong to the previous request.
fn split_lines(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if *byte != b'\n' {
            continue;
        }
        let line = &bytes[start..i];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        start = i + 1;
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => (),
            (true, false) => return Some((lines, start)),
            (false, _) => lines.push(line),
        }
    }
    None
}

/// Parses the lines of a request. The error is the status of the response.
fn parse_lines<'a>(lines: &[&'a [u8]], len: usize) -> Result<Request<'a>, u16> {
    let (first, headers) = lines.split_first().ok_or(400u16)?;
    let line = RequestLine::parse(first)?;
    let headers = Headers::parse(headers)?;
    if line.version == Version::Http11 && !headers.has_host {
        return Err(400);
    }
    if !matches!(line.method, "GET" | "HEAD") {
        return Err(405);
    }
    // HTTP/1.1 keeps a connection unless the client says otherwise, HTTP/1.0 only if it asks for it.
    let wants_more = match line.version {
        Version::Http11 => !headers.close,
        Version::Http10 => headers.keep_alive,
    };
    Ok(Request {
        path: line.path,
        head_only: line.method == "HEAD",
        keep_alive: wants_more && !headers.has_body,
        len,
    })
}

/// Splits a target into its path and the parameters of its query, decoded: RFC 3986, and `+` for a blank.
pub fn split_query(target: &str) -> (&str, Vec<(String, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    };
    (path, pairs.map(pair).collect())
}

/// Decodes `%` with two hexadecimal digits. What is not encoded like this stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(PartialEq)]
enum Version {
    Http10,
    Http11,
}

struct RequestLine<'a> {
    method: &'a str,
    path: &'a str,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<RequestLine<'a>, u16> {
        let line = std::str::from_utf8(line).map_err(|_| 400u16)?;
        let words: Vec<_> = line.split(' ').collect();
        let [method, target, version] = words[..] else {
            return Err(400);
        };
        if !is_token(method.as_bytes()) || target.bytes().any(|c| c.is_ascii_control()) {
            return Err(400);
        }
        let version = match version {
            "HTTP/1.1" => Version::Http11,
            "HTTP/1.0" => Version::Http10,
            _ if version.starts_with("HTTP/") => return Err(505),
            _ => return Err(400),
        };
        // A target may be absolute, as proxies send it.
        let path = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        if !path.starts_with('/') {
            return Err(400);
        }
        Ok(RequestLine {
            method,
            path: path.split('#').next().unwrap_or(path),
            version,
        })
    }
}

/// The headers, as far as they matter to this listener.
#[derive(Default)]
struct Headers {
    close: bool,
    keep_alive: bool,
    has_body: bool,
    has_host: bool,
}

impl Headers {
    fn parse(lines: &[&[u8]]) -> Result<Headers, u16> {
        let mut headers = Headers::default();
        for line in lines {
            let colon = line.iter().position(|b| *b == b':').ok_or(400u16)?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if !is_token(name) {
                return Err(400);
            }
            headers.note(name, value);
        }
        Ok(headers)
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    (self.close, self.keep_alive) = (true, false);
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.has_host = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.has_body |= value != b"0";
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_body = true;
        }
    }
}

/// Returns whether this is a token, which is what methods and names of headers are.
fn is_token(word: &[u8]) -> bool {
    let is_token_char = |c: &u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c);
    !word.is_empty() && word.iter().all(is_token_char)
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
        assert_eq!(complete("\r\nGET /a?b#c HTTP/1.1\nhost:x\n\n").0, "/a?b");
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
    fn queries_are_decoded() {
        let (path, query) = split_query("/report?image=a%2Fb%3a1+x&pod&&bad=%zz%");
        assert_eq!(path, "/report");
        let expected = [("image", "a/b:1 x"), ("pod", ""), ("bad", "%zz%")];
        assert_eq!(query, expected.map(|(k, v)| (k.into(), v.into())));
        assert_eq!(split_query("/metrics"), ("/metrics", Vec::new()));
    }

    #[test]
    fn every_beginning_of_a_request_is_partial() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(parse(&request[..end]), Parsed::Partial, "{end}");
        }
    }

    #[test]
    fn invalid_requests_have_a_status() {
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
        /// Whatever bytes arrive, the parser returns a valid result.
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
}
