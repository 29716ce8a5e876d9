// supabase-js as an application makes it, with what Sluice says about each answer kept in `seen`.
import { createClient } from "@supabase/supabase-js";
import ws from "ws";

export function client(url, key, token) {
  const seen = [];
  const recordingFetch = async (input, init) => {
    const response = await fetch(input, init);
    seen.push({ method: init?.method ?? "GET", status: response.status, cacheStatus: response.headers.get("cache-status") });
    return response;
  };
  const supabase = createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    realtime: { transport: ws },
    global: { fetch: recordingFetch },
    ...(token ? { accessToken: async () => token } : {}),
  });
  return { supabase, seen, last: () => seen.at(-1)?.cacheStatus };
}
