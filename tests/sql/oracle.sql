-- The database of the transparency test. Statistics are taken once, at the end:
-- planned counts must not depend on when autovacuum passes.
create table users (
  id bigint primary key,
  email text unique,
  name text not null default '',
  score int,
  manager_id bigint references users (id)
);
create table posts (
  id bigint primary key,
  author_id bigint references users (id) on delete cascade,
  reviewer_id bigint references users (id) on delete set null,
  title text not null default '',
  stars int
);
create table comments (
  id bigint primary key,
  post_id bigint references posts (id) on delete cascade,
  parent_id bigint references comments (id) on delete cascade,
  body text not null default ''
);
create table teams (id int primary key, name text not null default '');
create table members (
  team_id int references teams (id) on delete cascade on update cascade,
  user_id bigint references users (id) on delete cascade,
  role text not null default 'member',
  primary key (team_id, user_id)
);
create table words (key text primary key, value int not null default 0);
create table things (id uuid primary key, name text not null default '');
create table notes (
  id bigint primary key,
  owner uuid not null,
  body text not null default ''
);
alter table notes enable row level security;
create policy own on notes for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

create view user_names as select id, name from users;
create view post_authors as select p.id, p.title, u.name as author from posts p join users u on u.id = p.author_id;

create function latest_post(users) returns setof posts rows 1 language sql stable as $$
  select * from posts where author_id = $1.id order by id desc limit 1
$$;
create function shout(users) returns text language sql stable as $$
  select upper($1.name)
$$;
create function users_above(bottom int) returns setof users language sql stable as $$
  select * from users where score > bottom
$$;
create function count_posts() returns bigint language sql stable as $$
  select count(*) from posts
$$;
create function add_score(wanted bigint, points int) returns void language sql volatile as $$
  update users set score = coalesce(score, 0) + points where id = wanted
$$;

insert into users select n, 'u' || n || '@x.org', 'user ' || n, n * 7 % 20, case when n > 3 then n % 3 + 1 end
  from generate_series(1, 12) n;
insert into posts select n, 1 + n % 12, case when n % 3 = 0 then 1 + n % 5 end, 'post ' || n, n % 6
  from generate_series(1, 24) n;
insert into comments select n, 1 + n % 24, case when n > 6 then n % 6 + 1 end, 'comment ' || n from generate_series(1, 30) n;
insert into teams select n, 'team ' || n from generate_series(1, 4) n;
insert into members select 1 + n % 4, n, 'member' from generate_series(1, 12) n;
insert into words values ('a', 1), ('b', 2), ('a b', 3), ('a+b', 4), ('A', 5), ('05', 6), ('5', 7), ('ä/ö', 8), ('x,y', 9), ('%41', 10);
insert into things select ('abcdefab-0000-4000-8000-00000000000' || n)::uuid, 'thing ' || n from generate_series(0, 9) n;
insert into notes select n, case n % 2 when 0 then 'a11ce000-0000-4000-8000-000000000001'::uuid
  else 'b0b00000-0000-4000-8000-000000000002'::uuid end, 'note ' || n from generate_series(1, 10) n;
analyze;
