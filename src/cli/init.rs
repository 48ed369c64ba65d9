//! `cambio init`: a configuration for an identity provider, by its metadata.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use url::Url;
use zeroize::Zeroizing;

use super::keys::{KeyAlgorithm, write_new};
use super::{Exit, check, fail, print};
use crate::app::survey::{Subject, survey};
use crate::config;
use crate::config::profile::{Premises, Profile, printable};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::sign::{SigningKey, generate_pem};

/// The signing key, beside the configuration.
const KEY: &str = "signing.pem";
/// What a key that is there already may be for.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256];
/// The largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// Where the identity provider is, and what is to be written.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where Cambio reaches the identity provider: the URL of its issuer, or of its metadata
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    upstream: Url,
    /// The file to write, with a signing key beside it; `-` prints it. Nothing is overwritten
    #[arg(long, value_name = "FILE", default_value = "cambio.yaml")]
    out: PathBuf,
    /// By which clients call the identity provider, where it takes its name from the request
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    public_url: Option<Url>,
    /// Certificates to trust at the upstream instead of the system's roots
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Where clients are to connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where operators are to connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    admin: SocketAddr,
    /// Of the signing key [default: ES256, or that of the key that is there]
    #[arg(long, value_enum, ignore_case = true)]
    algorithm: Option<KeyAlgorithm>,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let is_web = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    let url = Url::parse(text).ok().filter(|_| is_web && !text.contains(['\\', ' ']));
    let url = url.ok_or("must be a URL that begins with https:// or http://")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password in it: remove them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment: give it without".to_owned());
    }
    Ok(url)
}

impl Arguments {
    fn prints(&self) -> bool {
        self.out == Path::new("-")
    }

    /// Where what is named in the configuration is relative to.
    fn folder(&self) -> &Path {
        match self.out.parent() {
            Some(folder) if !self.prints() && folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        }
    }
}

/// Looks the identity provider up and writes what fits it.
pub fn run(arguments: &Arguments) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads are to be had: {}", error.kind())),
    };
    match runtime.block_on(init(arguments)) {
        Ok(exit) => exit,
        Err(why) => fail(&why),
    }
}

async fn init(arguments: &Arguments) -> Result<Exit, String> {
    let Arguments { upstream, out, .. } = arguments;
    if !arguments.prints() && out.symlink_metadata().is_ok() {
        return Err(format!("{}: exists already, and is not overwritten", out.display()));
    }
    let (ca, authorities) = authorities(arguments)?;
    let key = Key::beside(arguments)?;
    let public = arguments.public_url.clone();
    let subject = Subject { upstream: upstream.clone(), ca: authorities, public: public.clone() };
    let found = survey(&subject).await.map_err(|misses| {
        let places: Vec<String> = misses.iter().map(|miss| format!("\n  {miss}")).collect();
        format!(
            "{upstream} has no metadata that could be used in any of these places:{}\n\
             Give the URL of its issuer or of its metadata, as Cambio reaches it.",
            places.concat()
        )
    })?;
    let mut origin = upstream.clone();
    origin.set_path("");
    let read = found.places.first().cloned().unwrap_or_default();
    let premises = Premises {
        upstream: origin,
        ca,
        public,
        metadata: found.places,
        no_keys: found.no_keys.map(|error| error.to_string()),
        listen: arguments.listen,
        admin: arguments.admin,
        signing_key: KEY.to_owned(),
        algorithm: key.algorithm,
    };
    let read_at = printable(&read);
    let profile = Profile::of(&found.metadata, premises)
        .map_err(|unfit| format!("no configuration fits the metadata at {read_at}: {unfit}"))?;
    let text = profile.to_yaml();
    let mut told = format!("Read {read_at}: the issuer is {}.\n", printable(&profile.issuer));
    if text.contains("ATTENTION") {
        told += "Some of it needs your ATTENTION: look for that word in the configuration.\n";
    }
    if arguments.prints() {
        let _ = std::io::stderr().write_all(told.as_bytes());
        return Ok(print(&text));
    }
    write(arguments, &key, &text).map(|()| {
        let out = out.display();
        let of_key = match &key.new {
            Some(_) => "a new signing key beside it",
            None => "the signing key that was there",
        };
        print(&format!(
            "\
{told}Wrote {out}, with {of_key} ({KEY}, kid {kid}).

Next:
  1. In {out}, name whose tokens are accepted (trusted_token_issuers) and who may
     exchange them (applications); \"To decide\" marks what else is yours to choose.
  2. cambio check --config {out}
  3. cambio serve --config {out}
  4. cambio doctor --config {out}
  5. Have clients reach Cambio instead of the identity provider.
",
            kid = key.kid,
        ))
    })
}

/// Writes the key, if there is none, and the configuration, if it holds. What does not hold leaves
/// nothing behind.
fn write(arguments: &Arguments, key: &Key, text: &str) -> Result<(), String> {
    let path = arguments.folder().join(KEY);
    if let Some(pem) = &key.new {
        write_new(&path, pem.as_bytes())?;
    }
    let checked = config::load_text(text, &arguments.out, &|_| None);
    let written = match checked {
        Ok(_) => write_new(&arguments.out, text.as_bytes()),
        Err(findings) => {
            check::tell(&findings);
            Err("what would be written does not hold, and is not written".to_owned())
        }
    };
    if written.is_err() && key.new.is_some() {
        let _ = std::fs::remove_file(&path);
    }
    written
}

/// The signing key.
struct Key {
    algorithm: Algorithm,
    kid: String,
    /// The PEM of one that is to be written.
    new: Option<Zeroizing<String>>,
}

impl Key {
    /// The one that lies beside the configuration, or a new one.
    fn beside(arguments: &Arguments) -> Result<Self, String> {
        let wanted = arguments.algorithm.map(Algorithm::from);
        let path = arguments.folder().join(KEY);
        if arguments.prints() || path.symlink_metadata().is_err() {
            let algorithm = wanted.unwrap_or(Algorithm::ES256);
            let pem = generate_pem(algorithm).map_err(|_| "the key could not be generated")?;
            let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None)
                .map_err(|_| "the key could not be read back")?;
            return Ok(Self { algorithm, kid: key.kid().to_owned(), new: Some(pem) });
        }
        let pem = Zeroizing::new(read(&path)?);
        let fits = |algorithm: Algorithm| {
            SigningKey::from_pkcs8_pem(&pem, algorithm, None, None).map(|key| (algorithm, key))
        };
        let found = match wanted {
            Some(algorithm) => fits(algorithm),
            None => ALGORITHMS
                .iter()
                .map(|algorithm| fits(*algorithm))
                .find(Result::is_ok)
                .unwrap_or_else(|| fits(Algorithm::ES256)),
        };
        let (algorithm, key) = found.map_err(|error| {
            format!("{}: exists already, and {error}: name another folder", path.display())
        })?;
        Ok(Self { algorithm, kid: key.kid().to_owned(), new: None })
    }
}

/// The certificates that are to be trusted, and their path as the configuration has it.
type Authorities = (Option<String>, Option<Vec<CertificateDer<'static>>>);

fn authorities(arguments: &Arguments) -> Result<Authorities, String> {
    let Some(path) = &arguments.ca else { return Ok((None, None)) };
    let shown = path.display();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{shown}: is not in PEM"))?;
    if certificates.is_empty() {
        return Err(format!("{shown}: has no certificate in PEM"));
    }
    let whole = |path: &Path| {
        path.canonicalize().map_err(|error| format!("{}: {}", path.display(), error.kind()))
    };
    let (file, folder) = (whole(path)?, whole(arguments.folder())?);
    let named = file.strip_prefix(&folder).unwrap_or(&file);
    let named = named.to_str().ok_or_else(|| format!("{shown}: its name is not UTF-8"))?;
    Ok((Some(named.to_owned()), Some(certificates)))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut content));
    read.map_err(|error| format!("{}: can't be read: {}", path.display(), error.kind()))?;
    Ok(content)
}
