-- Two tables of rows that only their owner sees, one that Sluice caches, one that it doesn't; and three whose PATCHes
-- it defers.
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;

create schema auth;
create function auth.uid() returns uuid language sql stable as $$
  select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;
grant usage on schema auth, public to anon, authenticated, service_role;

create table items (
  id bigint primary key,
  owner uuid not null,
  title text not null,
  done boolean not null default false,
  updated_at timestamptz not null default '2026-02-01T00:00:00Z'
);
insert into items (id, owner, title)
  select n, 'a11ce000-0000-4000-8000-000000000001', 'buy oat milk, then call Bob' from generate_series(1, 1000) n;
create table orders (like items including all);
insert into orders select * from items;

alter table items enable row level security;
alter table orders enable row level security;
create policy own on items for select to authenticated using (owner = (select auth.uid()));
create policy own on orders for select to authenticated using (owner = (select auth.uid()));

-- Row n is that of user (n - 1) % 1000, who may change it. `held` can be changed only past the gateway; of `many` the
-- gateway makes up what rows there are.
create table notes (like items including all);
insert into notes (id, owner, title)
  select n, ('a11ce000-0000-4000-8000-' || lpad(((n - 1) % 1000)::text, 12, '0'))::uuid, 'buy oat milk, then call Bob'
  from generate_series(1, 200000) n;
create table held (like items including all);
insert into held select * from notes;
create table many (like items including all);
alter table notes enable row level security;
alter table held enable row level security;
create policy own on notes to authenticated using (owner = (select auth.uid()));
create policy own on held to authenticated using (owner = (select auth.uid()));
grant update on notes, held, many to authenticated;

grant select on all tables in schema public to anon, authenticated, service_role;
vacuum analyze;
