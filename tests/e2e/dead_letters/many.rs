//! Many dead letters: what one call reads, the next one finds; and whoever replays many is in nobody's way.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::{buried, bury, bury_many, list, path, payloads, refused, replay, replay_all};
use crate::support::{Options, Stack};

/// Without daemons: what is replayed stays in the tenant's queue, to be counted.
async fn start(queue_type: &str) -> Stack {
    Stack::start(Options {
        daemons: 0,
        env: vec![("JALUR_RABBITMQ__QUEUE_TYPE", queue_type.into())],
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn all_are_replayed_right_after_they_were_listed() {
    for queue_type in ["classic", "quorum"] {
        let stack = start(queue_type).await;
        let tenant = stack.tenant("listed").await;
        bury_many(&stack, tenant, 3_000).await;
        assert_eq!(list(&stack, tenant).await.len(), 1_000);
        let replayed = replay_all(&stack, tenant, json!({ "all": true })).await;
        assert_eq!(replayed, 3_000, "{queue_type}");
        assert_eq!(buried(&stack, tenant).await, 0);
        assert_eq!(stack.queue(&tenant.queue()).await, Some((3_000, 0)));
    }
}

#[tokio::test]
async fn whoever_counts_them_sees_all_while_they_are_read() {
    const LETTERS: u32 = 3_000;
    for queue_type in ["classic", "quorum"] {
        let stack = start(queue_type).await;
        let tenant = stack.tenant("counted").await;
        bury_many(&stack, tenant, LETTERS).await;
        let reading = async {
            for _ in 0..3 {
                assert_eq!(list(&stack, tenant).await.len(), 1_000);
                let nobody = json!({ "ids": [Uuid::now_v7()] });
                assert_eq!(replay(&stack, tenant, nobody).await.0, 200);
            }
        };
        let counting = async {
            let (path, admin) = (format!("/api/tenants/{tenant}"), stack.admin());
            loop {
                let (status, tenant) = stack.get(&path, &admin).await;
                assert_eq!(status, 200, "{tenant}");
                assert_eq!(tenant["runtime"]["dead_letters"], LETTERS, "{queue_type}");
            }
        };
        tokio::select! {
            () = reading => {}
            () = counting => {}
        }
    }
}

#[tokio::test]
async fn a_search_for_an_id_that_is_not_there_leaves_the_count_as_it_was() {
    const LETTERS: u32 = 10_000;
    let stack = start("classic").await;
    let tenant = stack.tenant("searched").await;
    bury_many(&stack, tenant, LETTERS).await;
    for _ in 0..2 {
        assert_eq!(
            replay(&stack, tenant, json!({ "ids": [Uuid::now_v7()] })).await,
            (200, json!({ "replayed": 0, "remaining": 0 }))
        );
        assert_eq!(buried(&stack, tenant).await, LETTERS);
    }
    let page = list(&stack, tenant).await;
    assert_eq!(payloads(&page)[..3], ["0", "1", "2"], "all are in their places");
}

#[tokio::test]
async fn letters_that_go_while_others_are_read_leave_those_in_their_places() {
    for queue_type in ["classic", "quorum"] {
        let stack = start(queue_type).await;
        let tenant = stack.tenant("gone").await;
        let letter = || refused(Uuid::now_v7());
        bury(&stack, tenant, b"0", letter()).await;
        // Those behind it live on until it is taken: a queue lets go of what is at its head.
        for _ in 0..5 {
            bury(&stack, tenant, b"gone", letter().with_expiration("1".into())).await;
        }
        assert_eq!(buried(&stack, tenant).await, 6);
        let at = path(tenant);
        let (status, first) = stack.get(&at, &stack.admin()).await;
        assert_eq!((status, &first["dead_letters"][0]["payload"]), (200, &json!("0")));
        // Right after the call it is back where it was.
        assert_eq!(buried(&stack, tenant).await, 1, "{queue_type}");
        // That some did not come is no reason to think that there are no more.
        let next = first["next_page_token"].as_str().unwrap();
        let (status, next) = stack
            .get(&format!("{at}?page_token={next}"), &stack.admin())
            .await;
        assert_eq!((status, &next["dead_letters"]), (200, &json!([])), "{next}");
        assert_eq!(next["next_page_token"].as_str().unwrap_or_default(), "", "{next}");
        for _ in 0..5 {
            bury(&stack, tenant, b"gone", letter().with_expiration("1".into())).await;
        }
        let nobody = format!("{at}/{}", Uuid::now_v7());
        for (round, expected) in [503, 404].into_iter().enumerate() {
            let (status, answer) = stack.get(&nobody, &stack.admin()).await;
            assert_eq!(status, expected, "{queue_type}, round {round}: {answer}");
        }
        assert_eq!(payloads(&list(&stack, tenant).await), ["0"], "{queue_type}");
    }
}

#[tokio::test]
async fn a_quorum_queues_dead_letters_can_be_read_as_often_as_one_likes() {
    let stack = start("quorum").await;
    let tenant = stack.tenant("read").await;
    for number in 0..4 {
        bury(
            &stack,
            tenant,
            number.to_string().as_bytes(),
            refused(Uuid::now_v7()),
        )
        .await;
    }
    // RabbitMQ 4 drops after 20 deliveries what no limit of ours keeps; 3.10 at the second.
    for round in 0..25 {
        let page = list(&stack, tenant).await;
        assert_eq!(payloads(&page), ["0", "1", "2", "3"], "round {round}");
    }
    assert_eq!(buried(&stack, tenant).await, 4);
}

#[tokio::test]
async fn nobody_waits_for_the_replays_of_other_tenants() {
    let stack = start("classic").await;
    let (busy, quiet) = (stack.tenants(4).await, stack.tenant("quiet").await);
    bury(&stack, quiet, b"1", refused(Uuid::now_v7())).await;
    for &tenant in &busy {
        bury_many(&stack, tenant, 3_000).await;
    }
    let replays = busy
        .iter()
        .map(|&tenant| replay(&stack, tenant, json!({ "all": true })));
    let mut replays = std::pin::pin!(futures::future::join_all(replays));
    let reading = async {
        let (mut longest, mut reads) = (Duration::ZERO, 0);
        loop {
            let began = Instant::now();
            let (status, page) = stack.get(&path(quiet), &stack.admin()).await;
            assert_eq!(status, 200, "{page}");
            longest = longest.max(began.elapsed());
            reads += 1;
            tokio::task::yield_now().await;
            if longest > Duration::from_secs(2) {
                return (longest, reads);
            }
        }
    };
    tokio::select! {
        replayed = &mut replays => {
            for answer in replayed {
                assert_eq!(answer, (200, json!({ "replayed": 3_000, "remaining": 0 })));
            }
        }
        (longest, reads) = reading => panic!("a reading took {longest:?}, the {reads}th"),
    }
}
