alter table fleet drop column history, drop column positions_from;
drop function jalur_history(regclass);
alter table daemons drop column stream;
