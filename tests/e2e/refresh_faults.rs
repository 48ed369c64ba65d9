//! An embedded store whose disk fails, and comes back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cambio::app::App;
use cambio::store::embedded::{Embedded, Settings};
use cambio::telemetry::metrics::Metrics;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use serde_json::json;

use crate::refresh_support::{
    Client, Estate, UPSTREAMS, claims, refresh_token, refused, subject_token,
};
use crate::support::{Cambio, PATIENCE, Response, get, load, post};

/// A disk, whoever opens it, that works or does not.
#[derive(Clone, Debug)]
struct Disk {
    inner: Arc<InMemoryBackend>,
    is_broken: Arc<AtomicBool>,
}

impl Disk {
    fn works(&self) -> io::Result<()> {
        let is_broken = self.is_broken.load(Ordering::SeqCst);
        if is_broken { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.works().and_then(|()| self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.works().and_then(|()| self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.works().and_then(|()| self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.works().and_then(|()| self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.works().and_then(|()| self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
fn unavailable(response: &Response) {
    let error = &response.json()["error"];
    assert_eq!((response.status, error), (503, &json!("temporarily_unavailable")));
    assert!(response.header("retry-after").is_some());
}

/// An estate whose Cambio keeps what it keeps on this disk.
async fn on(disk: &Disk) -> Estate {
    let mut estate = Estate::start().await;
    let opened = disk.clone();
    let open = move || {
        opened.works()?;
        Ok(Box::new(opened.clone()) as Box<dyn StorageBackend>)
    };
    let store = Embedded::over(open, Settings::default()).await.unwrap();
    let folder = crate::support::folder();
    crate::refresh_support::furnish(folder.path(), &estate.issuer, &estate.once);
    let config = load(folder.path(), &estate.upstream.url(), &estate.lines);
    let started = App::start_on(config, Arc::new(Metrics::new()), Arc::new(store)).await;
    estate.cambio = Cambio { running: started.unwrap(), folder };
    estate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_store_goes_on_without_a_disk_and_nothing_is_lost_when_it_is_back() {
    let disk = Disk { inner: Arc::new(InMemoryBackend::new()), is_broken: Arc::default() };
    let estate = on(&disk).await;
    let spent = estate.family(Client::Portal).await;
    let newest = refresh_token(&estate.refresh(Client::Portal, &spent).await);
    let living = estate.family(Client::Portal).await;
    let subject = estate.token();
    let once = subject_token(&estate.once, |_| {});

    disk.is_broken.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        unavailable(&estate.refresh(Client::Portal, &living).await);
        unavailable(&estate.cambio.request(Client::Portal.exchange(&subject, &[])).await);
        unavailable(&estate.cambio.request(Client::Stateless.exchange(&once, &[])).await);
        let stateless = estate.cambio.request(Client::Stateless.exchange(&subject, &[])).await;
        assert_eq!(claims(&stateless)["sub"], "p:alice");
        assert_eq!(estate.cambio.request(get("/anything", "")).await.body, UPSTREAMS);
        let theirs = post("/oauth2/token", "", "grant_type=refresh_token&refresh_token=theirs");
        assert_eq!(estate.cambio.request(theirs).await.body, UPSTREAMS);
    }
    assert_eq!(estate.refreshes("failed", "store_unavailable").await, 5);
    disk.is_broken.store(false, Ordering::SeqCst);

    let back = Instant::now();
    loop {
        let response = estate.refresh(Client::Portal, &living).await;
        if response.status == 200 {
            break;
        }
        unavailable(&response);
        assert!(back.elapsed() < PATIENCE, "it does not recover");
    }
    refused(&estate.refresh(Client::Portal, &spent).await, "invalid_grant");
    refused(&estate.refresh(Client::Portal, &newest).await, "invalid_grant");
    // What was told that it can't be answered was not spent.
    let stateless = estate.cambio.request(Client::Stateless.exchange(&once, &[])).await;
    assert_eq!(claims(&stateless)["sub"], "o:alice");
}
