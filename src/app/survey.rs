//! Looks an identity provider up: its metadata in every place where they may lie, and its keys.

use http::HeaderMap;
use http::header::HOST;
use pingora::http::RequestHeader;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use url::Url;

use crate::config::profile::printable;
use crate::config::well_known;
use crate::jwt::key_set::KeySet;
use crate::keys::KeyError;
use crate::keys::inquiry::Inquirer;
use crate::proxy::documents::host;
use crate::proxy::forward::{Client, forwarding_fields};

/// Where an identity provider is looked for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where it is reached, with the path of its issuer or of a document.
    pub upstream: Url,
    /// Trusted instead of the system's roots.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// By which clients call it. It is asked as if they did.
    pub public: Option<Url>,
}

/// A place where no metadata are that could be used, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    pub place: String,
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    pub metadata: Map<String, Value>,
    /// The paths of metadata with the same issuer. That of what was read is the first.
    pub places: Vec<String>,
    /// Why no key set is where the metadata name it, on the upstream, if so.
    pub no_keys: Option<KeyError>,
}

/// What lies in a place: metadata with an issuer, or why not.
type Found = (String, Result<(Map<String, Value>, String), String>);

/// Asks for everything. The error lists every place and why there is nothing to be used.
pub async fn survey(subject: &Subject) -> Result<Survey, Vec<Miss>> {
    let inquirer = Inquirer::new(subject.ca.clone(), fields(subject.public.as_ref()));
    let mut found = look(subject, &inquirer, well_known::candidates(subject.upstream.path())).await;
    let Some(at) = found.iter().position(|(_, found)| found.is_ok()) else {
        let miss = |(place, found): Found| Miss { place, why: found.err().unwrap_or_default() };
        return Err(found.into_iter().map(miss).collect());
    };
    let (place, read) = found.remove(at);
    let Ok((metadata, issuer)) = read else { return Err(Vec::new()) };
    let expected = Url::parse(&issuer).map(|issuer| well_known::of_issuer(issuer.path()));
    let mut further: Vec<String> = expected.into_iter().flatten().collect();
    further.retain(|one| *one != place && !found.iter().any(|(asked, _)| asked == one));
    found.extend(look(subject, &inquirer, further).await);
    let mut places = vec![place];
    let same = |(_, found): &Found| found.as_ref().is_ok_and(|(_, other)| *other == issuer);
    places.extend(found.into_iter().filter(same).map(|(place, _)| place));
    let no_keys = no_keys(subject, &inquirer, &metadata).await;
    Ok(Survey { metadata, places, no_keys })
}

/// Asks for metadata at these paths, at once.
async fn look(subject: &Subject, inquirer: &Inquirer, places: Vec<String>) -> Vec<Found> {
    let mut asking = JoinSet::new();
    for (order, place) in places.into_iter().enumerate() {
        let (url, inquirer) = (at(&subject.upstream, &place), inquirer.clone());
        asking.spawn(async move {
            let metadata = inquirer.metadata(&url).await.map_err(|error| error.to_string());
            let found = metadata.and_then(|metadata| {
                let issuer = metadata.get("issuer").and_then(Value::as_str).map(str::to_owned);
                let issuer = issuer.ok_or("it has no `issuer` that is a text")?;
                Ok((metadata, issuer))
            });
            (order, (place, found))
        });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, found)| found).collect()
}

/// Whether the upstream has its keys at the path that its metadata name.
async fn no_keys(
    subject: &Subject,
    inquirer: &Inquirer,
    metadata: &Map<String, Value>,
) -> Option<KeyError> {
    let named = Url::parse(metadata.get("jwks_uri")?.as_str()?).ok()?;
    let mut url = at(&subject.upstream, named.path());
    url.set_query(named.query());
    match inquirer.document(&url).await {
        Ok(seen) => KeySet::from_jwks(&seen.body).err().map(KeyError::from),
        Err(error) => Some(error),
    }
}

fn at(upstream: &Url, path: &str) -> Url {
    let mut url = upstream.clone();
    url.set_path(path);
    url
}

/// What the identity provider is told by Cambio of a client that calls it by this URL.
pub(super) fn fields(public: Option<&Url>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let Some((public, host)) = public.and_then(|public| Some((public, host(public)?))) else {
        return fields;
    };
    let Ok(mut request) = RequestHeader::build("GET", b"/", None) else { return fields };
    if request.insert_header(HOST, &host).is_ok() {
        let client = Client { address: None, is_tls: public.scheme() == "https" };
        fields.extend(forwarding_fields(&request, client));
        fields.insert(HOST, host);
    }
    fields
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", printable(&self.place), self.why)
    }
}
