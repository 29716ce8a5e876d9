-- Tables whose rights, triggers, policies and names a replay must cope with.

create function set_updated_at() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end $$;

create table plain (
  id bigint primary key,
  name text not null default '' check (name <> 'forbidden'),
  n int not null default 0 check (n < 100),
  email text unique,
  price numeric,
  doc jsonb,
  seen_at timestamptz,
  updated_at timestamptz not null default now()
);

-- As Supabase's guides make them: `moddatetime`, and a default.
create table stamped (
  id bigint primary key,
  name text not null default '',
  n int not null default 0,
  updated_at timestamptz not null default now()
);
create trigger stamp before insert or update on stamped for each row execute function set_updated_at();

create table unstamped (id bigint primary key, name text, updated_at timestamptz);

create table pairs (
  a text,
  b int,
  name text not null default '',
  updated_at timestamptz not null default now(),
  primary key (a, b)
);

create table "odd table, (really)" (
  "the ""id\" text primary key,
  "a.b" text,
  "order" text,
  "select" int,
  "changed at" timestamp not null default now()
);
create table "order" (id text primary key, "and" text, updated_at timestamptz);

create schema other;
grant usage on schema other to anon, authenticated, service_role;
create table other.things (id uuid primary key, name text, updated_at timestamptz not null default now());
grant all on other.things to authenticated, service_role;

-- One's own rows alone.
create table own (
  id bigint primary key,
  owner uuid not null,
  name text not null default '',
  updated_at timestamptz not null default now()
);
alter table own enable row level security;
create policy own on own for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

-- Everybody may read, nobody may change.
create table shown (id bigint primary key, name text, updated_at timestamptz not null default now());
alter table shown enable row level security;
create policy readable on shown for select to authenticated using (true);

-- Everybody may write, nobody may read.
create table inbox (id bigint primary key, name text, updated_at timestamptz not null default now());
revoke all on inbox from anon, authenticated;
grant insert on inbox to authenticated;

-- The time is nobody's but the database's.
create table named (id bigint primary key, name text, n int, updated_at timestamptz default now());
revoke all on named from anon, authenticated;
grant select on named to authenticated;
grant insert (id, name), update (name) on named to authenticated;

-- Not even to be read.
create table columns (id bigint primary key, name text, secret text, updated_at timestamptz default now());
revoke all on columns from anon, authenticated;
grant select (id, name), insert (id, name), update (name) on columns to authenticated;

create table parents (id bigint primary key, updated_at timestamptz not null default now());
create table children (
  id bigint primary key,
  parent_id bigint not null references parents (id),
  updated_at timestamptz not null default now()
);

-- Fails as it is told.
create table failing (id bigint primary key, name text, updated_at timestamptz not null default now());
create function fail() returns trigger language plpgsql as $$
begin
  if new.name = 'nothing' then
    return null;
  end if;
  raise exception 'as told' using errcode = new.name;
end $$;
create trigger fail before update on failing for each row execute function fail();

-- What is deleted is not shown any more.
create table softly (
  id bigint primary key,
  deleted boolean not null default false,
  updated_at timestamptz not null default now()
);
alter table softly enable row level security;
create policy readable on softly for select to authenticated using (not deleted);
create policy changeable on softly for update to authenticated using (true) with check (true);
