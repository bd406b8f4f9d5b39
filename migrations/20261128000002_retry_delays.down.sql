drop table retry_delays;
