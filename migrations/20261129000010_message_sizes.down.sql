drop table message_sizes;
