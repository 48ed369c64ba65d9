//! What every store does: each sentence of [`Store`], asked of one that other checks and other
//! tests may be using at the same time.

use std::future::Future;
use std::sync::Arc;

use cambio::clock;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::{End, Family, Presented};
use cambio::exchange::grant::CopiedClaim;
use cambio::exchange::issued::AccessToken;
use cambio::exchange::mint::Kept;
use cambio::exchange::token_id::{FamilyId, IssuerTag};
use cambio::store::{Hit, Store, StoreError};
use serde_json::json;
use tokio::task::JoinSet;

use super::support::{
    HOUR, SETTINGS, begin, ended, entropy, family, grant, kept, name, once, opaque, opaque_of,
    random, rotate,
};

type Shared = Arc<dyn Store>;

/// Everything that holds for every store. It is closed in the end.
pub async fn whole(store: Shared) {
    store.ping().await.unwrap();
    keeps_what_is_issued(&store).await;
    keeps_claims_as_they_stand(&store).await;
    rotates_from_one_to_the_next(&store).await;
    rotates_nothing_else(&store).await;
    rotates_nothing_that_has_ended(&store).await;
    lets_one_of_many_rotations_through(&store).await;
    lets_no_rotation_through_after_the_end(&store).await;
    ends_a_family(&store).await;
    keeps_opaque_tokens_by_their_whole_name(&store).await;
    revokes_access_tokens(&store).await;
    remembers_once(&store).await;
    lets_one_of_many_remember(&store).await;
    counts_what_a_cut_off_hits(&store).await;
    keeps_the_furthest_cut_off(&store).await;
    finds_the_furthest_of_several_ancestors(&store).await;
    store.ping().await.unwrap();
    is_closed_for_good(&store).await;
}

/// Runs many of these at once.
async fn race<T: Send + 'static, F>(count: usize, one: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for at in 0..count {
        tasks.spawn(one(at));
    }
    tasks.join_all().await
}

/// Also where a name in a copied claim has a meaning of its own to some reader.
async fn keeps_claims_as_they_stand(store: &Shared) {
    let mut granted = grant();
    for (at, inner) in [json!("\""), json!("\"admin\""), json!(1)].into_iter().enumerate() {
        let value = json!({ "in": [{ "$serde_json::private::RawValue": inner }] });
        let name = format!("odd-{at}");
        granted.claims.push(CopiedClaim { minted: name.clone(), subject: name, value });
    }
    let family = begin(granted).0;
    let token = opaque_of(&family);
    store.issue(&kept(Some(&family), Some(&token))).await.unwrap();
    assert!(store.family(family.id).await.unwrap() == Some(family));
    let claims = store.opaque_claims(&token.id).await.unwrap().unwrap();
    let token = AccessToken::from_kept(&claims).unwrap().introspection();
    assert_eq!(token["odd-1"]["in"][0]["$serde_json::private::RawValue"], "\"admin\"");
}

async fn keeps_what_is_issued(store: &Shared) {
    let first = family();
    assert_eq!(store.family(first.id).await, Ok(None));
    let token = opaque_of(&first);
    assert_eq!(store.opaque_claims(&token.id).await, Ok(None));
    store.issue(&kept(Some(&first), Some(&token))).await.unwrap();
    assert_eq!(store.family(first.id).await, Ok(Some(first.clone())));
    assert_eq!(store.opaque_claims(&token.id).await, Ok(Some(token.claims.clone())));

    let alone = family();
    store.issue(&kept(Some(&alone), None)).await.unwrap();
    assert_eq!(store.family(alone.id).await, Ok(Some(alone)));

    // Of an application that may not refresh, or for the preceding token of a family.
    let token = opaque(&grant(), None, clock::now().plus(HOUR));
    store.issue(&kept(None, Some(&token))).await.unwrap();
    assert_eq!(store.opaque_claims(&token.id).await, Ok(Some(token.claims)));

    store.issue(&Kept::default()).await.unwrap();
    assert_eq!(store.family(first.id).await, Ok(Some(first)));
    assert_eq!(store.family(FamilyId(random())).await, Ok(None));
}

async fn rotates_from_one_to_the_next(store: &Shared) {
    let (mut family, mut token) = begin(grant());
    store.issue(&kept(Some(&family), None)).await.unwrap();
    for sequence in 1..=5 {
        let (rotated, successor) = rotate(&family, &token);
        let access = opaque_of(&rotated);
        assert_eq!(store.rotate(&kept(Some(&rotated), Some(&access))).await, Ok(true));
        let found = store.family(family.id).await.unwrap().unwrap();
        assert_eq!(found, rotated);
        assert_eq!(found.sequence, sequence);
        assert_eq!(found.recognise(&successor, clock::now()), Presented::Current);
        assert_eq!(found.recognise(&token, clock::now()), Presented::Preceding(successor.clone()));
        assert_eq!(store.opaque_claims(&access.id).await, Ok(Some(access.claims)));
        (family, token) = (rotated, successor);
    }
}

/// That the rotation is refused, and neither the family nor the token is kept.
async fn refuses(store: &Shared, rotated: &Family, instead: Option<&Family>) {
    let access = opaque_of(rotated);
    assert_eq!(store.rotate(&kept(Some(rotated), Some(&access))).await, Ok(false));
    assert_eq!(store.family(rotated.id).await, Ok(instead.cloned()));
    assert_eq!(store.opaque_claims(&access.id).await, Ok(None));
}

async fn rotates_nothing_else(store: &Shared) {
    let (first, token) = begin(grant());
    let (second, successor) = rotate(&first, &token);
    let (third, _) = rotate(&second, &successor);

    refuses(store, &second, None).await;
    refuses(store, &first, None).await;
    store.issue(&kept(Some(&first), None)).await.unwrap();
    // One too far, and the one that is there.
    refuses(store, &third, Some(&first)).await;
    refuses(store, &first, Some(&first)).await;
    assert_eq!(store.rotate(&kept(Some(&second), None)).await, Ok(true));
    // Another of the same number.
    refuses(store, &rotate(&first, &token).0, Some(&second)).await;
    refuses(store, &first, Some(&second)).await;
    assert_eq!(store.rotate(&kept(Some(&third), None)).await, Ok(true));
    refuses(store, &second, Some(&third)).await;
}

async fn rotates_nothing_that_has_ended(store: &Shared) {
    for end in [End::Expired, End::Revoked] {
        let (first, token) = begin(grant());
        store.issue(&kept(Some(&first), None)).await.unwrap();
        store.end_family(first.id, end).await.unwrap();
        let ended = ended(&first, end);
        refuses(store, &rotate(&first, &token).0, Some(&ended)).await;
    }
}

async fn lets_one_of_many_rotations_through(store: &Shared) {
    let (mut family, mut token) = begin(grant());
    store.issue(&kept(Some(&family), None)).await.unwrap();
    for _ in 0..20 {
        let rotated: Vec<_> = (0..64).map(|_| rotate(&family, &token)).collect();
        let access: Vec<_> = rotated.iter().map(|(family, _)| opaque_of(family)).collect();
        let through = race(64, |at| {
            let store = Arc::clone(store);
            let kept = kept(Some(&rotated[at].0), Some(&access[at]));
            async move { (at, store.rotate(&kept).await.unwrap()) }
        })
        .await;
        let through: Vec<_> = through.iter().filter(|(_, through)| *through).collect();
        let [(winner, _)] = through[..] else { panic!("{} rotations", through.len()) };
        let found = store.family(family.id).await.unwrap().unwrap();
        assert!(found == rotated[*winner].0, "another one is kept than the one that was told so");
        for (at, access) in access.iter().enumerate() {
            let is_kept = store.opaque_claims(&access.id).await.unwrap().is_some();
            assert_eq!(is_kept, at == *winner);
        }
        (family, token) = rotated.into_iter().nth(*winner).unwrap();
    }
}

/// After a revocation was answered no refresh succeeds, and one that did before is of the family
/// that has ended.
async fn lets_no_rotation_through_after_the_end(store: &Shared) {
    for _ in 0..20 {
        let (first, token) = begin(grant());
        store.issue(&kept(Some(&first), None)).await.unwrap();
        let rotated: Vec<_> = (0..16).map(|_| rotate(&first, &token).0).collect();
        let ending = {
            let (store, id) = (Arc::clone(store), first.id);
            tokio::spawn(async move { store.end_family(id, End::Revoked).await })
        };
        let through = race(16, |at| {
            let (store, kept) = (Arc::clone(store), kept(Some(&rotated[at]), None));
            async move { store.rotate(&kept).await.unwrap() }
        })
        .await;
        ending.await.unwrap().unwrap();
        let through = through.iter().filter(|through| **through).count();
        assert!(through <= 1, "{through} rotations");
        let found = store.family(first.id).await.unwrap().unwrap();
        assert_eq!(found.ended, Some(End::Revoked));
        assert_eq!(found.sequence, through as u64);
        let (next, _) = rotate(&found, &token);
        refuses(store, &next, Some(&found)).await;
    }
}

async fn ends_a_family(store: &Shared) {
    let unknown = FamilyId(random());
    let ends = [
        (&[End::Expired][..], End::Expired),
        (&[End::Revoked], End::Revoked),
        (&[End::Expired, End::Expired], End::Expired),
        (&[End::Expired, End::Revoked], End::Revoked),
        (&[End::Revoked, End::Expired], End::Revoked),
        (&[End::Revoked, End::Revoked], End::Revoked),
    ];
    for (ends, last) in ends {
        let (family, bystander) = (family(), family());
        store.issue(&kept(Some(&family), None)).await.unwrap();
        store.issue(&kept(Some(&bystander), None)).await.unwrap();
        for end in ends {
            store.end_family(family.id, *end).await.unwrap();
        }
        let id = family.id;
        assert_eq!(store.family(id).await, Ok(Some(ended(&family, last))));
        assert_eq!(store.family(bystander.id).await, Ok(Some(bystander)));
        store.end_family(unknown, last).await.unwrap();
        assert_eq!(store.family(unknown).await, Ok(None));
    }
}

async fn keeps_opaque_tokens_by_their_whole_name(store: &Shared) {
    let family = family();
    let tokens = [opaque_of(&family), opaque_of(&family)];
    store.issue(&kept(Some(&family), Some(&tokens[0]))).await.unwrap();
    store.issue(&kept(None, Some(&tokens[1]))).await.unwrap();
    for token in &tokens {
        assert_eq!(store.opaque_claims(&token.id).await, Ok(Some(token.claims.clone())));
    }
    let mut elsewhere = tokens[0].id;
    elsewhere.locator = random();
    assert_eq!(store.opaque_claims(&elsewhere).await, Ok(None));
    let mut other = tokens[0].id;
    other.hash[31] ^= 1;
    assert_eq!(store.opaque_claims(&other).await, Ok(None));
}

async fn revokes_access_tokens(store: &Shared) {
    let later = clock::now().plus(HOUR);
    let long = name(&"x".repeat(10_000));
    for jwt_id in [&name("jti"), &name(""), &name("a:b\n{c} \u{e9}\0"), &long] {
        assert_eq!(store.is_access_token_revoked(jwt_id).await, Ok(false));
        for _ in 0..2 {
            store.revoke_access_token(jwt_id, later).await.unwrap();
            assert_eq!(store.is_access_token_revoked(jwt_id).await, Ok(true));
        }
        assert_eq!(store.is_access_token_revoked(&format!("{jwt_id} ")).await, Ok(false));
        // An earlier time does not make it forgotten earlier.
        store.revoke_access_token(jwt_id, clock::now()).await.unwrap();
        assert_eq!(store.is_access_token_revoked(jwt_id).await, Ok(true));
    }
}

async fn remembers_once(store: &Shared) {
    let (first, second) = (once(), once());
    assert_eq!(store.remember_once(&first).await, Ok(true));
    assert_eq!(store.remember_once(&first).await, Ok(false));
    assert_eq!(store.remember_once(&second).await, Ok(true));
    assert_eq!(store.remember_once(&first).await, Ok(false));
    assert_eq!(store.remember_once(&second).await, Ok(false));
}

async fn lets_one_of_many_remember(store: &Shared) {
    for _ in 0..20 {
        let once = once();
        let first = race(64, |_| {
            let store = Arc::clone(store);
            async move { store.remember_once(&once).await.unwrap() }
        })
        .await;
        assert_eq!(first.iter().filter(|first| **first).count(), 1);
    }
}

async fn counts_what_a_cut_off_hits(store: &Shared) {
    let mut granted = grant();
    let now = granted.granted_at;
    // Whatever an issuer says in a claim that is copied.
    let odd = json!({ "$serde_json::private::RawValue": "\"" });
    granted.claims.push(CopiedClaim { minted: "odd".into(), subject: "odd".into(), value: odd });
    let issue = async |family: &Family, token| {
        store.issue(&kept(Some(family), token)).await.unwrap();
    };
    let hit = async |ancestor: Ancestor, before| {
        store.cut_off(&CutOff { ancestor, before }, now).await.unwrap()
    };
    let of = |grant| begin(grant).0;

    // Two families that live, one with a token.
    let with_token = of(granted.clone());
    let token = opaque_of(&with_token);
    issue(&with_token, Some(&token)).await;
    issue(&of(granted.clone()), None).await;
    // A token of no family.
    let token = opaque(&granted, None, now.plus(HOUR));
    store.issue(&kept(None, Some(&token))).await.unwrap();
    // What does not count: ended, expired, unused for too long, granted later, another's.
    for end in [End::Expired, End::Revoked] {
        let ended = of(granted.clone());
        issue(&ended, None).await;
        store.end_family(ended.id, end).await.unwrap();
    }
    let long_ago =
        cambio::exchange::grant::Grant { granted_at: now.minus(HOUR), ..granted.clone() };
    let short = cambio::exchange::family::RefreshTokenSettings { lifetime: HOUR, ..SETTINGS };
    issue(&Family::begin(long_ago.clone(), &short, now.plus(HOUR), &entropy()).0, None).await;
    let idle = cambio::exchange::family::RefreshTokenSettings { idle: Some(HOUR), ..SETTINGS };
    issue(&Family::begin(long_ago, &idle, now.plus(HOUR), &entropy()).0, None).await;
    let later = cambio::exchange::grant::Grant { granted_at: now.plus(HOUR), ..granted.clone() };
    let later = of(later);
    let token = opaque(&later.grant, Some(later.id), now.plus(2 * HOUR));
    issue(&later, Some(&token)).await;
    let other = family();
    let token = opaque_of(&other);
    issue(&other, Some(&token)).await;
    let token = opaque(&granted, None, now);
    store.issue(&kept(None, Some(&token))).await.unwrap();

    let both = Hit { families: 2, opaque_access_tokens: 2 };
    let nothing = Hit { families: 0, opaque_access_tokens: 0 };
    assert_eq!(hit(Ancestor::Subject(granted.subject.clone()), now).await, both);
    assert_eq!(hit(Ancestor::Client(granted.client_id.clone()), now).await, both);
    assert_eq!(hit(Ancestor::Issuer(IssuerTag::of(&granted.issuer)), now).await, both);
    // Nobody has these.
    assert_eq!(hit(Ancestor::Subject(granted.client_id.clone()), now).await, nothing);
    assert_eq!(hit(Ancestor::Client(granted.subject.clone()), now).await, nothing);
    assert_eq!(hit(Ancestor::Subject(granted.subject), now.minus(HOUR)).await, nothing);
}

async fn keeps_the_furthest_cut_off(store: &Shared) {
    let now = clock::now();
    let text = name("who");
    let all = [
        Ancestor::Subject(text.clone()),
        Ancestor::Client(text.clone()),
        Ancestor::Issuer(IssuerTag::of(&text)),
    ];
    for (at, ancestor) in all.iter().enumerate() {
        // Of the same name, and of another kind.
        for other in &all[at..] {
            assert_eq!(store.cut_off_of(std::slice::from_ref(other)).await, Ok(None));
        }
        for (before, furthest) in
            [(now, now), (now.minus(HOUR), now), (now.plus(HOUR), now.plus(HOUR))]
        {
            let cut_off = CutOff { ancestor: ancestor.clone(), before };
            store.cut_off(&cut_off, now).await.unwrap();
            let found = store.cut_off_of(std::slice::from_ref(ancestor)).await;
            assert_eq!(found, Ok(Some(furthest)));
        }
    }
}

async fn finds_the_furthest_of_several_ancestors(store: &Shared) {
    let now = clock::now();
    let family = family();
    let [subject, client, issuer] = family.descent().ancestors;
    let unknown = Ancestor::Subject(name("unknown"));
    assert_eq!(store.cut_off_of(&[]).await, Ok(None));
    let all = [subject.clone(), client.clone(), issuer.clone()];
    assert_eq!(store.cut_off_of(&all).await, Ok(None));
    for (ancestor, before) in
        [(&client, now), (&issuer, now.minus(HOUR)), (&subject, now.plus(HOUR))]
    {
        let cut_off = CutOff { ancestor: ancestor.clone(), before };
        store.cut_off(&cut_off, now).await.unwrap();
    }
    let sets: [(&[&Ancestor], _); 6] = [
        (&[&subject, &client, &issuer], Some(now.plus(HOUR))),
        (&[&issuer, &client, &subject], Some(now.plus(HOUR))),
        (&[&issuer, &client], Some(now)),
        (&[&client, &issuer, &unknown], Some(now)),
        (&[&unknown, &issuer], Some(now.minus(HOUR))),
        (&[&unknown], None),
    ];
    for (ancestors, furthest) in sets {
        let ancestors: Vec<_> = ancestors.iter().copied().cloned().collect();
        assert_eq!(store.cut_off_of(&ancestors).await, Ok(furthest));
    }
}

async fn is_closed_for_good(store: &Shared) {
    let family = family();
    let token = opaque_of(&family);
    store.issue(&kept(Some(&family), Some(&token))).await.unwrap();
    store.close().await;
    for _ in 0..2 {
        let closed = StoreError::Closed;
        let ancestor = family.descent().ancestors[0].clone();
        let cut_off = CutOff { ancestor: ancestor.clone(), before: clock::now() };
        assert_eq!(store.issue(&kept(None, Some(&token))).await, Err(closed));
        assert_eq!(store.family(family.id).await, Err(closed));
        assert_eq!(store.rotate(&kept(Some(&family), None)).await, Err(closed));
        assert_eq!(store.end_family(family.id, End::Revoked).await, Err(closed));
        assert_eq!(store.opaque_claims(&token.id).await, Err(closed));
        assert_eq!(store.revoke_access_token("jti", clock::now()).await, Err(closed));
        assert_eq!(store.is_access_token_revoked("jti").await, Err(closed));
        assert_eq!(store.remember_once(&once()).await, Err(closed));
        assert_eq!(store.cut_off(&cut_off, clock::now()).await, Err(closed));
        assert_eq!(store.cut_off_of(&[ancestor]).await, Err(closed));
        assert_eq!(store.ping().await, Err(closed));
        store.close().await;
    }
}
