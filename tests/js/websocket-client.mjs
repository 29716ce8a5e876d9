// Talks to a websocket server that echoes: { url } -> { host, echoed, closed }
import WebSocket from "ws";

const { url } = JSON.parse(process.argv[2]);
const messages = ["a", "b".repeat(100_000)];
const echoed = [];
let host;
const socket = new WebSocket(url);
socket.on("open", () => messages.forEach((message) => socket.send(message)));
socket.on("message", (bytes) => {
  const text = bytes.toString();
  if (text.startsWith("host ")) host = text.slice(5);
  else echoed.push(text);
  if (echoed.length === messages.length) socket.close(1000);
});
socket.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
socket.on("close", (closed) => console.log(JSON.stringify({ echoed, closed, host })));
