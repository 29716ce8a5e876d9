// An application whose writes are deferred: { url, key, token, ids } -> what each call gave, and Sluice-Write.
import { createClient } from "@supabase/supabase-js";
import ws from "ws";

const { url, key, token, ids } = JSON.parse(process.argv[2]);
let said;
const supabase = createClient(url, key, {
  auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  realtime: { transport: ws },
  accessToken: async () => token,
  global: {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      said = { write: response.headers.get("sluice-write"), location: response.headers.get("location") };
      return response;
    },
  },
});
const cards = () => supabase.from("cards");
const whole = (id, title) => ({
  id, deck: 1, owner: null, title, body: null, rank: 0, slug: null, updated_at: new Date().toISOString(),
});
const steps = {};

async function step(name, call) {
  said = undefined;
  const { data, error, status } = await call;
  steps[name] = { data, error: error && { code: error.code, message: error.message }, status, ...said };
}

await step("update", cards().update({ title: "updated" }).eq("id", ids[0]));
await step("read own", cards().select("title").eq("id", ids[0]).single());
await step("update, select", cards().update({ title: "selected" }).eq("id", ids[0]).select());
await step("update, single", cards().update({ title: "single" }).eq("id", ids[0]).select("id,title").single());
await step("update, maybeSingle", cards().update({ title: "maybe" }).eq("id", ids[0]).select("title").maybeSingle());
await step("insert", cards().insert({ id: ids[1], title: "inserted" }));
await step("insert, single", cards().insert(whole(ids[2], "inserted")).select().single());
await step("upsert", cards().upsert({ id: ids[3], title: "upserted" }));
await step("upsert, single", cards().upsert(whole(ids[4], "upserted"), { onConflict: "id" }).select().single());
await step("insert of several", cards().insert([{ id: ids[5], title: "a" }, { id: ids[6], title: "b" }]).select("title"));
await step("update of several", cards().update({ title: "changed" }).in("id", [ids[5], ids[6]]).select("id"));
await step("missing row", cards().update({ title: "x" }).eq("id", ids[7]).select().maybeSingle());
await step("unknown column", cards().update({ nothing: 1 }).eq("id", ids[0]));
await step("other schema", supabase.schema("other").from("cards").update({ title: "updated" }).eq("id", ids[0]).select().single());
await step("delete", cards().delete().eq("id", ids[0]));
await step("read deleted", cards().select("title").eq("id", ids[0]).maybeSingle());

console.log(JSON.stringify(steps));
process.exit(0);
