//! An issuer that is well until it is told to misbehave: a server of raw sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cambio::jwt::sign::SigningKey;
use rcgen::{CertificateParams, DistinguishedName, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::chaos_kinds::{Kind, Sets, answer, misbehave};
use crate::setting::{jwks, key};
use crate::support::install_crypto;

pub struct ChaosIssuer {
    pub kind: Kind,
    name: String,
    /// What it signs with while it is well.
    pub known: SigningKey,
    /// What it only ever publishes in ways that are wrong.
    pub evil: SigningKey,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    kind: Kind,
    sets: Sets,
    is_raging: watch::Sender<bool>,
    misbehaved: AtomicUsize,
    /// Connections on which it misbehaves at the moment.
    raging: AtomicUsize,
    tls: Option<Tls>,
}

struct Tls {
    root: String,
    good: TlsAcceptor,
    bad: TlsAcceptor,
}

impl ChaosIssuer {
    /// The `nth` of its kind. `anothers` is the key set of somebody else.
    pub async fn start(kind: Kind, nth: usize, anothers: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (known, evil) = (key("known"), key("evil"));
        let sets =
            Sets { own: jwks(&[&known]), evil: jwks(&[&evil]), anothers: anothers.to_owned() };
        let shared = Arc::new(Shared {
            kind,
            sets,
            is_raging: watch::Sender::new(false),
            misbehaved: AtomicUsize::new(0),
            raging: AtomicUsize::new(0),
            tls: kind.is_in_tls().then(|| Tls::of(kind)),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // Whoever asks breaks off on purpose.
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        let name = if nth == 0 { kind.name() } else { format!("{}-{nth}", kind.name()) };
        Self { kind, name, known, evil, address, shared }
    }

    /// `iss` of its tokens.
    pub fn iss(&self) -> String {
        format!("https://{}.example", self.name)
    }

    /// Its entry in a configuration, for which a file may be put in the folder.
    pub fn lines(&self, folder: &Path) -> String {
        let name = &self.name;
        let endpoint = match &self.shared.tls {
            None => format!("\"http://{}/jwks\"", self.address),
            Some(tls) => {
                std::fs::write(folder.join(format!("{name}.pem")), &tls.root).unwrap();
                format!("{{ url: \"https://{}/jwks\", ca: {{ file: {name}.pem }} }}", self.address)
            }
        };
        format!(
            "  - {{ name: {name}, issuer: \"{}\", jwks_endpoint: {endpoint}, \
             subject_prefix: \"{name}:\" }}\n",
            self.iss()
        )
    }

    /// Misbehaves from now on, or not any more: what is under way then is broken off.
    pub fn rage(&self, is_raging: bool) {
        self.shared.is_raging.send_replace(is_raging);
    }

    /// Whether it misbehaves on no connection.
    pub fn is_calm(&self) -> bool {
        self.shared.raging.load(Ordering::SeqCst) == 0
    }

    /// How often it was connected to, and misbehaved.
    pub fn misbehaved(&self) -> usize {
        self.shared.misbehaved.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) {
        let mut raging = self.is_raging.subscribe();
        if !*raging.borrow_and_update() {
            return self.serve_as(stream, false).await;
        }
        self.raging.fetch_add(1, Ordering::SeqCst);
        self.misbehaved.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            () = self.serve_as(stream, true) => {}
            _ = raging.wait_for(|is_raging| !is_raging) => {}
        }
        self.raging.fetch_sub(1, Ordering::SeqCst);
    }

    async fn serve_as(&self, mut stream: TcpStream, is_raging: bool) {
        match (&self.tls, is_raging && self.kind == Kind::SlowHandshake) {
            // The client's first words are read, and nothing is ever said.
            (_, true) => while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {},
            (Some(tls), false) => {
                let acceptor = if is_raging { &tls.bad } else { &tls.good };
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ = self.answer(stream, is_raging).await;
            }
            // What is closed with something unread in it is reset.
            (None, false) if is_raging && self.kind == Kind::Resets => {
                let _ = stream.readable().await;
            }
            (None, false) => {
                let _ = self.answer(stream, is_raging).await;
            }
        }
    }

    async fn answer(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        is_raging: bool,
    ) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if is_raging {
            // It ends when whoever asked is gone, too.
            let (mut reading, mut writing) = tokio::io::split(stream);
            let gone = async { while reading.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} };
            return tokio::select! {
                ended = misbehave(self.kind, &mut writing, &self.sets) => ended,
                () = gone => Ok(()),
            };
        }
        stream.write_all(&answer("Connection: close\r\n", self.sets.own.as_bytes())).await?;
        stream.shutdown().await
    }
}

impl Tls {
    fn of(kind: Kind) -> Self {
        install_crypto();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name = DistinguishedName::new();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap().pem();
        let authority = rcgen::Issuer::new(authority, authority_key);
        let server = |kind: Option<Kind>| {
            let name = match kind {
                Some(Kind::CertificateOfAnother) => "issuer.example",
                _ => "127.0.0.1",
            };
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            if kind == Some(Kind::CertificateExpired) {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            let certificate = match kind {
                Some(Kind::CertificateSelfSigned) => params.self_signed(&key),
                _ => params.signed_by(&key, &authority),
            };
            let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let tls = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.unwrap().der().clone()], private)
                .unwrap();
            TlsAcceptor::from(Arc::new(tls))
        };
        Self { root, good: server(None), bad: server(Some(kind)) }
    }
}
