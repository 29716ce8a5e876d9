-- The database of the crash test: every version of every row is noted in the order of the commits.
create sequence versions;
create table versions_log (
  number bigint primary key default nextval('versions'),
  tab text not null,
  row_id bigint not null,
  op text not null,
  via text not null,
  sub text not null,
  a text,
  b text,
  -- Microseconds since 1970.
  updated_at bigint not null,
  at bigint not null
);
create function micros(moment timestamptz) returns bigint language sql immutable as $$
  select (extract(epoch from moment) * 1000000)::bigint
$$;

-- Who sends the statement: Sluice's replay, a client, or somebody past Sluice.
create function via() returns text language sql stable as $$
  select case
    when current_setting('request.headers', true)::json ->> 'user-agent' like 'sluice/%' then 'replay'
    when auth.jwt() ->> 'role' = 'service_role' then 'direct'
    else 'forwarded'
  end
$$;

-- A replay says when its write was made; all others are made now, and later than what they replace.
create function stamp() returns trigger language plpgsql as $$
begin
  if via() <> 'replay' then
    new.updated_at := clock_timestamp();
    if tg_op = 'UPDATE' then
      new.updated_at := greatest(new.updated_at, old.updated_at + interval '1 microsecond');
    end if;
  end if;
  return new;
end
$$;

-- After the row is locked or made, so that the numbers of its versions are in their order.
create function note_version() returns trigger language plpgsql as $$
declare
  moment timestamptz := clock_timestamp();
  writer text := coalesce(auth.jwt() ->> 'sub', '');
begin
  if tg_op = 'DELETE' then
    insert into versions_log (tab, row_id, op, via, sub, updated_at, at) values (
      tg_table_name, old.id, tg_op, via(), writer,
      micros(greatest(moment, old.updated_at + interval '1 microsecond')), micros(moment)
    );
  else
    insert into versions_log (tab, row_id, op, via, sub, a, b, updated_at, at) values (
      tg_table_name, new.id, tg_op, via(), writer, new.a, new.b, micros(new.updated_at), micros(moment)
    );
  end if;
  return null;
end
$$;

-- One's own.
create table own (
  id bigint primary key,
  owner uuid not null,
  a text not null,
  b text not null,
  rank int not null default 0 check (rank >= 0),
  updated_at timestamptz not null default now()
);
alter table own enable row level security;
create policy own on own for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

-- Everybody's.
create table shared (
  id bigint primary key,
  a text not null,
  b text not null,
  rank int not null default 0 check (rank >= 0),
  updated_at timestamptz not null default now()
);

create trigger stamp before insert or update on own for each row execute function stamp();
create trigger stamp before insert or update on shared for each row execute function stamp();
create trigger note after insert or update or delete on own for each row execute function note_version();
create trigger note after insert or update or delete on shared for each row execute function note_version();

insert into own select n, ('c4a54000-0000-4000-8000-' || lpad((n % 50)::text, 12, '0'))::uuid, '0', '0' from generate_series(0, 249) n;
insert into shared select n, '0', '0' from generate_series(0, 249) n;
