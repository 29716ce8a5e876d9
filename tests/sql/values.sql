-- One column of each type whose values Sluice can vouch for, and of some that it can't.
create type mood as enum ('sad', 'it''s "ok"');
create domain short as varchar(5);
create table samples (
  id int primary key,
  a_uuid uuid,
  a_smallint smallint,
  an_integer int,
  a_bigint bigint,
  a_real real,
  a_double double precision,
  a_boolean boolean,
  a_text text,
  a_varchar varchar(5),
  a_short short,
  a_timestamptz timestamptz,
  a_timestamp timestamp,
  a_date date,
  a_json json,
  a_jsonb jsonb,
  a_mood mood,
  texts text[],
  integers int[],
  doubles double precision[],
  moments timestamptz[],
  a_numeric numeric(10,2),
  a_char char(3),
  moods mood[],
  varchars varchar(5)[]
);
insert into samples (id) values (1);
