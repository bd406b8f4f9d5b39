//! Tokens of outside issuers, as an OIDC provider gives them.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{Options, Stack, eventually};

const ISSUER: &str = "https://id.example.com/realms/main";

/// A key of the folder with the unit tests' ones.
fn pem(name: &str) -> Vec<u8> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../control-plane/src/identity/keys/tests"
    );
    fs::read(PathBuf::from(folder).join(name)).unwrap()
}

fn key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem("rs256.pem")).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem("es256.pem")).unwrap(),
        _ => EncodingKey::from_ed_pem(&pem("eddsa.pem")).unwrap(),
    }
}

/// A set of these keys, as an issuer publishes it.
fn set(keys: &[(&str, Algorithm)]) -> String {
    let public = |(kid, algorithm): &(&str, Algorithm)| {
        let mut jwk = Jwk::from_encoding_key(&key(*algorithm), *algorithm).unwrap();
        jwk.common.key_id = Some((*kid).to_owned());
        jwk
    };
    json!({ "keys": keys.iter().map(public).collect::<Vec<_>>() }).to_string()
}

fn claims(issuer: &str, more: &Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "iss": issuer, "aud": ["account", "jalur"], "sub": "ann", "exp": now + 600, "iat": now,
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn token(kid: &str, algorithm: Algorithm, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, &key(algorithm)).unwrap()
}

/// The keys of an issuer, served by the test. Dropped, nobody listens there any more.
struct Server {
    address: SocketAddr,
    /// What is answered; an error of the issuer's own where there is nothing.
    answer: Arc<Mutex<Option<String>>>,
    requests: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(address: &str, keys: &[(&str, Algorithm)]) -> Self {
        let answer = Arc::new(Mutex::new(Some(set(keys))));
        let requests = Arc::<AtomicUsize>::default();
        let serve = {
            let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
            move || async move {
                requests.fetch_add(1, Ordering::Relaxed);
                let answer = answer.lock().unwrap().clone();
                answer.ok_or(StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let router = Router::new().route("/jwks", get(serve));
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            answer,
            requests,
            _task: task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    fn publish(&self, keys: Option<&[(&str, Algorithm)]>) {
        *self.answer.lock().unwrap() = keys.map(set);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A control plane that trusts these, one entry of `auth.trusted` a line.
async fn trusting(file: &tempfile::NamedTempFile, entries: &[String]) -> Stack {
    fs::write(
        file.path(),
        format!("auth:\n  trusted:\n    - {}\n", entries.join("\n    - ")),
    )
    .unwrap();
    Stack::start(Options {
        daemons: 0,
        control_plane_env: vec![("JALUR_CONFIG", file.path().display().to_string())],
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn an_outside_issuers_words_become_roles_and_tenants_and_nothing_else_is_believed() {
    let server = Server::start("127.0.0.1:0", &[("2026", Algorithm::RS256)]).await;
    let (configuration, keys) = (
        tempfile::NamedTempFile::new().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    fs::write(keys.path(), set(&[("f", Algorithm::ES256)])).unwrap();
    let other = "https://other.example.com";
    let stack = trusting(
        &configuration,
        &[
            format!(
                "{{ issuer: '{ISSUER}', audience: jalur, jwks_url: '{}', role_claim: realm_access.roles, \
                 tenant_claim: org, roles: {{ jalur-ops: admin, jalur-user: tenant }} }}",
                server.url()
            ),
            format!(
                "{{ issuer: '{other}', jwks_file: '{}', algorithms: [ES256, EdDSA] }}",
                keys.path().display()
            ),
        ],
    )
    .await;
    let tenant = stack.tenant("own").await;
    let roles = |roles: &[&str]| json!({ "realm_access": { "roles": roles } });
    let user = |word: &str, org: Value| {
        let mut claims = claims(ISSUER, &roles(&["offline_access", word]));
        claims["org"] = org;
        claims
    };
    let signed = |claims: &Value| token("2026", Algorithm::RS256, claims);
    let own = signed(&user("jalur-user", json!(tenant.0)));
    let ops = signed(&claims(ISSUER, &roles(&["jalur-ops"])));
    assert_eq!(stack.get("/api/tenants", &ops).await.0, 200);
    assert_eq!(stack.get("/api/messages", &own).await.0, 200);
    assert_eq!(stack.get("/api/tenants", &own).await.0, 403);
    let foreign = stack.tenant("foreign").await;
    assert_eq!(stack.get(&format!("/api/tenants/{foreign}"), &own).await.0, 403);
    let from_file = |kid: &str, algorithm| token(kid, algorithm, &claims(other, &json!({ "role": "admin" })));
    assert_eq!(
        stack.get("/tenants", &from_file("f", Algorithm::ES256)).await.0,
        200
    );

    let public = pem("rs256.pub.pem");
    let mut confused = Header::new(Algorithm::HS256);
    confused.kid = Some("2026".into());
    let confused = jsonwebtoken::encode(
        &confused,
        &claims(ISSUER, &roles(&["jalur-ops"])),
        &EncodingKey::from_secret(&public),
    );
    let (good, _) = ops.rsplit_once('.').unwrap();
    let unsigned = {
        // {"alg":"none","kid":"2026"}
        let (_, claims) = good.split_once('.').unwrap();
        format!("eyJhbGciOiJub25lIiwia2lkIjoiMjAyNiJ9.{claims}.")
    };
    let of_audience = |audience: &str| {
        let mut claims = claims(ISSUER, &roles(&["jalur-ops"]));
        claims["aud"] = json!(audience);
        signed(&claims)
    };
    for (what, token, says) in [
        (
            "HS256 with the public key",
            confused.unwrap(),
            "signed with RS256",
        ),
        ("alg none", unsigned, "signed with RS256"),
        ("changed", format!("{good}.AAAA"), "signature"),
        ("another audience", of_audience("account"), "aud"),
        (
            "no role of ours",
            signed(&claims(ISSUER, &roles(&["admin"]))),
            "names no role",
        ),
        (
            "a tenant's role without one",
            signed(&user("jalur-user", Value::Null)),
            "org is missing",
        ),
        (
            "a key of the other issuer's",
            token("f", Algorithm::ES256, &claims(ISSUER, &roles(&["jalur-ops"]))),
            "signed with RS256",
        ),
        (
            "daemon, which is not mapped",
            token(
                "f",
                Algorithm::ES256,
                &claims(other, &json!({ "role": "daemon" })),
            ),
            "names no role",
        ),
        (
            "our name",
            token(
                "f",
                Algorithm::ES256,
                &claims("jalur", &json!({ "role": "admin" })),
            ),
            "signed with HS256",
        ),
        (
            "nobody's name",
            token(
                "f",
                Algorithm::ES256,
                &claims("https://evil.example.com", &json!({ "role": "admin" })),
            ),
            "signed with HS256",
        ),
    ] {
        let (status, answer) = stack.get("/api/tenants", &token).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(status == 401 && said.contains(says), "{what}: {status} {answer}");
    }
    assert_eq!(
        stack.get("/api/tenants", &stack.admin()).await.0,
        200,
        "ours are ours"
    );

    // The file changes while everything runs.
    let next = from_file("g", Algorithm::EdDSA);
    assert_eq!(stack.get("/tenants", &next).await.0, 401);
    fs::write(keys.path(), set(&[("g", Algorithm::EdDSA)])).unwrap();
    eventually("the new key of the file counts", async || {
        stack.get("/tenants", &next).await.0 == 200
    })
    .await;
    assert_eq!(
        stack.get("/tenants", &from_file("f", Algorithm::ES256)).await.0,
        401
    );
}

#[tokio::test]
async fn an_issuers_new_keys_are_found_its_outages_pass_and_a_flood_reaches_it_seldom() {
    let server = Server::start("127.0.0.1:0", &[("old", Algorithm::RS256)]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let entry = format!(
        "{{ issuer: '{ISSUER}', jwks_url: '{}', algorithms: [RS256, ES256] }}",
        server.url()
    );
    let stack = trusting(&file, &[entry]).await;
    let of = |kid: &str, algorithm| token(kid, algorithm, &claims(ISSUER, &json!({ "role": "admin" })));
    let (old, new) = (of("old", Algorithm::RS256), of("new", Algorithm::ES256));
    let status = async |token: &str| stack.get("/tenants", token).await.0;
    assert_eq!(status(&old).await, 200);
    assert_eq!(status(&new).await, 401);

    server.publish(Some(&[("old", Algorithm::RS256), ("new", Algorithm::ES256)]));
    eventually("the new key is found", async || status(&new).await == 200).await;

    server.publish(None);
    let (began, before) = (Instant::now(), server.requests());
    let mut longest = Duration::ZERO;
    eventually("a flood has met the outage twice", async || {
        let asked = Instant::now();
        let strangers = (0..20).map(|n| of(&format!("stranger-{n}"), Algorithm::ES256));
        let strangers: Vec<_> = strangers.collect();
        let answers = strangers.iter().map(|token| status(token));
        let answers = futures::future::join_all(answers).await;
        assert_eq!(answers, [401; 20]);
        longest = longest.max(asked.elapsed());
        assert_eq!(status(&old).await, 200, "the last keys are kept");
        server.requests() - before >= 2
    })
    .await;
    let fetches = server.requests() - before;
    let most = usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 1;
    assert!(fetches <= most, "{fetches} in {:?}", began.elapsed());
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let log = stack.control_plane().log_tail(10_000);
    let told = log.lines().filter(|line| line.contains("cannot be fetched"));
    assert_eq!(told.count(), 1, "an outage is one line");

    server.publish(Some(&[("new", Algorithm::ES256)]));
    eventually("the old key is gone", async || status(&old).await == 401).await;
    assert_eq!(status(&new).await, 200);
    let log = stack.control_plane().log_tail(10_000);
    assert!(log.contains("can be fetched again"), "{log}");
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_holds_up_nobody_and_is_found_when_it_comes() {
    let keys = [("k", Algorithm::ES256)];
    let address = Server::start("127.0.0.1:0", &keys).await.address.to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let entry = format!("{{ issuer: '{ISSUER}', jwks_url: 'http://{address}/jwks', algorithms: [ES256] }}");
    let stack = trusting(&file, &[entry]).await;
    assert_eq!(stack.get("/tenants", &stack.admin()).await.0, 200);
    let token = token(
        "k",
        Algorithm::ES256,
        &claims(ISSUER, &json!({ "role": "admin" })),
    );
    let (status, answer) = stack.get("/tenants", &token).await;
    let said = answer["message"].as_str().unwrap_or_default();
    assert!(
        status == 503 && said.contains("cannot be read at the moment"),
        "{status} {answer}"
    );
    let _server = Server::start(&address, &keys).await;
    eventually("its keys are there", async || {
        stack.get("/tenants", &token).await.0 == 200
    })
    .await;

    // What is no good is told before anything is served.
    for (entry, named) in [
        ("{ issuer: i, jwks_url: 'http://id.example.com' }", "jwks_url"),
        ("{ issuer: jalur, jwks_url: 'https://id.example.com' }", "issuer"),
        (
            "{ issuer: i, jwks_url: 'https://h', algorithms: [HS256] }",
            "algorithms[0]",
        ),
    ] {
        let value = format!("auth.trusted=[{entry}]");
        let checked = stack
            .control_plane_command(&["--set", &value, "config", "check"])
            .await;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(64), "{said}");
        assert!(said.contains(&format!("auth.trusted[0].{named}")), "{said}");
    }
    let good = "auth.trusted=[{ issuer: i, jwks_url: 'https://id.example.com' }]";
    let checked = stack
        .control_plane_command(&["--set", good, "config", "check"])
        .await;
    assert!(checked.status.success());
}
