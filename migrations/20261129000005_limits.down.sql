alter table tenants
    drop column publish_per_second,
    drop column store_per_second,
    drop column backlog_messages,
    drop column backlog_bytes;
