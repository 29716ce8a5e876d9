// An application's day: { url, key, alice, bob, id } -> what each step gave and what Sluice said.
import { client } from "./client.mjs";

const { url, key, alice, bob, id } = JSON.parse(process.argv[2]);
const steps = [];
const as = { alice: client(url, key, alice), bob: client(url, key, bob), anon: client(url, key) };

async function step(name, who, build) {
  const { data, error, count, status } = await build(as[who].supabase);
  steps.push({ name, data, error: error && { code: error.code, message: error.message }, count, status, cacheStatus: as[who].last() });
}

// An opaque key is good for hits once upstream has taken it.
for (const who of ["alice", "bob", "anon"]) await step("first contact", who, (supabase) => supabase.from("teams").select());

const profiles = (supabase) => supabase.from("profiles").select("display_name");
await step("alice reads", "alice", profiles);
await step("alice reads again", "alice", profiles);
await step("bob reads", "bob", profiles);
await step("bob reads again", "bob", profiles);
await step("anon reads", "anon", profiles);

const user = (supabase) => supabase.from("users").select("id,name").eq("id", id).single();
await step("single, missing", "anon", user);
await step("insert", "anon", (supabase) => supabase.from("users").insert({ id, name: "inserted", email: `u${id}@js.org` }));
await step("single, inserted", "anon", user);
await step("single, cached", "anon", user);
await step("update", "anon", (supabase) => supabase.from("users").update({ name: "updated" }).eq("id", id).select());
await step("single, updated", "anon", user);
await step("upsert by email", "anon", (supabase) =>
  supabase.from("users").upsert({ id, name: "upserted", email: `u${id}@js.org` }, { onConflict: "email" }));
await step("single, upserted", "anon", user);
await step("rpc that writes", "anon", (supabase) => supabase.rpc("rename", { wanted: id, new_name: "renamed" }));
await step("single, renamed", "anon", user);
await step("delete", "anon", (supabase) => supabase.from("users").delete().eq("id", id));
await step("single, deleted", "anon", user);

const counted = (supabase) => supabase.from("users").select("*", { count: "exact" }).lte("id", 50).order("id").range(0, 4);
await step("count", "anon", counted);
await step("count, cached", "anon", counted);
const headCount = (supabase) => supabase.from("users").select("*", { count: "exact", head: true }).lte("id", 50);
await step("head count", "anon", headCount);
await step("head count, cached", "anon", headCount);
const embedded = (supabase) => supabase.from("posts").select("title, author:users(name)").eq("id", 1).maybeSingle();
await step("embedding", "anon", embedded);
await step("embedding, cached", "anon", embedded);
const byFunction = (supabase) => supabase.rpc("name_of", { wanted: 1 }, { get: true });
await step("rpc by GET", "anon", byFunction);
await step("csv", "anon", (supabase) => supabase.from("teams").select().csv());
await step("other schema", "anon", (supabase) => supabase.schema("other").from("users").select());
await step("error", "anon", (supabase) => supabase.from("users").select("nothing"));

console.log(JSON.stringify(steps));
process.exit(0);
