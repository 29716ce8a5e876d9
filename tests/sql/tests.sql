-- The database that most tests share. Tests that write use rows of their own.

-- Everybody's.
create table users (
  id bigint primary key,
  email text unique,
  name text not null default '',
  updated_at timestamptz not null default now()
);
create table posts (
  id bigint primary key,
  author_id bigint references users (id),
  title text not null default ''
);
create table comments (
  id bigint primary key,
  post_id bigint references posts (id),
  parent_id bigint references comments (id),
  body text not null default ''
);
create table teams (id bigint primary key, name text not null);
create table members (
  team_id bigint references teams (id) on delete cascade,
  user_id bigint references users (id) on delete cascade,
  role text not null default 'member',
  primary key (team_id, user_id)
);
create table words (key text primary key, value int not null default 0);
create table things (id uuid primary key, name text not null default '');
create view user_names as select id, name from users;

create function latest_post(users) returns setof posts rows 1 language sql stable as $$
  select * from posts where author_id = $1.id order by id desc limit 1
$$;
create function name_of(wanted bigint) returns text language sql stable as $$
  select name from users where id = wanted
$$;
create function rename(wanted bigint, new_name text) returns void language sql volatile as $$
  update users set name = new_name where id = wanted
$$;
-- What the request said: nothing that isn't in the key may reach it.
create function request_header(wanted text) returns text language sql stable as $$
  select current_setting('request.headers', true)::json ->> lower(wanted)
$$;

insert into users (id, email, name) select n, 'user' || n || '@example.com', 'user ' || n from generate_series(1, 50) n;
insert into posts select n, 1 + n % 50, 'post ' || n from generate_series(1, 100) n;
insert into teams values (1, 'red'), (2, 'blue');
insert into members select 1 + n % 2, n, 'member' from generate_series(1, 20) n;

-- One's own.
create table profiles (
  id uuid primary key,
  display_name text not null,
  secret text not null default 'secret'
);
alter table profiles enable row level security;
create policy own on profiles for all to authenticated using (id = auth.uid()) with check (id = auth.uid());
insert into profiles values
  ('a11ce000-0000-4000-8000-000000000001', 'Alice', 'of alice'),
  ('b0b00000-0000-4000-8000-000000000002', 'Bob', 'of bob');

-- By tenant, as claims of app_metadata have it.
create table invoices (id bigint primary key, tenant text not null, total int not null);
alter table invoices enable row level security;
create policy tenant on invoices for select to authenticated
  using (tenant = auth.jwt() -> 'app_metadata' ->> 'tenant_id');
insert into invoices values (1, 'acme', 10), (2, 'acme', 20), (3, 'globex', 30);

-- By role.
create table notices (id bigint primary key, audience text not null);
alter table notices enable row level security;
create policy audience on notices for select using (audience = auth.jwt() ->> 'role' or audience = 'everybody');
insert into notices values (1, 'everybody'), (2, 'authenticated'), (3, 'anon');

create schema other;
grant usage on schema other to anon, authenticated, service_role;
create table other.users (id bigint primary key, name text);
insert into other.users values (1, 'another one');
grant all on all tables in schema other to anon, authenticated, service_role;

\ir deferred.sql
