//! Connections to the upstream that may switch to WebSocket.
//!
//! The library ends a tunnel at once where it reads the switch before it has noted that the request
//! in front of it has no body. It notes that one turn after it has written the request, and reads as
//! soon as it can; an upstream that is fast enough is read first. So the first read after a write
//! waits for a turn here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, OrErr as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects as the library does, and has reads take turns.
#[derive(Debug)]
pub struct Turns {
    pub connect_timeout: Duration,
}

#[async_trait]
impl L4Connect for Turns {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new_up(ErrorType::ConnectError))?;
        let connected = timeout(self.connect_timeout, TcpStream::connect(address)).await;
        let stream = connected
            .or_err(ErrorType::ConnectTimedout, "connecting to the upstream")?
            .or_else(refused)?;
        let socket = Box::new(TurnTaking { stream, has_written: false });
        Ok(Stream::from(VirtualSocketStream::new(socket)))
    }
}

/// As the library names it: another address may be tried.
fn refused<T>(error: io::Error) -> pingora::Result<T> {
    let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
    let kind = if is(&[io::ErrorKind::ConnectionRefused]) {
        ErrorType::ConnectRefused
    } else if is(&[io::ErrorKind::TimedOut]) {
        ErrorType::ConnectTimedout
    } else if is(&[io::ErrorKind::NetworkUnreachable, io::ErrorKind::HostUnreachable]) {
        ErrorType::ConnectNoRoute
    } else {
        ErrorType::ConnectError
    };
    Err(Error::because(kind, "connecting to the upstream", error))
}

#[derive(Debug)]
struct TurnTaking<S> {
    stream: S,
    /// Since the last read.
    has_written: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for TurnTaking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_written) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TurnTaking<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl VirtualSocket for TurnTaking<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        // Nothing else is asked for: a tunnel that is silent for long is ended.
        if matches!(option, VirtualSockOpt::NoDelay) {
            self.stream.set_nodelay(true)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_read_after_a_write_waits_for_one_turn() {
        let (near, mut far) = duplex(64);
        let mut near = TurnTaking { stream: near, has_written: false };
        far.write_all(b"ab").await.unwrap();
        let mut some = [0];
        // It is there already.
        for (write, ready) in [(false, true), (true, false), (false, true)] {
            if write {
                near.write_all(b"x").await.unwrap();
            }
            let mut read = Box::pin(near.read(&mut some));
            let polled =
                std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_ready()));
            assert_eq!(polled.await, ready);
        }
        assert_eq!(&some, b"b");
    }
}
