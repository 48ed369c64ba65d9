//! The rules for applications and their secrets.

use cambio::config::Severity;
use cambio::secret;

use super::config_support::{BASE, CANARY, changed, each, each_of, load};

#[test]
fn applications_keep_secrets_as_their_type_says() {
    const SECRET: &str = "client_secret: { env: PORTAL_SECRET }";
    const AT: &str = "applications[0].client_secret";
    const ENV_AT: &str = "applications[0].client_secret.env";
    const FILE_AT: &str = "applications[0].client_secret.file";
    const PHONE: &str = "client_id: phone";
    const ID_AT: &str = "applications[1].client_id";
    const TYPE: &str = "type: mobile";
    each(
        Severity::Fault,
        &[
            (PHONE, "client_id: §portal", ID_AT, "the same `client_id` stands on line 32"),
            (PHONE, "client_id: §téléphone", ID_AT, "printable ASCII"),
            (PHONE, "client_id: §123", ID_AT, "put it in quotes"),
            (PHONE, "client_id: §null", ID_AT, "nothing stands here"),
            (PHONE, "§client_id:", ID_AT, "nothing stands here"),
            (TYPE, "type: §single-page", "applications[1].type", "did you mean `single_page`?"),
            (TYPE, "§type: [mobile]", "applications[1].type", "text is expected"),
            (
                TYPE,
                "type: mobile\n    §client_secret: { env: PORTAL_SECRET }",
                "applications[1].client_secret",
                "is public and can't keep a secret",
            ),
            (
                TYPE,
                "type: single_page\n    §client_secret: { env: PORTAL_SECRET }",
                "applications[1].client_secret",
                "is public and can't keep a secret",
            ),
            (
                "client_id: phone\n    type: mobile",
                "§client_id: phone\n    type: standard_oidc",
                "applications[1]",
                "has no `client_secret`",
            ),
            (SECRET, "client_secret: §canary-7f3a", AT, "never stands in this file itself"),
            (
                SECRET,
                "client_secret: { §canary-7f3a: x, env: PORTAL_SECRET }",
                AT,
                "unknown key; known here: env, file, hash",
            ),
            (SECRET, "§client_secret: {}", AT, "env, file, hash is missing"),
            (
                SECRET,
                "§client_secret: { env: PORTAL_SECRET, file: portal-secret }",
                AT,
                "more than one of",
            ),
            (SECRET, "§client_secret: []", AT, "empty list"),
            (
                SECRET,
                "client_secret: [{ env: PORTAL_SECRET }, §canary-7f3a]",
                "applications[0].client_secret[1]",
                "never stands in this file itself",
            ),
            (SECRET, "client_secret: { env: §UNSET }", ENV_AT, "is not set"),
            (SECRET, "client_secret: { env: §EMPTY }", ENV_AT, "is empty"),
            (SECRET, "client_secret: { env: §canary-7f3a }", ENV_AT, "letters, digits and _"),
            (SECRET, "client_secret: { file: §canary-7f3a }", FILE_AT, "can't be read"),
            (SECRET, "client_secret: { file: §secret-empty }", FILE_AT, "is empty"),
            (
                SECRET,
                "client_secret: { hash: §canary-7f3a }",
                "applications[0].client_secret.hash",
                "cambio hash-secret",
            ),
        ],
    );
}

#[test]
fn what_an_application_may_have_is_well_formed() {
    const EXCHANGE: &str = "- urn:ietf:params:oauth:grant-type:token-exchange";
    const MEANT: &str = "did you mean `urn:ietf:params:oauth:grant-type:token-exchange`?";
    const GRANT_AT: &str = "applications[0].allowed_grant_types[0]";
    const TOKEN_AT: &str = "applications[0].access_token";
    each(
        Severity::Fault,
        &[
            (
                "type: mobile\n    allowed_grant_types: [client_credentials]",
                "type: single_page\n    §allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]",
                "applications[1].allowed_grant_types",
                "single_page application may not exchange",
            ),
            (EXCHANGE, "- §token-exchange", GRANT_AT, MEANT),
            (EXCHANGE, "- §urn:ietf:params:oauth:grant-type:token_exchange", GRANT_AT, MEANT),
            (
                "allowed_grant_types: [client_credentials]",
                "§allowed_grant_types: []",
                "applications[1].allowed_grant_types",
                "empty list",
            ),
            (
                "[partner]",
                "[partner, §batsh]",
                "applications[0].trusted_token_issuers[1]",
                "did you mean `batch`?",
            ),
            (
                "audiences: [https://api.example.com]",
                "§audiences: []",
                "applications[0].audiences",
                "empty list",
            ),
            (
                "[https://api.example.com]",
                "§https://api.example.com",
                "applications[0].audiences",
                "a list is expected",
            ),
            ("[read, write]", "[read, §\"a b\"]", "applications[0].scopes[1]", "is no scope"),
            (
                "lifetime: 1h }",
                "lifetime: §0s }",
                "applications[0].access_token.lifetime",
                "from 1s to 1d",
            ),
            (
                "lifetime: 1h }",
                "lifetime: §25h }",
                "applications[0].access_token.lifetime",
                "from 1s to 1d",
            ),
            (
                "lifetime: 1h }",
                "lifetime: 1h, outlive_subject: §1 }",
                "applications[0].access_token.outlive_subject",
                "true or false",
            ),
            (
                "lifetime: 1h }",
                "lifetime: 1h, §life_time: 1h }",
                TOKEN_AT,
                "did you mean `lifetime`?",
            ),
        ],
    );
}

#[test]
fn secrets_are_had_from_the_environment_files_and_hashes() {
    let phc = secret::hash(b"of sixteen bytes", &[7; 16]).unwrap();
    let text = changed(
        "client_secret: { env: PORTAL_SECRET }",
        &format!(
            "client_secret: [{{ env: PORTAL_SECRET }}, {{ file: portal-secret }}, {{ hash: \"{phc}\" }}]"
        ),
    );
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, []);
    let secrets = &config.policy.application("portal").unwrap().authentication.secrets();
    let (env, file) = (format!("{CANARY}-in-the-environment"), format!("{CANARY}-in-a-file"));
    for (index, secret) in [env.as_str(), file.as_str(), "of sixteen bytes"].iter().enumerate() {
        for (other, stored) in secrets.iter().enumerate() {
            assert_eq!(stored.matches(secret.as_bytes()), index == other);
        }
    }
}

const PHONE: &str =
    "- client_id: phone\n    type: mobile\n    allowed_grant_types: [client_credentials]";

#[test]
fn the_upstream_vouches_for_clients_without_a_secret_here() {
    const AT: &str = "applications[1]";
    const ENDPOINT: &str = "needs an endpoint at which the upstream authenticates its clients";
    each_of(
        PHONE,
        AT,
        &[
            ("- client_id: svc1\n    authentication: §idp", ".authentication", "secret, upstream"),
            (
                "- client_id: svc1\n    authentication: upstream\n    §client_secret: { env: PORTAL_SECRET }",
                ".client_secret",
                "the upstream knows this client's secret: remove it here",
            ),
            (
                "- client_id: svc1\n    authentication: upstream\n    type: §mobile",
                ".type",
                "is public, so that the upstream can't vouch for it",
            ),
            (
                "- client_id: svc1\n    authentication: upstream\n    type: §single_page",
                ".type",
                "is public, so that the upstream can't vouch for it",
            ),
            ("- client_id: §\"*\"", ".client_id", "add `authentication: upstream`"),
            (
                "- client_id: §\"*\"\n    authentication: secret\n    type: mobile\n    allowed_grant_types: [refresh_token]",
                ".client_id",
                "add `authentication: upstream`",
            ),
            (
                "- §client_id: phone\n    authentication: secret\n    allowed_grant_types: [password]",
                "",
                "`type` is missing",
            ),
        ],
    );
    each(
        Severity::Fault,
        &[(
            PHONE,
            "- { client_id: \"*\", authentication: upstream }\n  - { client_id: §\"*\", authentication: upstream }",
            "applications[2].client_id",
            "the same `client_id` stands on line 41",
        )],
    );
    let without = changed(PHONE, "- client_id: svc1\n    authentication: upstream");
    let faults = load(without.replace("    revocation: /oauth2/revoke\n", "")).unwrap_err();
    let [fault] = &faults[..] else { panic!("{faults:#?}") };
    assert_eq!(fault.path, "applications[1].authentication");
    assert!(fault.message.contains(ENDPOINT), "{fault}");
    assert!(fault.message.contains("introspection"), "{fault}");

    for more in ["", "\n    type: traditional_web", "\n    type: standard_oidc"] {
        let text =
            changed(PHONE, &format!("- client_id: svc1\n    authentication: upstream{more}"));
        let (config, warnings) = load(text).unwrap();
        assert_eq!(warnings, []);
        let application = config.policy.application("svc1").unwrap();
        assert!(application.authentication.is_upstream());
        let exchange = "urn:ietf:params:oauth:grant-type:token-exchange".to_owned();
        assert_eq!(application.grant_types, [exchange]);
        assert_eq!(application.audiences, ["svc1"]);
        assert!(config.policy.asks_upstream() && config.policy.application_of("svc2").is_none());
    }
    let text = changed(
        PHONE,
        "- client_id: \"*\"\n    authentication: upstream\n    allowed_grant_types: [refresh_token, \"urn:ietf:params:oauth:grant-type:token-exchange\"]",
    );
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, []);
    assert!(config.policy.application("*").is_none());
    let any = config.policy.application_of("svc2").unwrap();
    assert!(any.gets_refresh_tokens() && config.needs_store());
    assert_eq!((&*any.name, any.audiences.as_slice()), ("*", &[][..]));
    assert!(!load(BASE).unwrap().0.policy.asks_upstream());
}

#[test]
fn wrong_secrets_are_limited_within_bounds() {
    const AT: &str = "limits.failed_authentications.";
    const LIMITS: &str = "limits: { connections: 100 }";
    for name in ["per_client_and_address", "per_client", "per_address"] {
        for value in ["0", "1000001"] {
            let text = changed(
                LIMITS,
                &format!("limits: {{ failed_authentications: {{ {name}: {value} }} }}"),
            );
            let faults = load(text).unwrap_err();
            let [fault] = &faults[..] else { panic!("{faults:#?}") };
            assert_eq!(fault.path, format!("{AT}{name}"));
            assert!(fault.message.contains("from 1 to 1000000"), "{fault}");
        }
    }
    let of = |to: &str| {
        let limits = load(changed(LIMITS, to)).unwrap().0.limits.failed_authentications;
        (limits.client_and_address, limits.client, limits.address)
    };
    assert_eq!(of(LIMITS), (20, 200, 2000));
    let given = "limits: { failed_authentications: { per_client_and_address: 1, per_client: 2, per_address: 1000000 } }";
    assert_eq!(of(given), (1, 2, 1_000_000));
}
