-- How far a credential's user at RabbitMQ is, if there is one or may be. It is removed twice, the second time a minute
-- after the first: what was under way to the broker then is over.
alter table credentials add column login text check (login in ('making', 'made', 'closing'));
-- Logins that are to go, or may have been left half made. Few rows.
create index credentials_logins on credentials (created_at)
    where login = 'making' or login is not null and revoked_at is not null;
