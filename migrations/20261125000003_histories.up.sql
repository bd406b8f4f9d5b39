-- Which of a daemon's streams is the one that counts: the end of an older one says nothing of it.
alter table daemons add column stream uuid not null default gen_random_uuid();

-- Which copy of the data this is, as far as PostgreSQL can tell: cluster, database, timeline, and the table's own
-- number, which a restored dump does not keep. NULL where nothing can be written, and so nothing has to be known.
create function jalur_history(of regclass) returns text
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    cluster text := '?';
    timeline text := '?';
begin
    if pg_is_in_recovery() then
        return null;
    end if;
    -- Some who run PostgreSQL for others keep these to themselves.
    begin
        select system_identifier::text into cluster from pg_control_system();
    exception when insufficient_privilege or feature_not_supported or undefined_function then
        null;
    end;
    begin
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception when insufficient_privilege or feature_not_supported or undefined_function then
        null;
    end;
    return concat_ws('/', cluster, (select oid from pg_database where datname = current_database()), timeline, of::oid);
end
$$;

-- `history`: the copy that revisions and positions belong to. Another one was restored from a backup, and begins
-- beyond whatever may have been given out since that was made.
alter table fleet
    add column history text,
    -- Where the positions of a new tenant begin.
    add column positions_from bigint not null default 0;
