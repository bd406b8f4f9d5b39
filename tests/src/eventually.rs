//! Waiting for a condition, never for a time.

use std::{future::Future, panic::Location, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// Often enough that no test waits long, seldom enough that the machine has time for what is waited for.
const PAUSE: Duration = Duration::from_millis(25);

/// Tries until `attempt` answers `Ok`, and answers that. Panics after `within`, saying what was waited for and what
/// the last attempt said.
#[track_caller]
pub fn eventually<T, F>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let caller = Location::caller();
    async move {
        let until = Instant::now() + within;
        let mut last = "no attempt was answered".to_owned();
        loop {
            match timeout_at(until, attempt()).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => {}
            }
            assert!(
                Instant::now() < until,
                "{caller}: not within {within:?}: {what}; the last attempt: {last}"
            );
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::{bail, ensure};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_the_condition() {
        let attempts = Cell::new(0);
        let answer = eventually("three attempts", Duration::from_secs(5), async || {
            attempts.set(attempts.get() + 1);
            ensure!(attempts.get() == 3, "only {}", attempts.get());
            Ok(attempts.get())
        });
        assert_eq!(answer.await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the moon; the last attempt: still cheese")]
    async fn it_says_what_it_waited_for() {
        let () = eventually("the moon", Duration::from_secs(1), async || bail!("still cheese")).await;
    }
}
