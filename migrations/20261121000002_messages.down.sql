drop table positions;
drop table messages;
