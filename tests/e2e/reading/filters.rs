use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{paused, positions, put};
use crate::support::Stack;

/// A stored row, as the model has it.
#[derive(Clone, Debug)]
struct Row {
    position: i64,
    time: OffsetDateTime,
    kind: u32,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
struct Query {
    newest: bool,
    after: Option<OffsetDateTime>,
    before: Option<OffsetDateTime>,
    kind: Option<u32>,
    limit: usize,
}

impl Query {
    fn random(random: &mut StdRng, rows: &[Row]) -> Self {
        let time = |random: &mut StdRng| {
            let row = &rows[random.random_range(0..rows.len())];
            // Some at a message's very time, some between two, some far from all.
            row.time
                + Duration::milliseconds([0, 0, 1, -1, 700, -900_000, 900_000][random.random_range(0..7)])
        };
        let mut query = Self {
            newest: random.random_bool(0.5),
            after: random.random_bool(0.5).then(|| time(random)),
            before: random.random_bool(0.5).then(|| time(random)),
            kind: random.random_bool(0.5).then(|| random.random_range(0..8)),
            limit: [1, 7, 50, 1_000][random.random_range(0..4)],
        };
        if let (Some(after), Some(before)) = (query.after, query.before)
            && before <= after
        {
            query.before = None;
        }
        query
    }

    fn wants(&self, row: &Row) -> bool {
        self.after.is_none_or(|after| row.time >= after)
            && self.before.is_none_or(|before| row.time < before)
            && self.kind.is_none_or(|kind| row.kind == kind)
    }

    fn uri(&self) -> String {
        let mut uri = format!("limit={}", self.limit);
        let time = |time: OffsetDateTime| time.format(&Rfc3339).unwrap();
        if self.newest {
            uri += "&order=newest";
        }
        if let Some(after) = self.after {
            uri += &format!("&created_after={}", time(after));
        }
        if let Some(before) = self.before {
            uri += &format!("&created_before={}", time(before));
        }
        if let Some(kind) = self.kind {
            uri += &format!("&contains=%7B%22kind%22:%20{kind}%7D");
        }
        uri
    }
}

/// Positions with gaps, as duplicates and a restored backup leave them, and times that are not quite in their order.
fn rows(random: &mut StdRng, count: usize) -> Vec<Row> {
    let mut time = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
    let mut position = 0;
    (0..count)
        .map(|_| {
            position += [1, 1, 1, 2, 500, 1_000_000_000_000][random.random_range(0..6)];
            time += Duration::milliseconds(random.random_range(0..1_500));
            let time = time - Duration::milliseconds(random.random_range(0..4_000));
            let kind = random.random_range(0..7);
            Row { position, time, kind }
        })
        .collect()
}

#[tokio::test]
async fn a_reader_with_any_filter_sees_what_it_should_exactly_once() {
    let stack = Stack::without_daemons().await;
    let tenant = paused(&stack, "filters").await;
    let path = format!("/api/tenants/{tenant}/messages");
    let mut random = StdRng::seed_from_u64(15);
    let mut rows = rows(&mut random, 700);
    let stored: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.position,
                row.time,
                json!({ "kind": row.kind, "text": "x".repeat(300) }),
            )
        })
        .collect();
    put(&stack, tenant, &stored).await;
    for round in 0..60 {
        let query = Query::random(&mut random, &rows);
        let (mut cursor, mut seen, mut pages) = ("0".to_owned(), Vec::new(), 0);
        loop {
            let uri = format!("{path}?{}&cursor={cursor}", query.uri());
            let (status, page) = stack.get(&uri, &stack.admin()).await;
            assert_eq!(status, 200, "{uri}: {page}");
            seen.extend(positions(page["data"].as_array().unwrap()));
            cursor = page["next_cursor"].as_str().unwrap().to_owned();
            pages += 1;
            assert!(pages < 2_000, "{query:?} does not end");
            if page["at_end"] == true {
                break;
            }
            // What retention removes while somebody reads is not seen, and nothing else is missed for it.
            if round % 10 == 9 && pages == 2 && !query.newest {
                let oldest = rows.remove(0).position;
                sqlx::query("delete from messages where tenant_id = $1 and position = $2")
                    .bind(tenant.0)
                    .bind(oldest)
                    .execute(stack.pool())
                    .await
                    .unwrap();
                seen.retain(|&position| position != oldest);
            }
        }
        let wanted = rows.iter().filter(|row| query.wants(row)).map(|row| row.position);
        let mut wanted: Vec<_> = wanted.collect();
        if query.newest {
            wanted.reverse();
        }
        assert_eq!(seen, wanted, "{query:?}");
        // It stays the end, wherever that is.
        let (_, page) = stack
            .get(&format!("{path}?{}&cursor={cursor}", query.uri()), &stack.admin())
            .await;
        assert_eq!(
            (&page["data"], &page["at_end"]),
            (&json!([]), &json!(true)),
            "{query:?}"
        );
        assert_eq!(page["next_cursor"], cursor.as_str());
    }
}

#[tokio::test]
async fn a_filter_looks_at_so_many_and_says_where_it_is_and_bad_ones_are_told_why() {
    let stack = Stack::without_daemons().await;
    let tenant = paused(&stack, "many").await;
    let path = format!("/api/tenants/{tenant}/messages");
    sqlx::query(
        "insert into messages (id, tenant_id, payload, position)
         select gen_random_uuid(), $1, jsonb_build_object('n', n), n from generate_series(1, 45000) as n",
    )
    .bind(tenant.0)
    .execute(stack.pool())
    .await
    .unwrap();
    for (order, ends) in [
        ("oldest", [20_000, 40_000, 45_000]),
        ("newest", [25_001, 5_001, 1]),
    ] {
        let mut cursor = 0;
        for (at, end) in ends.into_iter().enumerate() {
            let uri = format!("{path}?order={order}&cursor={cursor}&contains=%7B%22n%22:0%7D");
            let (_, page) = stack.get(&uri, &stack.admin()).await;
            assert_eq!(page["data"], json!([]));
            assert_eq!(
                (&page["next_cursor"], &page["at_end"]),
                (&json!(end.to_string()), &json!(at == 2))
            );
            cursor = end;
        }
    }
    let newest = format!("{path}?order=newest&limit=3");
    let (_, page) = stack.get(&newest, &stack.admin()).await;
    assert_eq!(
        positions(page["data"].as_array().unwrap()),
        [45_000, 44_999, 44_998]
    );
    assert_eq!(
        (&page["next_cursor"], &page["at_end"]),
        (&json!("44998"), &json!(false))
    );
    // A page that ends with the last message says so, without another one to find out.
    let (_, page) = stack
        .get(&format!("{path}?cursor=44997&limit=3"), &stack.admin())
        .await;
    assert_eq!(
        positions(page["data"].as_array().unwrap()),
        [44_998, 44_999, 45_000]
    );
    assert_eq!(page["at_end"], true);

    for (query, wanted) in [
        ("contains=%7B", "contains is not JSON"),
        ("contains=order", "contains is not JSON"),
        ("contains=%22%5Cu0000%22", "contains has"),
        ("order=sideways", "order must be one of \"oldest\", \"newest\""),
        (
            "created_after=yesterday",
            "created_after must be a time in RFC 3339",
        ),
        (
            "created_after=2026-01-31T12:00:00",
            "created_after must be a time in RFC 3339",
        ),
        (
            "created_before=2026-13-31T12:00:00Z",
            "created_before must be a time in RFC 3339",
        ),
        (
            "created_after=2026-01-31T12:00:00Z&created_before=2026-01-31T12:00:00Z",
            "created_before must be later than created_after",
        ),
        ("cursor=-1", "cursor must be the next_cursor of another page"),
    ] {
        let (status, told) = stack.get(&format!("{path}?{query}"), &stack.admin()).await;
        let message = told["message"].as_str().unwrap_or_default();
        assert!(
            status == 400 && message.starts_with(wanted),
            "{query}: {status} {told}"
        );
    }
    let deep = format!("{}1{}", "%5B".repeat(1_100), "%5D".repeat(1_100));
    let (status, told) = stack
        .get(&format!("{path}?contains={deep}"), &stack.admin())
        .await;
    assert_eq!(status, 400, "{told}");
    for (query, count) in [
        ("created_after=2999-01-01T00:00:00Z", 0),
        ("created_before=0001-01-01T00:00:00Z", 0),
        (
            "created_after=0000-01-01T00:00:00Z&created_before=9999-12-31T23:59:59.999Z",
            100,
        ),
        ("created_after=2026-01-31T12:00:00%2B02:00", 100),
        ("cursor=9223372036854775807", 0),
        ("cursor=9223372036854775807&order=newest&contains=1", 0),
    ] {
        let (status, page) = stack.get(&format!("{path}?{query}"), &stack.admin()).await;
        let read = page["data"].as_array().map(Vec::len);
        assert_eq!((status, read), (200, Some(count)), "{query}: {page}");
    }
    let nobody: Value = stack
        .get(
            "/api/tenants/0198c0de-0000-7000-8000-000000000001/messages?contains=1",
            &stack.admin(),
        )
        .await
        .1;
    assert_eq!(nobody["code"], 5, "{nobody}");
}
