// One read that fails: { url, key } -> { status, error }
import { client } from "./client.mjs";

const { url, key } = JSON.parse(process.argv[2]);
const { status, error } = await client(url, key).supabase.from("users").select();
console.log(JSON.stringify({ status, error }));
process.exit(0);
