-- Every delay that was ever configured: its queue may hold what is to be tried again after it is configured no more.
create table retry_delays (
    ms bigint primary key check (ms > 0)
);
