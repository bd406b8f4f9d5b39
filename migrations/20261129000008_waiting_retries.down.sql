drop table waiting_retries;
