drop table assignments;
drop table daemons;
drop table fleet;
