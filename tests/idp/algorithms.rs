//! A minted token of each algorithm verifies in other people's libraries, against the JWKS as served.

use cambio::jwt::algorithm::Algorithm;

use crate::apache::Apache;
use crate::relying::LIBRARIES;
use crate::software::run;
use crate::stage::{AUDIENCE, SigningKeys, Stage};

const SIGNING: [Algorithm; 7] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::EdDSA,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_of_each_algorithm_is_verified_by_others() {
    let mut keys = SigningKeys::generate(&SIGNING);
    let mut stage = Stage::set_with(&keys).await;
    let mut tokens = Vec::new();
    for algorithm in SIGNING {
        keys.move_to_front(algorithm);
        stage.reload(&keys).await;
        tokens.push(stage.exchange("alice").await);
    }
    let issuer = stage.issuer();
    let arguments: Vec<_> =
        [issuer.as_str(), AUDIENCE].into_iter().chain(tokens.iter().map(String::as_str)).collect();
    for library in LIBRARIES {
        let verified = run(library, &arguments);
        assert_eq!(verified.len(), SIGNING.len(), "{library}");
        for (verified, algorithm) in verified.iter().zip(SIGNING) {
            assert_eq!(verified["header"]["alg"], algorithm.as_str(), "{library}");
            assert_eq!(verified["header"]["kid"], keys.kid(algorithm), "{library}");
            assert_eq!(verified["claims"]["sub"], "alice", "{library}");
        }
    }
    let apache = Apache::start(&issuer).await;
    for (token, algorithm) in tokens.iter().zip(SIGNING) {
        // Its library does not know EdDSA, and must not take it for something else.
        let expected =
            if algorithm == Algorithm::EdDSA { Err(401) } else { Ok("alice".to_owned()) };
        assert_eq!(apache.lets_in(token).await, expected, "{algorithm}");
    }
}
