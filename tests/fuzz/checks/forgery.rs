//! Signatures that nobody made: no key holds one of them to be its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::VerificationKey;

/// What the signatures are said to be over.
const INPUT: &[u8] = b"e30.e30";

/// Asserts that a key takes no signature that can be had without its private half: numbers such as
/// 0 and 1, which satisfy the equations of a weak key or a careless verifier.
pub fn refused_by(key: &VerificationKey) {
    for algorithm in Algorithm::ALL {
        for signature in signatures(algorithm) {
            let encoded = URL_SAFE_NO_PAD.encode(&signature);
            assert!(!key.verifies(&encoded, INPUT, algorithm), "{algorithm}: {signature:02x?}");
        }
        assert!(!key.verifies("", INPUT, algorithm), "{algorithm}");
    }
}

/// Pairs of small numbers, each half as long as the algorithm wants it; or one number.
fn signatures(algorithm: Algorithm) -> Vec<Vec<u8>> {
    let halves = |size: usize| {
        let last = |byte: u8| [vec![0; size - 1], vec![byte]].concat();
        let first = |byte: u8| [vec![byte], vec![0; size - 1]].concat();
        let all = [last(0), last(1), first(1), vec![0xff; size]];
        let pairs = all.iter().flat_map(|r| all.iter().map(move |s| [&r[..], s].concat()));
        pairs.collect::<Vec<_>>()
    };
    match algorithm {
        // Zeros, as in CVE-2022-21449; and the neutral element, which satisfies the equation of an
        // Ed25519 key of small order.
        Algorithm::ES256 | Algorithm::EdDSA => halves(32),
        Algorithm::ES384 => halves(48),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => halves(128).into_iter().chain(halves(512)).collect(),
    }
}
