-- Tables whose writes are deferred, each awkward in one way. Tests use rows of their own.

-- Shows whether writes are deferred yet.
create table probes (id bigint primary key, name text not null default '', updated_at timestamptz not null default now());

-- The plain one.
create table cards (
  id bigint primary key,
  deck bigint not null default 0,
  owner uuid,
  title text not null default '',
  body text,
  rank int not null default 0 check (rank >= 0),
  slug text unique,
  updated_at timestamptz not null default now()
);
create function title_of_card(wanted bigint) returns text language sql stable as $$
  select title from cards where id = wanted
$$;
create function rename_card(wanted bigint, new_title text) returns void language sql volatile as $$
  update cards set title = new_title where id = wanted
$$;

-- A trigger sets the time of each update.
create table stamped (id bigint primary key, name text not null default '', updated_at timestamptz not null default now());
create function stamp() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end
$$;
create trigger stamp before update on stamped for each row execute function stamp();

-- The time may be missing.
create table drafts (id bigint primary key, name text not null default '', updated_at timestamptz);

-- The time has no zone.
create table local_times (id bigint primary key, name text not null default '', updated_at timestamp not null default now());

-- The key has two columns.
create table seats (
  hall text,
  number int,
  guest text not null default '',
  updated_at timestamptz not null default now(),
  primary key (hall, number)
);

-- The key is text.
create table labels (name text primary key, colour text not null default '', updated_at timestamptz not null default now());

-- One refers to the other.
create table authors (id bigint primary key, name text not null default '', updated_at timestamptz not null default now());
create table books (
  id bigint primary key,
  author_id bigint references authors (id),
  title text not null default '',
  updated_at timestamptz not null default now()
);

-- One's own.
create table diaries (
  id bigint primary key,
  owner uuid not null,
  entry text not null default '',
  updated_at timestamptz not null default now()
);
alter table diaries enable row level security;
create policy own on diaries for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

-- Only the name may be changed.
create table badges (
  id bigint primary key,
  name text not null default '',
  grade int not null default 0,
  updated_at timestamptz not null default now()
);
revoke all on badges from anon, authenticated;
grant select, insert on badges to authenticated;
grant update (name) on badges to authenticated;

-- May be sent, not read.
create table letters (id bigint primary key, text text not null default '', updated_at timestamptz not null default now());
revoke all on letters from anon, authenticated;
grant insert on letters to authenticated;

-- Every type that is printed otherwise than it was sent.
create type mood as enum ('calm', 'keen', 'odd one');
create table gadgets (
  id uuid primary key,
  name varchar(12) not null default '',
  mood mood,
  spec jsonb,
  raw json,
  tags text[],
  counts int[],
  price numeric,
  fixed numeric(10, 2),
  weight double precision,
  ratio real,
  big bigint,
  small smallint,
  made date,
  seen timestamp,
  active boolean,
  updated_at timestamptz not null default now()
);

-- Of the same name, in another schema.
create table other.cards (id bigint primary key, title text not null default '', updated_at timestamptz not null default now());
grant all on other.cards to anon, authenticated, service_role;
