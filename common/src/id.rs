//! Ids, and the names made from them.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A tenant's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub Uuid);

impl TenantId {
    /// The durable queue that the tenant's messages arrive on.
    pub fn queue(self) -> String {
        format!("tenant_{self}_queue")
    }

    /// Whose queue has that name; `None` if it is no tenant's.
    pub fn of_queue(name: &str) -> Option<Self> {
        let id = name.strip_prefix("tenant_")?.strip_suffix("_queue")?;
        let tenant = id.parse().ok()?;
        (Self::queue(tenant) == name).then_some(tenant)
    }

    /// The exchange that the tenant's logins publish to. All that comes there goes to the tenant's queue.
    pub fn exchange(self) -> String {
        format!("tenant_{self}")
    }

    /// The durable queue of messages that failed for good.
    pub fn dead_letter_queue(self) -> String {
        format!("tenant_{self}_dlq")
    }

    /// The table that holds the tenant's messages, a partition of `messages`. Hex digits only: safe in SQL.
    pub fn partition(self) -> String {
        format!("messages_{}", self.0.simple())
    }

    /// The id of a message published with `message_id`: that UUID, or one derived from the tenant and the text.
    /// The same text under two tenants gives two ids.
    pub fn message_id(self, message_id: &str) -> Uuid {
        Uuid::try_parse(message_id).unwrap_or_else(|_| Uuid::new_v5(&self.0, message_id.as_bytes()))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for TenantId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl From<Uuid> for TenantId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001));

    #[test]
    fn names_are_those_of_the_contract() {
        assert_eq!(
            TENANT.queue(),
            "tenant_01910000-0000-7000-8000-000000000001_queue"
        );
        assert_eq!(TENANT.exchange(), "tenant_01910000-0000-7000-8000-000000000001");
        assert_eq!(
            TENANT.dead_letter_queue(),
            "tenant_01910000-0000-7000-8000-000000000001_dlq"
        );
        assert_eq!(TENANT.partition(), "messages_01910000000070008000000000000001");
    }

    #[test]
    fn a_queue_says_whose_it_is() {
        assert_eq!(TenantId::of_queue(&TENANT.queue()), Some(TENANT));
        for name in [TENANT.dead_letter_queue().as_str(), "tenant_x_queue", ""] {
            assert_eq!(TenantId::of_queue(name), None, "{name}");
        }
    }

    #[test]
    fn a_uuid_stays_the_id_however_it_is_written() {
        let id = Uuid::from_u128(7);
        assert_eq!(TENANT.message_id(&id.to_string()), id);
        assert_eq!(TENANT.message_id(&id.simple().to_string()), id);
    }

    #[test]
    fn another_text_gives_an_id_of_its_own_per_tenant() {
        let other = TenantId(Uuid::from_u128(2));
        assert_eq!(TENANT.message_id("order-1"), TENANT.message_id("order-1"));
        assert_ne!(TENANT.message_id("order-1"), TENANT.message_id("order-2"));
        assert_ne!(TENANT.message_id("order-1"), other.message_id("order-1"));
    }
}
