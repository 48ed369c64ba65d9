//! Introspection and revocation of what was minted here: the upstream says who calls, we say what
//! becomes of the token.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::answer::Answer;
use super::asking::{Asking, Question, Reply};
use super::authentication::Calling;
use super::client_probe::{Belief, ClientProbe};
use super::generation::Shared;
use super::standing;
use super::token_endpoint::decision_id;
use crate::clock;
use crate::config::{Config, Endpoints, Upstream};
use crate::exchange::client::ClientError;
use crate::exchange::credentials::Credentials;
use crate::exchange::error::{Failure, Reason, Refusal};
use crate::exchange::family::End;
use crate::exchange::inquiry::{Caller, Inquiry, InquiryRecord, Purpose, Said};
use crate::exchange::issued::{AccessToken, Inactive, Owned, Suspected};
use crate::exchange::vouching::{Attempt, Unvouched};
use crate::store::StoreError;
use crate::telemetry::audit::{self, Inquired};
use crate::telemetry::metrics::{AnsweredBy, Metrics};

/// How the upstream is asked, and what is known of its clients.
#[derive(Debug)]
pub struct Inquiries {
    pub asking: Arc<Asking>,
    pub probe: ClientProbe,
    endpoints: Endpoints,
    issuer: String,
}

/// A request about a token that could be ours.
#[derive(Debug)]
pub struct Received<'a> {
    pub purpose: Purpose,
    pub inquiry: Inquiry,
    pub calling: Calling<'a>,
    /// What the upstream is asked.
    pub question: Question,
}

impl Inquiries {
    /// `None` where no client can be built: without certificate authorities of the system.
    pub fn new(config: &Config, shared: &Shared) -> Option<Self> {
        let metrics = &shared.metrics;
        let asking = Arc::new(Asking::new(&config.upstream, metrics)?);
        let endpoints = config.endpoints.clone();
        let issuer = config.policy.authorization_server().to_owned();
        let guesses = &shared.authentication.guesses;
        let belief = Belief::default();
        let probe = ClientProbe::new(&asking, metrics, guesses, &endpoints, &issuer, belief);
        Some(Self { asking, probe, endpoints, issuer })
    }

    /// Whether they are the same under this configuration.
    pub fn are_of(&self, config: &Config) -> bool {
        let Upstream { url, ca, connect_timeout, read_timeout } = self.asking.upstream();
        let upstream = &config.upstream;
        *url == upstream.url
            && *ca == upstream.ca
            && *connect_timeout == upstream.connect_timeout
            && *read_timeout == upstream.read_timeout
            && self.endpoints == config.endpoints
            && self.issuer == config.policy.authorization_server()
    }

    /// Asks the upstream, decides, audits and counts.
    pub async fn answer(
        &self,
        config: &Config,
        shared: &Shared,
        received: Received<'_>,
    ) -> pingora::Result<Answer> {
        let Received { purpose, inquiry, calling, question } = received;
        let reply = self.asking.ask(question, None).await;
        let said = reply
            .as_ref()
            .map_or(Said::Down, |reply| Said::of(purpose, reply.head.status.as_u16(), &reply.body));
        let credentials = Credentials::present(calling.authorization, &inquiry.form);
        let mut case = Case {
            purpose,
            config,
            shared,
            probe: &self.probe,
            caller: credentials.as_ref().ok().and_then(Caller::of),
            inquiry: &inquiry,
            calling,
            credentials,
            record: InquiryRecord::default(),
        };
        let ending = match purpose {
            Purpose::Introspection => case.introspect(said).await,
            Purpose::Revocation => case.revoke(said).await,
        };
        case.conclude(ending, reply)
    }
}

/// What the caller gets.
enum Given {
    /// What the upstream said.
    Upstreams,
    /// The claims of a token that is active.
    Shown(Map<String, Value>),
    /// That the token is not active.
    Hidden,
    /// That the token counts no more.
    Revoked,
}

/// What becomes of an inquiry, and what is to be audited of it: success, or why there was none.
struct Ending {
    given: Given,
    noted: Option<Result<(), Reason>>,
}

impl Ending {
    /// It is between the caller and the upstream.
    const UPSTREAMS: Self = Self { given: Given::Upstreams, noted: None };

    const fn noted(given: Given, noted: Result<(), Reason>) -> Self {
        Self { given, noted: Some(noted) }
    }
}

/// One inquiry on its way.
struct Case<'a> {
    purpose: Purpose,
    config: &'a Config,
    shared: &'a Shared,
    probe: &'a ClientProbe,
    inquiry: &'a Inquiry,
    calling: Calling<'a>,
    credentials: Result<Credentials, ClientError>,
    caller: Option<Caller>,
    record: InquiryRecord,
}

/// What a probe says of the caller.
enum Probed {
    Right,
    /// Nothing, and nothing can be learnt by it.
    Unclear,
    /// Nothing for now.
    Silent,
}

impl Case<'_> {
    async fn introspect(&mut self, said: Said) -> Result<Ending, Refusal> {
        match said {
            Said::Down => Err(Failure::CallerUnproven.into()),
            Said::Other | Said::Revoked => Ok(Ending::UPSTREAMS),
            // What the upstream holds of a token does not count where we know better.
            Said::Active => Ok(match self.token().await? {
                Ok(token) => match self.standing(&token).await? {
                    Ok(()) => Ending::UPSTREAMS,
                    Err(why) => self.hidden(why),
                },
                Err(_) => Ending::UPSTREAMS,
            }),
            Said::Inactive => {
                let Some(client_id) = self.caller_with_secret() else {
                    return Ok(Ending::UPSTREAMS);
                };
                // Nobody is asked about a caller who would be shown nothing.
                if self.look(&client_id).await?.is_err() || !self.is_believed().await? {
                    return Ok(Ending::UPSTREAMS);
                }
                self.record.note_client(&client_id, &self.config.policy);
                // It may have ended while the caller was asked about.
                Ok(match self.look(&client_id).await? {
                    Ok(shown) => Ending::noted(Given::Shown(shown), Ok(())),
                    Err(_) => Ending::UPSTREAMS,
                })
            }
            Said::TokenUnsupported => {
                let Some(client_id) = self.caller_with_secret() else {
                    return Ok(Ending::UPSTREAMS);
                };
                match self.probe().await? {
                    Probed::Right => self.show(&client_id).await,
                    Probed::Unclear | Probed::Silent => Ok(Ending::UPSTREAMS),
                }
            }
            Said::NoEndpoint => {
                let client_id = self.authenticate().await?;
                if !self.caller.as_ref().is_some_and(|caller| caller.has_secret) {
                    return Err(ClientError::AuthMissing.into());
                }
                self.show(&client_id).await
            }
        }
    }

    async fn revoke(&mut self, said: Said) -> Result<Ending, Refusal> {
        match said {
            Said::Down => Err(Failure::CallerUnproven.into()),
            Said::Other | Said::Active | Said::Inactive => Ok(Ending::UPSTREAMS),
            Said::Revoked => {
                let Some(caller) = self.caller.clone() else { return Ok(Ending::UPSTREAMS) };
                let Some(client_id) = caller.with_secret_or_public(&self.config.policy) else {
                    return Ok(Ending::UPSTREAMS);
                };
                // Where there is no secret there is nothing to try.
                if caller.has_secret {
                    // Nobody is asked about a caller who would end nothing.
                    if let Err(reason) = self.endable(client_id).await? {
                        return Ok(Ending::noted(Given::Upstreams, Err(reason)));
                    }
                    if !self.is_believed().await? {
                        return Ok(Ending::UPSTREAMS);
                    }
                }
                self.end(client_id, Given::Upstreams).await
            }
            Said::TokenUnsupported => {
                let Some(caller) = self.caller.clone() else { return Ok(Ending::UPSTREAMS) };
                let Some(client_id) = caller.with_secret_or_public(&self.config.policy) else {
                    return Ok(Ending::UPSTREAMS);
                };
                // Where there is no secret there is nothing to try.
                if caller.has_secret && !matches!(self.probe().await?, Probed::Right) {
                    return Ok(Ending::UPSTREAMS);
                }
                self.end(client_id, Given::Revoked).await
            }
            Said::NoEndpoint => {
                let client_id = self.authenticate().await?;
                self.end(&client_id, Given::Revoked).await
            }
        }
    }

    fn caller_with_secret(&self) -> Option<String> {
        self.caller.as_ref()?.with_secret().map(str::to_owned)
    }

    /// Has the upstream try the caller's credentials with a token that it does not refuse to look
    /// at.
    async fn probe(&self) -> Result<Probed, Refusal> {
        let credentials = self.credentials.as_ref().map_err(|error| *error)?;
        let Some(attempt) = Attempt::of(credentials) else { return Ok(Probed::Unclear) };
        match self
            .probe
            .of_caller(&attempt, self.calling.guess(self.config), Some(self.purpose))
            .await
        {
            Ok(_) => Ok(Probed::Right),
            Err(why @ (Unvouched::Wrong | Unvouched::Throttled)) => Err(why.into()),
            Err(Unvouched::Refused | Unvouched::Unprovable | Unvouched::Open) => {
                Ok(Probed::Unclear)
            }
            Err(Unvouched::Silent) => Ok(Probed::Silent),
        }
    }

    /// Whether a 200 of the upstream says who calls: some say it to any secret, and some know the
    /// caller by something else of the request. Where that can't be learnt for now, nobody is told
    /// that a token is over which is not.
    async fn is_believed(&self) -> Result<bool, Refusal> {
        match self.probe().await? {
            Probed::Right => Ok(true),
            Probed::Unclear => Ok(false),
            Probed::Silent => Err(Failure::CallerUnproven.into()),
        }
    }

    /// Holds the caller to our own list of applications.
    async fn authenticate(&self) -> Result<String, Refusal> {
        let authentication = &self.shared.authentication;
        let (probe, form) = (Some(self.probe), &self.inquiry.form);
        let client = authentication.of(self.config, probe, form, self.calling).await?;
        Ok(client.client_id().to_owned())
    }

    /// What this client gets of the token, where we alone answer.
    async fn show(&mut self, client_id: &str) -> Result<Ending, Refusal> {
        self.record.note_client(client_id, &self.config.policy);
        Ok(match self.look(client_id).await? {
            Ok(shown) => Ending::noted(Given::Shown(shown), Ok(())),
            Err(why) => self.hidden(why),
        })
    }

    fn hidden(&self, why: Inactive) -> Ending {
        Ending::noted(Given::Hidden, Err(self.reason(why)))
    }

    fn reason(&self, why: Inactive) -> Reason {
        why.reason(matches!(self.inquiry.suspected, Suspected::Refresh(_)))
    }

    /// The claims of the token, where it is active and this client's business.
    async fn look(
        &mut self,
        client_id: &str,
    ) -> Result<Result<Map<String, Value>, Inactive>, StoreError> {
        let policy = &self.config.policy;
        let token = match self.token().await? {
            Ok(token) => token,
            Err(why) => return Ok(Err(why)),
        };
        if !token.is_visible_to(client_id, policy) {
            return Ok(Err(Inactive::NotForCaller));
        }
        Ok(self.standing(&token).await?.map(|()| token.introspection(policy)))
    }

    /// Ends the token, where it is this client's. What is kept of that is durable.
    async fn end(&mut self, client_id: &str, given: Given) -> Result<Ending, Refusal> {
        self.record.note_client(client_id, &self.config.policy);
        let token = match self.endable(client_id).await? {
            Ok(token) => token,
            Err(reason) => return Ok(Ending::noted(given, Err(reason))),
        };
        let store = self.shared.store.get()?;
        match &token {
            Owned::Access(token) => {
                store.revoke_access_token(token.jwt_id(), token.expires_at).await?;
            }
            // RFC 7009 §2.1: the access tokens of the same grant end with it. A family whose time
            // was over already ends once more, for those of its access tokens that still live.
            Owned::Refresh(_, family) => store.end_family(family.id, End::Revoked).await?,
        }
        Ok(Ending::noted(given, Ok(())))
    }

    /// The token, where it is this client's and there is something to end.
    async fn endable(&mut self, client_id: &str) -> Result<Result<Owned, Reason>, StoreError> {
        let token = match self.token().await? {
            Ok(token) => token,
            Err(why) => return Ok(Err(self.reason(why))),
        };
        if token.client_id() != client_id {
            return Ok(Err(Reason::RefreshOtherClient));
        }
        if matches!(&token, Owned::Access(token) if token.is_expired(clock::now())) {
            return Ok(Err(Reason::Expired));
        }
        Ok(Ok(token))
    }

    /// The token, if it is ours beyond doubt.
    async fn token(&mut self) -> Result<Result<Owned, Inactive>, StoreError> {
        let token = match &self.inquiry.suspected {
            Suspected::Refresh(None) | Suspected::Opaque(None) | Suspected::Jwt(None) => {
                Err(Inactive::Forged)
            }
            Suspected::Refresh(Some(token)) => {
                let family = self.shared.store.get()?.family(token.family()).await?;
                Owned::refresh(token.clone(), family, clock::now())
            }
            Suspected::Opaque(Some(id)) => {
                match self.shared.store.get()?.opaque_claims(id).await? {
                    None => Err(Inactive::Unknown),
                    Some(claims) => {
                        let token = AccessToken::from_kept(&claims).ok_or(StoreError::Foreign)?;
                        Ok(Owned::Access(token))
                    }
                }
            }
            Suspected::Jwt(Some(token)) => Ok(Owned::Access(token.clone())),
        };
        if let Ok(token) = &token {
            self.record.note_token(token, &self.config.policy);
        }
        Ok(token)
    }

    /// Whether the token still holds.
    async fn standing(&self, token: &Owned) -> Result<Result<(), Inactive>, StoreError> {
        let store = self.shared.store.get()?;
        let now = clock::now();
        match token {
            Owned::Refresh(token, family) => {
                let cut_off = store.cut_off_of(&family.descent().ancestors).await?;
                Ok(family.standing(token, cut_off, now))
            }
            Owned::Access(token) => standing::of_access(store.as_ref(), token, now).await,
        }
    }

    fn conclude(
        self,
        ending: Result<Ending, Refusal>,
        reply: Option<Reply>,
    ) -> pingora::Result<Answer> {
        let decision = decision_id();
        let noted = match &ending {
            Ok(ending) => ending.noted.map(|noted| match noted {
                Ok(()) => Inquired::Granted,
                Err(reason) => Inquired::Denied(reason),
            }),
            Err(refusal) => Some(Inquired::Refused(*refusal)),
        };
        if let Some(noted) = noted {
            audit::inquiry(self.purpose, &decision, &self.record, noted);
        }
        let is_upstreams = matches!(&ending, Ok(Ending { given: Given::Upstreams, .. }));
        let has_acted = noted == Some(Inquired::Granted);
        let by = if is_upstreams && !has_acted { AnsweredBy::Upstream } else { AnsweredBy::Cambio };
        count(&self.shared.metrics, self.purpose, by);
        Ok(match ending {
            Ok(Ending { given: Given::Upstreams, .. }) => match reply {
                Some(reply) => reply.relayed()?,
                None => Answer::refused(&Refusal::from(Failure::Internal).outcome(), &decision),
            },
            Ok(Ending { given: Given::Shown(token), .. }) => {
                Answer::introspected(Some(&token), &decision)
            }
            Ok(Ending { given: Given::Hidden, .. }) => Answer::introspected(None, &decision),
            Ok(Ending { given: Given::Revoked, .. }) => Answer::revoked(&decision),
            Err(refusal) => Answer::refused(&refusal.outcome(), &decision),
        })
    }
}

/// Counts one request to either endpoint.
pub fn count(metrics: &Metrics, purpose: Purpose, by: AnsweredBy) {
    match purpose {
        Purpose::Introspection => metrics.introspection(by),
        Purpose::Revocation => metrics.revocation(by),
    }
}
