drop table problems;
