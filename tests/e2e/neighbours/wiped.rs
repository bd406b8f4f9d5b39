//! A broker that comes back without anything that it ever kept, as with a new disk.

use futures::future::join_all;

use super::queues::{are_there, flows};
use crate::support::{Options, Stack};

#[tokio::test]
async fn a_broker_that_lost_its_disk_has_everything_again() {
    let Some(stack) = Stack::start_alone("a broker's disk", Options::default()).await else {
        return;
    };
    let tenants = stack.tenants(20).await;
    flows(&stack, tenants[0]).await;
    // Both programs run on.
    stack.stop_rabbitmq().await;
    stack.start_rabbitmq_wiped().await;
    join_all(tenants.iter().map(|&tenant| are_there(&stack, tenant))).await;
    join_all(tenants.iter().map(|&tenant| flows(&stack, tenant))).await;

    // Nobody was there to see it.
    stack.stop_rabbitmq().await;
    for member in [stack.daemon(), stack.control_plane()] {
        member.terminate().await;
    }
    stack.start_rabbitmq_wiped().await;
    for member in [stack.control_plane(), stack.daemon()] {
        member.start_again().unwrap();
    }
    for member in [stack.control_plane(), stack.daemon()] {
        member.ready().await.unwrap();
    }
    join_all(tenants.iter().map(|&tenant| are_there(&stack, tenant))).await;
    join_all(tenants.iter().map(|&tenant| flows(&stack, tenant))).await;
}
