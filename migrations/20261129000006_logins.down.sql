drop index credentials_logins;
alter table credentials drop column login;
