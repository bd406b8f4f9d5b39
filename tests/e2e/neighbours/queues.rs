//! A tenant's queues are lost or otherwise than they should be.

use super::UNNOTICED;
use crate::support::{Options, Stack};

#[tokio::test]
async fn nobody_notices_anything_where_nothing_happens() {
    let stack = Stack::start(Options::default()).await;
    let neighbours = stack.tenants(3).await;
    let account = stack.account(&neighbours, 50).await;
    stack.stored(neighbours[0], 100).await;
    let report = account.finish().await.unwrap();
    report.assert_undisturbed(UNNOTICED);
}
