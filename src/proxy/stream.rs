//! A client's connection, as it is lent to the library: one that takes nothing for too long ends, one
//! of HTTP/2 is read no faster than it may be (`pace`), and one of HTTP/1 comes back for its end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::pace::Pace;
use super::patience::{self, Overdue};

/// How long a client may take nothing of what is there for it. The library bounds the body of an
/// answer in this way, and neither its head nor its end: whoever never reads would hold all that an
/// answer holds for as long as they like.
pub const STALLED: Duration = Duration::from_mins(1);

/// A connection that is watched.
pub struct Watched {
    inner: Lent,
    pace: Option<Pace>,
    /// Runs while something can't be written; kept for the next time.
    stall: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    /// Runs while something is read and the upstream's answer is expected.
    overdue: Option<Pin<Box<Sleep>>>,
}

/// What is given back when it is dropped, where somebody waits for it.
struct Lent {
    /// It is there until then.
    stream: Option<Stream>,
    home: Option<oneshot::Sender<Stream>>,
}

impl Lent {
    fn pin(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(home)) = (self.stream.take(), self.home.take()) {
            // Whoever does not wait any more does not want it.
            let _ = home.send(stream);
        }
    }
}

impl Watched {
    pub fn new(stream: Stream) -> Self {
        let inner = Lent { stream: Some(stream), home: None };
        Self { inner, pace: None, stall: None, is_stalled: false, overdue: None }
    }

    /// As [`Watched::new`], with what gives the connection back once nobody has it any more.
    pub fn lent(stream: Stream) -> (Self, oneshot::Receiver<Stream>) {
        let (home, returned) = oneshot::channel();
        let inner = Lent { stream: Some(stream), home: Some(home) };
        (Self { inner, pace: None, stall: None, is_stalled: false, overdue: None }, returned)
    }

    /// From here on frames of HTTP/2 come.
    pub fn paced(inner: Stream) -> Self {
        Self { pace: Some(Pace::default()), ..Self::new(inner) }
    }

    /// An error once the upstream should have answered what has come so far.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = patience::deadline() else { return Poll::Pending };
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if overdue.deadline() != deadline {
            overdue.as_mut().reset(deadline);
        }
        ready!(overdue.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Overdue)))
    }

    /// What was written, or an error where nothing could be for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_stalled = false;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        if !self.is_stalled {
            stall.as_mut().reset(Instant::now() + STALLED);
            self.is_stalled = true;
        }
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner.stream).finish_non_exhaustive()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(pace) = &mut this.pace else {
            let read = this.inner.pin()?.poll_read(context, buffer);
            return if read.is_pending() { this.wait(context) } else { read };
        };
        ready!(pace.poll_ready(context));
        let before = buffer.filled().len();
        ready!(this.inner.pin()?.poll_read(context, buffer))?;
        pace.note(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.inner.pin()?.poll_write(context, bytes);
        this.watch(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = this.inner.pin()?.poll_flush(context);
        this.watch(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = this.inner.pin()?.poll_shutdown(context);
        this.watch(context, shut)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.inner.pin()?.poll_write_vectored(context, slices);
        this.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        // What the client has not taken by then it does not get.
        if let Some(stream) = &mut self.inner.stream {
            let _ = tokio::time::timeout(STALLED, stream.shutdown()).await;
        }
    }
}

impl UniqueID for Watched {
    fn id(&self) -> UniqueIDType {
        self.inner.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Watched {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.stream.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Watched {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }
}

impl GetProxyDigest for Watched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.stream.as_ref()?.get_proxy_digest()
    }
}

impl GetSocketDigest for Watched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.stream.as_ref()?.get_socket_digest()
    }
}

impl Peek for Watched {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{interval, timeout};

    use super::*;

    /// With room for a few bytes, as a socket whose client does not read.
    fn narrow() -> (DuplexStream, Watched) {
        let (client, server) = duplex(8);
        (client, Watched::new(Box::new(server)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_after_a_minute() {
        let (_client, mut watched) = narrow();
        let began = Instant::now();
        let error = watched.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), STALLED.as_secs());
        // So is one that has been given up before.
        let error = watched.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_merely_slow_gets_all_of_it() {
        let (mut client, mut watched) = narrow();
        let began = Instant::now();
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut some = [0; 8];
            let mut pause = interval(STALLED / 2);
            while client.read(&mut some).await.unwrap() > 0 {
                seen.extend_from_slice(&some);
                pause.tick().await;
            }
            seen.len()
        });
        watched.write_all(&[0; 80]).await.unwrap();
        watched.flush().await.unwrap();
        AsyncWriteExt::shutdown(&mut watched).await.unwrap();
        assert_eq!(reading.await.unwrap(), 80);
        assert!(began.elapsed() > 3 * STALLED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_ends_when_the_answer_is_overdue() {
        let second = Duration::from_secs(1);
        let (mut client, mut watched) = narrow();
        let mut some = [0];
        patience::of_one_request(async {
            assert!(timeout(60 * second, watched.read(&mut some)).await.is_err());
            for wait in [5, 2] {
                let began = Instant::now();
                patience::expect_by(Some(began + wait * second));
                assert!(timeout(second, watched.read(&mut some)).await.is_err());
                let error = watched.read(&mut some).await.unwrap_err();
                assert!(error.get_ref().unwrap().is::<Overdue>());
                assert_eq!(began.elapsed(), wait * second);
            }
            patience::expect_by(None);
            assert!(timeout(60 * second, watched.read(&mut some)).await.is_err());
            patience::expect_by(Some(Instant::now() + second));
        })
        .await;
        // It was for that request.
        assert!(timeout(60 * second, watched.read(&mut some)).await.is_err());
        client.write_all(b"x").await.unwrap();
        assert_eq!(watched.read(&mut some).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_lent_comes_back_when_it_is_dropped() {
        let (mut client, server) = duplex(8);
        let (watched, mut returned) = Watched::lent(Box::new(server));
        assert!(returned.try_recv().is_err());
        drop(watched);
        returned.await.unwrap().write_all(b"end").await.unwrap();
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"end");
        // Nobody waits for it: it is closed.
        let (mut client, server) = duplex(8);
        drop(Watched::lent(Box::new(server)));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_that_gets_nowhere_ends_too() {
        /// Takes everything, and never gets rid of it.
        #[derive(Debug)]
        struct Stuck;

        impl AsyncRead for Stuck {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }

        impl AsyncWrite for Stuck {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(bytes.len()))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }

        #[async_trait]
        impl Shutdown for Stuck {
            async fn shutdown(&mut self) {
                std::future::pending::<()>().await;
            }
        }

        impl UniqueID for Stuck {
            fn id(&self) -> UniqueIDType {
                0
            }
        }

        impl Ssl for Stuck {}
        impl Peek for Stuck {}

        impl GetTimingDigest for Stuck {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                Vec::new()
            }
        }

        impl GetProxyDigest for Stuck {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                None
            }
        }

        impl GetSocketDigest for Stuck {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                None
            }
        }

        let mut watched = Watched::new(Box::new(Stuck));
        watched.write_all(b"head").await.unwrap();
        for _ in 0..2 {
            let began = Instant::now();
            let error = watched.flush().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(began.elapsed() <= STALLED + Duration::from_millis(10));
        }
        let error = AsyncWriteExt::shutdown(&mut watched).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let ended = timeout(2 * STALLED, Shutdown::shutdown(&mut watched)).await;
        assert!(ended.is_ok());
    }
}
