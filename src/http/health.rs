// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop health`: asks the running snoop for its health. The image of a container contains no other program that a
//! health check could use.

use crate::error::{Error, FAILED, Result};
use crate::http::Address;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long to wait for a connection, and then for each piece of the response. Docker, Podman and the kubelet have
/// their own timeouts, which the user sets.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a response that are read. A response is a line or two.
const RESPONSE_MAX: u64 = 64 << 10;

/// Returns the response of the listener at this address, and the exit status: 0 if snoop is healthy.
///
/// # Errors
///
/// Nothing listens at the address, or the listener is not snoop.
pub fn ask(address: &Address) -> Result<(String, u8)> {
    let cannot = |e: io::Error| {
        Error::failed(format!(
            "-metrics-addr={address}: cannot ask snoop for its health: {e}; give the address on which the running snoop listens"
        ))
    };
    let response = exchange(address).map_err(cannot)?;
    let (status, body) =
        read(&response).ok_or_else(|| cannot(io::ErrorKind::InvalidData.into()))?;
    Ok((body.into(), if status == 200 { 0 } else { FAILED }))
}

/// Returns the addresses at which a listener on `address` can be reached from here.
fn reachable(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if address.host.is_empty() {
        // The listener uses all addresses, and the loopback addresses are always among them.
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, address.port)).into());
    }
    Ok((address.host.as_str(), address.port)
        .to_socket_addrs()?
        .collect())
}

fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in reachable(address)? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

fn exchange(address: &Address) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.take(RESPONSE_MAX).read_to_string(&mut response)?;
    Ok(response)
}

/// Returns the status and the body of a response from snoop's own listener.
fn read(response: &str) -> Option<(u16, &str)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_parsed() {
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nA: b\r\n\r\nok\n"),
            Some((200, "ok\n"))
        );
        assert_eq!(read("HTTP/1.1 503 x\r\n\r\nwhy\n"), Some((503, "why\n")));
        for other in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 \r\n\r\n",
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
