//! When keys are fetched, and who waits for that. On a clock that moves when nothing else does.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{task::JoinHandle, time::Instant};

use super::*;

/// An issuer whose keys are fetched, and the other end of that.
struct House {
    issuer: Arc<Issuer>,
    /// What is answered; nothing at all while it is None.
    answer: Arc<Mutex<Option<Result<Jwks, String>>>>,
    fetches: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl House {
    fn new(answer: Option<Result<Jwks, String>>) -> Self {
        let url = "https://id.example.com/jwks".parse().unwrap();
        let issuer = Arc::new(Issuer::new(entry(
            ISSUER,
            &[Algorithm::ES256, Algorithm::EdDSA],
            Source::Url(url),
        )));
        let (answer, fetches) = (Arc::new(Mutex::new(answer)), Arc::<AtomicUsize>::default());
        let fetch = {
            let (answer, fetches) = (Arc::clone(&answer), Arc::clone(&fetches));
            move || {
                let answer = Arc::clone(&answer);
                fetches.fetch_add(1, Ordering::Relaxed);
                async move {
                    sleep(Duration::from_millis(100)).await;
                    let answer = answer.lock().unwrap().clone();
                    match answer {
                        Some(answer) => answer,
                        None => std::future::pending().await,
                    }
                }
            }
        };
        let task = tokio::spawn(Arc::clone(&issuer).keep(fetch));
        Self {
            issuer,
            answer,
            fetches,
            task,
        }
    }

    fn answer(&self, answer: Result<Jwks, String>) {
        *self.answer.lock().unwrap() = Some(answer);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        self.issuer.verify(token).await
    }
}

fn old() -> Jwks {
    set(&[public(Some("old"), Algorithm::ES256)])
}

fn new() -> Jwks {
    set(&[public(Some("new"), Algorithm::EdDSA)])
}

/// Good for as long as the test takes on its own clock: the system's stands still meanwhile.
fn signed(kid: &str, algorithm: Algorithm) -> String {
    token(Some(kid), algorithm, &claims())
}

#[tokio::test(start_paused = true)]
async fn the_first_call_waits_for_the_first_keys() {
    let house = House::new(Some(Ok(old())));
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
    assert_eq!(house.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_when_it_is_met() {
    let house = House::new(Some(Ok(old())));
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
    house.answer(Ok(new()));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.fetches(), 1, "nobody asked");
    assert!(house.verify(&signed("new", Algorithm::EdDSA)).await.is_ok());
    assert_eq!(house.fetches(), 2);
    let refused = house.verify(&signed("old", Algorithm::ES256)).await;
    assert!(matches!(refused, Err(Refusal::NotIssuers(..))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn they_are_fetched_now_and_then_without_a_reason() {
    let house = House::new(Some(Ok(old())));
    sleep(Duration::from_secs(1_000)).await;
    assert_eq!(house.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_fetches_no_more_often_and_waits_no_longer() {
    let house = House::new(Some(Ok(old())));
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
    let (began, before) = (Instant::now(), house.fetches());
    let stranger = |n| raw(&json!({ "alg": "EdDSA", "kid": format!("stranger {n}") }), "AAAA");
    let strangers: Vec<_> = (0..50).map(stranger).collect();
    let mut waited = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(95) {
        let asked = Instant::now();
        let refused =
            futures::future::join_all(strangers.iter().map(|stranger| house.verify(stranger))).await;
        assert!(
            refused
                .iter()
                .all(|refused| matches!(refused, Err(Refusal::NotIssuers(..))))
        );
        waited = waited.max(asked.elapsed());
        sleep(Duration::from_millis(500)).await;
    }
    let fetches = house.fetches() - before;
    assert!((9..=10).contains(&fetches), "{fetches} fetches within 95 seconds");
    assert!(waited <= Duration::from_millis(200), "{waited:?}");
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn while_an_issuer_is_away_the_last_keys_are_kept() {
    let house = House::new(Some(Ok(old())));
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
    house.answer(Err("away".into()));
    sleep(Duration::from_secs(1_000)).await;
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
    house.answer(Ok(new()));
    sleep(Duration::from_secs(11)).await;
    assert!(
        house.verify(&signed("new", Algorithm::EdDSA)).await.is_ok(),
        "tried again and again"
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_there_is_said_to_be_away_and_nobody_waits_for_long() {
    let house = House::new(None);
    for _ in 0..3 {
        let asked = Instant::now();
        let refused = house.verify(&signed("old", Algorithm::ES256)).await.unwrap_err();
        assert!(matches!(&refused, Refusal::IssuerAway(_)), "{refused}");
        assert_eq!(
            crate::identity::refusal(&refused).code(),
            tonic::Code::Unavailable
        );
        assert!(asked.elapsed() <= Duration::from_secs(2));
    }
    assert_eq!(house.fetches(), 1, "one at a time");

    let house = House::new(Some(Err("away".into())));
    let refused = house.verify(&signed("old", Algorithm::ES256)).await;
    assert!(matches!(refused, Err(Refusal::IssuerAway(_))), "{refused:?}");
    house.answer(Ok(old()));
    sleep(Duration::from_secs(11)).await;
    assert!(house.verify(&signed("old", Algorithm::ES256)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_configured_anew_keeps_the_keys_of_those_that_stay_and_ends_the_others() {
    let trusted = Trusted::default();
    let url = |text: &str| Source::Url(text.parse().unwrap());
    let stays = entry(ISSUER, &[Algorithm::ES256], url("https://id.example.com/jwks"));
    let goes = entry(
        "other",
        &[Algorithm::ES256],
        url("https://other.example.com/jwks"),
    );
    assert_eq!(trusted.replace(vec![stays.clone(), goes]).len(), 2);
    let before = trusted.issuers();
    let changed = entry(
        "other",
        &[Algorithm::EdDSA],
        url("https://other.example.com/jwks"),
    );
    let new = trusted.replace(vec![changed, stays]);
    assert_eq!(new.len(), 1);
    let after = trusted.issuers();
    assert!(Arc::ptr_eq(&before[0], &after[1]));
    assert!(!before[0].over.is_cancelled() && before[1].over.is_cancelled());
    assert!(!new[0].over.is_cancelled());

    let house = House::new(Some(Ok(old())));
    sleep(Duration::from_secs(1)).await;
    house.issuer.over.cancel();
    house.task.await.unwrap();
}
