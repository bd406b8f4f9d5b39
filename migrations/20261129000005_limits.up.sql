-- What a tenant may use; null: as much as it likes.
alter table tenants
    add column publish_per_second integer check (publish_per_second > 0),
    add column store_per_second   integer check (store_per_second > 0),
    add column backlog_messages   integer check (backlog_messages > 0),
    add column backlog_bytes      bigint check (backlog_bytes > 0);
